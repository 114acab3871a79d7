"""On a terminal, a check that shows nothing for some seconds is named; in a pipe, nothing is added."""

import re
import subprocess
import sys

import pytest

from pytest_aeclaims.status_line import first_run_note
from tests.terminals import shown_on_a_terminal

CONFTEST = "from pytest_aeclaims import status_line\n\nstatus_line.SILENT_FOR, status_line.INTERVAL = 0.5, 0.2\n"
CHECKS = """
import time
from aeclaims import conformance

@conformance("sleepy", statement="it sleeps", source="here")
def test_sleep(judge):
    time.sleep(1.5)
    judge.all_within([1.0], at_least=0, seeds=[0], what="one", reason="so")

@conformance("awake", statement="it does not", source="here")
def test_awake(judge):
    judge.all_within([1.0], at_least=0, seeds=[0], what="one", reason="so")
"""


@pytest.fixture
def command(pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_checks=CHECKS)
    return [sys.executable, "-m", "pytest", str(pytester.path), "-m", "conformance", "--claims-backend", "numba"]


def test_a_terminal_names_the_silent_check_and_clears_the_line(command):
    shown = shown_on_a_terminal(command, TERM="xterm", COLUMNS="100").decode()
    assert len(re.findall(r"sleepy: \d+ s", shown)) >= 3
    assert not re.findall(r"awake: \d+ s", shown)
    last = shown.rindex("sleepy: ")
    assert "\x1b7\r\r\n\x1b[K\x1b8" in shown[last:]
    assert "test_checks.py" in shown[: shown.index("sleepy: ")]


def test_a_pipe_stays_as_it_was(command):
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "sleepy: " not in done.stdout + done.stderr
    assert "\x1b7" not in done.stdout


@pytest.mark.parametrize(("backend", "variable"), [("torch", "TORCHINDUCTOR_CACHE_DIR"), ("numba", "NUMBA_CACHE_DIR")])
def test_a_first_run_says_what_it_compiles(backend, variable, tmp_path, monkeypatch):
    monkeypatch.setenv(variable, str(tmp_path / "cache"))
    assert f"first run: {backend} compiles" in first_run_note(backend)
    assert str(tmp_path / "cache") in first_run_note(backend)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "loops.nbi").touch()
    assert first_run_note(backend) == ""
    assert first_run_note("torch-loop") == ""
