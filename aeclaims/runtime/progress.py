"""Progress bar for long trainings. It shows on a terminal only, never in logs, pipes or background trainings."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from aeclaims.run import Double

# If it is set, the training runs in the background. It shows no bar, and stops when the event is set.
stopping: ContextVar[threading.Event | None] = ContextVar("stopping", default=None)
# If it is set, it draws the losses so far, shape (E, S), above the bar.
drawing: ContextVar[Callable[["Double"], str] | None] = ContextVar("drawing", default=None)

# Set while a bar is on the screen.
is_bar_shown = threading.Event()
# Moves of the cursor of a terminal. BELOW makes room for a line, keeps the place, and clears that line; BACK returns.
BELOW, BACK = "\x1bD\x1b[A\x1b7\r\n\x1b[K", "\x1b8"


class Stopped(Exception):
    """A background training was stopped."""


@contextmanager
def progress(
    label: str, total: int, unit: str = "epochs", losses: "Double | None" = None
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar, and yield a function that advances it.

    Args:
        label: Text before the bar.
        total: Number of units.
        unit: Name of a unit.
        losses: Shape (E, S). The training fills it in; future epochs are NaN.
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

    # pytest may have written the name of a file in this line: a bar of one line goes below it, and then away.
    is_below = draw is None
    if is_below:
        print(BELOW, end="", file=sys.stderr, flush=True)
    is_bar_shown.set()
    try:
        # A separate thread draws ten times a second, so the training does not wait for its picture.
        with Live(get_renderable=picture, console=Console(stderr=True), refresh_per_second=10, transient=True):
            yield lambda more: bar.advance(task, more)
    finally:
        is_bar_shown.clear()
        if is_below:
            print(BACK, end="", file=sys.stderr, flush=True)
