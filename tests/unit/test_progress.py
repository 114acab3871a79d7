"""Long trainings show progress on a terminal, and nothing anywhere else."""

import subprocess
import sys

from tests.terminals import shown_on_a_terminal

SCRIPT = """
from aeclaims import *
train(Experiment(rows=Uniform(features=2), model=affine(2, 2, 2), loss="mse", optimizer=Adam(), epochs=400), seeds=range(4),
      backend="reference")
"""


def test_a_pipe_stays_silent():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_terminal_shows_the_epochs():
    shown = shown_on_a_terminal([sys.executable, "-c", SCRIPT], TERM="xterm", COLUMNS="100")
    assert b"training on reference" in shown
    assert b"400" in shown
