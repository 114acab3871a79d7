"""A progress bar for long trainings: on a terminal only, silent in logs, pipes and behind other work."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from aeclaims.run import Double

# Where it is set, a training runs behind other work: it shows no bar, and ends once the event happens.
stopping: ContextVar[threading.Event | None] = ContextVar("stopping", default=None)
# Where it is set, it makes a picture of the losses so far, (E, S), which stands above the bar.
drawing: ContextVar[Callable[["Double"], str] | None] = ContextVar("drawing", default=None)


class Stopped(Exception):
    """A training behind other work was told to end."""


@contextmanager
def progress(
    label: str, total: int, unit: str = "epochs", losses: "Double | None" = None
) -> Iterator[Callable[[int], None]]:
    """Yields a function that is told how many more are done.

    losses: (E, S), which the training fills in as it goes; NaN is what it has not come to.
    """
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
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    bar = Progress(
        TextColumn("training on {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
    )
    task, draw = bar.add_task(label, total=total), drawing.get()

    def picture() -> "RenderableType":
        return bar if draw is None or losses is None else Group(Text(draw(losses), no_wrap=True, overflow="crop"), bar)

    # Drawn by a thread of its own, ten times a second: a training does not wait for its picture.
    with Live(get_renderable=picture, console=Console(stderr=True), refresh_per_second=10, transient=True):
        yield lambda more: bar.advance(task, more)
