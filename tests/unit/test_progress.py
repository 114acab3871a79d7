"""Long trainings show progress on a terminal, and nothing anywhere else."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
from aeclaims import *
train(Experiment(rows=Uniform(features=2), model=affine(2, 2, 2), loss="mse", optimizer=Adam(), epochs=400), seeds=range(4),
      backend="reference")
"""


def test_a_pipe_stays_silent():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_terminal_shows_the_epochs():
    pty = pytest.importorskip("pty", reason="no terminals to open here")
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=theirs, stderr=theirs,
                               env={**os.environ, "TERM": "xterm", "COLUMNS": "100"})
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # how Linux says that the other side has closed
            break
        if not part:
            break
        shown += part
    assert process.wait() == 0
    assert b"training on reference" in shown
    assert b"400" in shown
