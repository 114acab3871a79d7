"""`aeclaims explain` from outside: its pictures, and its errors of one line."""

import math

import numpy as np
import pytest
from typer.testing import CliRunner

from aeclaims import InvalidExperiment, explain
from aeclaims.cli import app
from aeclaims.errors import InvalidRows
from aeclaims.report.anatomy import bar
from aeclaims.report.braille import curve

UNIT = np.random.default_rng(8).random((2000, 20))


def test_training_shows_its_path(tmp_path):
    np.save(tmp_path / "a.npy", UNIT)
    options = ["--loss", "mse", "--hidden", "10,5,10", "--activation", "tanh", "--train", "--epochs", "5"]
    result = CliRunner().invoke(app, ["explain", str(tmp_path / "a.npy"), *options])
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "trained here 0." in said
    assert "20-10-5-10-20 tanh, Adam 0.001, 5 epochs" in said
    assert "through 5 of 20" in said
    assert "epoch 5" in said


WRONG = [
    (["--loss", "hinge"], "loss = 'hinge': give one of mse, bce"),
    (["--loss", "bce", "--bottleneck", "0"], "bottleneck = 0: give a whole"),
    (["--loss", "bce", "--observed", "nan"], "observed = nan"),
    (["--loss", "bce", "--activation", "gelu"], "activation = 'gelu'"),
    (["--loss", "bce", "--output", "gelu"], "output = 'gelu'"),
    (["--loss", "mse", "--output", "softmax"], "output = 'softmax'"),
    (["--loss", "mse", "--smoothing", "0.1"], "smoothing = 0.1: mse has no classes"),
    (["--loss", "cross_entropy", "--smoothing", "2"], "smoothing = 2.0"),
    (["--loss", "mse", "--dtype", "int8"], "dtype = 'int8'"),
    (["--loss", "cross_entropy", "--bottleneck", "3"], "bottleneck = 3"),
    (["--loss", "mse", "--hidden", "a,b"], "hidden = 'a,b'"),
    (["--loss", "cross_entropy"], "row 0 is not a distribution"),
    (["--loss", "cross_entropy", "--train"], "do not train"),
    (["--loss", "mse", "--train", "--epochs", "0"], "epochs = 0"),
    (["--loss", "mse", "--batch-size", "0"], "batch_size = 0"),
    (["--loss", "mse", "--hidden", "3,-3"], "bottleneck = -3"),
    (["--loss", "bce_logits", "--output", "sigmoid", "--train"], "applies the"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[" ".join(options) for options, _ in WRONG])
def test_a_wrong_option_is_one_line_and_exit_code_2(options, message, tmp_path):
    np.save(tmp_path / "a.npy", UNIT)
    result = CliRunner().invoke(app, ["explain", str(tmp_path / "a.npy"), *options])
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.5, 1], "0.5 is not a label"),
        ([-1, 1], "-1 is not a label"),
        ([1, 7], "label 7 is too large for 3 classes"),
        ([1, math.nan], "nan is not a label"),
    ],
)
def test_labels_that_are_none_are_refused(labels, message):
    with pytest.raises(InvalidRows, match=message):
        explain(labels, loss="cross_entropy", n_classes=3)


@pytest.mark.parametrize("rows", [[[1, 2], [3]], "text", [[object()]], None, 5, [], [[1.0]]])
def test_rows_that_are_none_are_refused(rows):
    with pytest.raises(InvalidRows):
        explain(rows, loss="mse")


def test_questions_are_checked_in_python_too():
    with pytest.raises(InvalidExperiment, match="loss = 'x'"):
        explain(UNIT, loss="x")


def test_bars_and_curves_draw_what_they_are_told():
    assert bar(1, 1) == "█" * 18
    assert bar(0, 1) == ""
    assert bar(0.5, 1) == "█" * 9
    lines = curve([1, 10], [1.0, 0.01], floor=0.001).splitlines()
    assert lines[0].split()[0] == "1"
    assert lines[-2].split()[0] == "0.001"
    assert lines[-1].endswith("epoch 10")
    assert curve([1], [math.nan]) == "no finite loss above 0"
