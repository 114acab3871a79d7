"""Long trainings show progress on a terminal, and nothing anywhere else."""

import subprocess
import sys

import numpy as np
import pytest

from aeclaims.report.braille import live_curve
from tests.terminals import shown_on_a_terminal

SCRIPT = """
import sys
from aeclaims import *
from aeclaims.runtime.progress import drawing
from aeclaims.report.braille import live_curve
if sys.argv[2:]:
    drawing.set(live_curve)
run = train(Experiment(rows=Uniform(features=2), model=affine(2, 2, 2), loss="mse", optimizer=Adam(), n_rows=3_000, epochs=40),
            seeds=range(4), backend=sys.argv[1])
print("losses", run.epoch_loss.sum().hex())
"""
LEGEND = "minimum, median and maximum loss of the seeds"


def command(backend, *drawn):
    return [sys.executable, "-c", SCRIPT, backend, *drawn]


def test_a_pipe_stays_silent_also_where_a_picture_is_asked_for():
    done = subprocess.run(command("numba", "drawn"), capture_output=True, text=True, check=True)
    assert done.stdout.startswith("losses 0x")
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_a_terminal_shows_the_epochs():
    shown = shown_on_a_terminal(command("numba"), TERM="xterm", COLUMNS="100").decode()
    assert "training on numba" in shown
    assert "40/40" in shown
    assert LEGEND not in shown


@pytest.mark.parametrize("backend", ["numba", "torch", "torch-eager", "torch-loop"])
def test_a_picture_of_the_losses_so_far_stands_above_the_bar_and_changes_none(backend):
    silent = subprocess.run(command(backend), capture_output=True, text=True, check=True).stdout
    shown = shown_on_a_terminal(command(backend, "drawn"), TERM="xterm", COLUMNS="100").decode()
    assert "epoch 40" in shown
    assert shown.index(LEGEND) < shown.rindex(f"training on {backend}")
    assert silent.strip() in shown


def dots(picture):
    """The columns of the picture that have dots."""
    rows = [line[10:].ljust(64) for line in picture.splitlines()[:9]]
    return [any(row[column] not in " \u2800" for row in rows) for column in range(64)]


def test_the_picture_grows_to_the_right_of_epochs_that_are_known():
    losses = np.full((1000, 3), np.nan)
    assert live_curve(losses).startswith("no finite loss above 0")
    widths = []
    for known in (10, 100, 1000):
        losses[:known] = np.outer(1 / np.arange(1, known + 1), [1, 2, 3])
        widths.append(sum(dots(live_curve(losses))))
    np.testing.assert_allclose(widths, [64 / 3, 128 / 3, 64], atol=2)


def test_seeds_that_diverged_or_are_not_trained_yet_are_left_out_of_the_picture():
    losses = np.tile(np.geomspace(1, 1e-3, 50)[:, None], 4)
    losses[20:, 0], losses[:, 1], losses[30:, 2] = np.inf, np.nan, np.nan
    top, *_, bottom = live_curve(losses).splitlines()[:9]
    assert (top.split()[0], bottom.split()[0]) == ("1", "0.001")
    assert all(dots(live_curve(losses)))
    assert LEGEND not in live_curve(losses[:, :1])
