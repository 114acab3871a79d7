"""Status line on a terminal: names the claim or check that runs, if it shows nothing for five seconds."""

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

from aeclaims.runtime import progress

# Seconds without output, and between two writes after that.
SILENT_FOR, INTERVAL = 5.0, 1.0
WIDTH = 78


@contextmanager
def status_line(terminal: TextIO, text: str) -> Iterator[None]:
    """Show `text` and the seconds so far below the cursor, while the body runs and no progress bar is shown."""
    ended, written = threading.Event(), False

    def show() -> None:
        nonlocal written
        begun, pause = time.monotonic(), SILENT_FOR
        while not ended.wait(pause):
            pause = INTERVAL
            if not progress.is_bar_shown.is_set():
                line = f"{text[: WIDTH - 10]}: {time.monotonic() - begun:.0f} s"
                terminal.write(f"{progress.BELOW}{line}{progress.BACK}")
                terminal.flush()
                written = True

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if written:
            terminal.write(f"{progress.BELOW}{progress.BACK}")
            terminal.flush()


def first_run_note(backend: str) -> str:
    """Return a line on the compilation ahead, if a cache of compiled programs does not exist yet; else empty."""
    if backend == "numba":
        package = find_spec("aeclaims")
        own = Path(str(package.origin)).parent / "backends" / "numba" / "kernel" / "__pycache__" if package else Path()
        cache = Path(os.environ.get("NUMBA_CACHE_DIR", own))
        if any(cache.rglob("*.nbi")):
            return ""
        return f"first run: numba compiles its loops, some 20 s for all claims; {cache} keeps them"
    cache = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", Path(tempfile.gettempdir()) / f"torchinductor_{getuser()}"))
    if backend not in ("torch", "torch-compile") or (cache.is_dir() and any(cache.iterdir())):
        return ""
    return f"first run: torch compiles its programs, a second or more for each set-up; {cache} keeps them"
