"""A progress bar for long trainings: on a terminal only, silent in logs, pipes and behind other work."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# Where it is set, a training runs behind other work: it shows no bar, and ends once the event happens.
stopping: ContextVar[threading.Event | None] = ContextVar("stopping", default=None)


class Stopped(Exception):
    """A training behind other work was told to end."""


@contextmanager
def progress(label: str, total: int, unit: str = "epochs") -> Iterator[Callable[[int], None]]:
    """Yields a function that is told how many more are done."""
    stop = stopping.get()
    if stop is not None:
        def check(more: int) -> None:
            if stop.is_set():
                raise Stopped

        yield check
        return
    if not sys.stderr.isatty():
        yield lambda more: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("training on {task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
               TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda more: bar.advance(task, more)
