"""A progress bar for long trainings: on a terminal only, silent in logs and pipes."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(label: str, epochs: int) -> Iterator[Callable[[int], None]]:
    """Yields a function that is told how many more epochs are done."""
    if not sys.stderr.isatty():
        yield lambda epochs: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("training on {task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs"),
               TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=epochs)
        yield lambda more: bar.advance(task, more)
