"""`aeclaims list`, `aeclaims run` and the page of --claims-report, from outside."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from aeclaims import cli
from aeclaims.judging.registry import entries
from tests.terminals import shown_on_a_terminal
from tests.unit.test_page import Page

HELD = ("run", "entropy-floor-beta", "--seeds", "3")
# It trains for 200 epochs.
DRAWN = ("run", "sigmoid-bce-uniform-plateau", "--seeds", "2")


def command(*arguments, **settings):
    environment = {**os.environ, "COLUMNS": "120"}
    environment.pop("PYTEST_ADDOPTS", None)
    return subprocess.run(
        [sys.executable, "-m", "aeclaims", *arguments], capture_output=True, text=True, env=environment, **settings
    )


def test_list_shows_every_claim():
    done = command("list")
    assert done.returncode == 0
    assert done.stderr == ""
    for id, entry in entries().items():
        (line,) = [line for line in done.stdout.splitlines() if line.split()[:1] == [id]]
        assert entry.claim.kind in line
        assert entry.claim.finding in line
    assert "32 claims" in done.stdout


def test_run_judges_a_claim_wherever_one_stands(tmp_path):
    # The command ignores a broken configuration and a broken conftest.py of the folder.
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --nonsense\n")
    (tmp_path / "conftest.py").write_text("raise RuntimeError")
    done = command(*HELD, "--seed-base", "7", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seeds: 3, from 7" in done.stdout
    assert "1 held of 1 claims" in done.stdout
    assert "warning" not in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"pytest.ini", "conftest.py"}


def test_run_says_by_its_exit_code_that_a_claim_failed_or_could_not_fail(tmp_path):
    (tmp_path / "mine.py").write_text("def idle(start):\n    raise RuntimeError('no device')\n")
    failed = command(*HELD, "--backend", "mine:idle", cwd=tmp_path)
    assert failed.returncode == 1
    assert "no device" in failed.stdout
    one_seed = command("run", "sigmoid-bce-bernoulli", "--seeds", "1")
    assert one_seed.returncode == 1
    assert "could not fail" in one_seed.stdout


@pytest.mark.parametrize(("arguments", "message"), [
    (("run", "linear"), "no claim or check is called 'linear': linear-mse, nn.Linear"),
    (("run", "qqqq"), "aeclaims list shows the claims"), (("run", "stage 1: loop"), "pytest -m conformance --claims-bisect"),
    (("run",), "Missing argument"), (("nonsense",), "No such command"),
    ((*HELD[:2], "--seeds", "0"), "aeclaims: run: --seeds: '0': give a whole number of at least 1"),
    ((*HELD[:2], "--backend", "nope"), "aeclaims: run: --backend: backend 'nope': give one of"),
    ((*HELD, "--dtype", "half"), "'half': give one of float64"), ((*HELD, "--plot", "no/a.png"), "No such file or directory"),
    ((*HELD, "--device", "cuda"), "aeclaims: run: --device: device 'cuda': numba runs on the CPU only"),
    ((*HELD, "--alpha", "2"), "aeclaims: run: --alpha: '2.0': give a probability"),
    ((*HELD, "--optimizer", "mine:Own"), "aeclaims: run: --optimizer: mine:Own: backend 'numba' takes no torch optimizer"),
    ((*HELD, "--compile", "mode=wrong"), "aeclaims: run: --compile: "), ((*HELD, "--plot", "/proc/a.png"), "give a file in a folder"),
    ((*HELD, "--plot", "a.gif"), "ends in .png or .svg"),
])  # fmt: skip
def test_wrong_usage_is_said_and_has_exit_code_2(arguments, message):
    done = command(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr + done.stdout
    if done.stderr.startswith("aeclaims: "):
        assert done.stderr.count("\n") == 1


def test_run_judges_a_check_of_conformance_too(tmp_path):
    done = command("run", "path: SGD", "--seeds", "2", "--dtype", "float64", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 held of 1 checks" in done.stdout


@pytest.mark.parametrize("name", ["PYTEST_ADDOPTS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD"])
def test_no_setting_of_pytest_in_the_environment_takes_part(name):
    settings = {"PYTEST_ADDOPTS": "--collect-only", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "aeclaims", *HELD],
        capture_output=True,
        text=True,
        env=os.environ | {name: settings[name]},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 held of 1 claims" in done.stdout


def test_a_run_without_a_result_does_not_pass(monkeypatch, tmp_path):
    (tmp_path / "only.py").write_text("def pytest_configure(config):\n    config.option.collectonly = True\n")
    monkeypatch.setenv("PYTEST_PLUGINS", "only")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert command(*HELD).returncode == 1


def test_a_picture_that_cannot_be_drawn_is_one_line(monkeypatch, tmp_path, capsys):
    def full(result, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aeclaims.cli.replay.plot", full)
    with pytest.raises(typer.Exit):
        cli._draw({}, tmp_path / "a.png")
    assert (
        capsys.readouterr().err == f"aeclaims: run: --plot {tmp_path / 'a.png'}: [Errno 28] No space left on device\n"
    )


@pytest.mark.parametrize(("name", "begins"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml")])
def test_run_draws_the_curves(tmp_path, name, begins):
    pytest.importorskip("matplotlib", reason="the extra report is not installed")
    done = command(*DRAWN, "--plot", str(tmp_path / name))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_on_a_terminal_run_draws_the_first_training():
    shown = shown_on_a_terminal([sys.executable, "-m", "aeclaims", *DRAWN])
    assert "affine layers 2-2-2" in shown.decode()
    assert "epoch 200" in shown.decode()


# The second claim trains twice; for that, prefetching processes would start.
@pytest.mark.parametrize("id", ["sigmoid-bce-uniform-plateau", "other-loss-reaches-zero"])
def test_on_a_terminal_the_curve_is_seen_while_it_grows_and_a_log_has_none(id):
    shown = shown_on_a_terminal([sys.executable, "-m", "aeclaims", "run", id], TERM="xterm", COLUMNS="100").decode()
    while_it_trains, _, _ = shown.partition("= claims =")
    assert "training on numba" in while_it_trains
    assert "\u28c0" in while_it_trains  # a Braille character with dots
    assert "minimum, median and maximum loss of the seeds" in while_it_trains
    logged = command("run", id)
    assert "1 held of 1 claims" in shown
    assert "1 held of 1 claims" in logged.stdout
    assert not any(sign in logged.stdout + logged.stderr for sign in ("training on", "\x1b", "\u28c0"))


def test_importing_the_package_and_its_help_costs_neither_torch_nor_numpy():
    script = (
        "import sys, aeclaims; from typer.testing import CliRunner; from aeclaims.cli import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
        "print({'torch', 'numpy', 'scipy', 'numba', 'pytest', 'jinja2'} & set(sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "set()\n"
    )


# ----------------------------------------------------------------------------------- --claims-report


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_the_page_has_every_claim_with_the_curves_of_every_seed(claims, pytester, workers):
    result = claims("--claims-report=out.html", "--claims-seeds", "40", *workers)
    result.assert_outcomes(passed=1, failed=1)
    page = Page((pytester.path / "out.html").read_text())
    assert len(page.all("article")) == 2
    assert "✗ failed" in page.text
    assert "loss below -1" in page.text  # why it failed
    labels = [canvas["aria-label"] for canvas in page.all("canvas", class_="curves")]
    assert labels
    assert all(label.startswith("Losses of 40 of 40 seeds over 3 epochs") for label in labels)
    assert any(
        "over 40 seeds: last epoch above the bottleneck floor" in canvas["aria-label"] for canvas in page.all("canvas")
    )


def test_a_page_that_cannot_be_written_is_a_usage_error(claims):
    result = claims("--claims-report=no/such/out.html")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "cannot be written" in result.stderr.str()


def test_each_picture_of_the_docs_is_shown():
    docs = Path(__file__).parents[2] / "docs"
    text = "".join(page.read_text(encoding="utf-8") for page in (*docs.glob("*.md"), docs.parent / "README.md"))
    assert set(re.findall(r"pictures/([\w-]+\.(?:png|svg))", text)) == {
        path.name for path in (docs / "pictures").iterdir()
    }
