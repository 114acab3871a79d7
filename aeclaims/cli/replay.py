"""Judging one claim again from the command line: pytest runs it, with nothing of the folder that one stands in."""

import json
import os
import re
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

import aeclaims
from aeclaims.judging.registry import Entry
from aeclaims.report.braille import live_curve
from aeclaims.report.pictures import draw, has_picture
from aeclaims.runtime.progress import drawing

# What pytest's exit codes are for somebody who replays a claim: it held; it failed, or was not exercised; wrong usage.
CODES = {pytest.ExitCode.OK: 0, pytest.ExitCode.USAGE_ERROR: 2, pytest.ExitCode.INTERRUPTED: 130}


class WrongUsage(ValueError):
    """pytest refused an option; the message names the option of `aeclaims run`, the value and the way out."""

    def __init__(self, error: pytest.UsageError) -> None:
        # argparse has its usage and the name of pytest.main() before the message, and pytest's configuration behind it.
        text = re.sub(r".*error: argument ", "", str(error), flags=re.DOTALL).partition("\n")[0]
        super().__init__(text.replace("--claims-", "--"))


class _Refusals:
    """Raises pytest's usage errors as errors of our own: pytest would print them for somebody who calls pytest."""

    @pytest.hookimpl(wrapper=True)
    def pytest_cmdline_parse(self) -> Generator[None, object, object]:
        try:
            return (yield)
        except pytest.UsageError as error:
            raise WrongUsage(error) from None

    @pytest.hookimpl(wrapper=True)
    def pytest_cmdline_main(self) -> Generator[None, object, object]:
        try:
            return (yield)
        except pytest.UsageError as error:
            raise WrongUsage(error) from None


def replay(entry: Entry, options: list[str]) -> tuple[int, dict[str, Any] | None]:
    """Judge a claim or a check with these --claims-* options: the exit code, and its result if it came to one.

    No configuration and no conftest.py of the folder takes part, nor PYTEST_ADDOPTS: the package's own folder is pytest's
    root. Raises WrongUsage if an option is refused.
    """
    if sys.stdout.isatty() and sys.stderr.isatty():
        drawing.set(live_curve)
        # What others train for this process cannot be seen, and of one claim not much is trained ahead: those of bottlenecks,
        # 16 trainings, took 14.4 s so and 15.2 s otherwise; one that compiles two programs on torch 15 s and 13.6 s.
        options = [*options, "--claims-processes=1"]
    kind = "conformance" if entry.is_check else "claims"
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as environment:
        environment.delenv("PYTEST_ADDOPTS", raising=False)
        path = Path(folder) / "run.json"
        code = pytest.main(
            [
                "--pyargs",
                entry.node,
                "-m",
                f"{kind} and slow" if entry.is_slow else kind,
                # By the name of its entry point: so it is loaded once, also if pytest loads none by itself.
                "-p",
                "aeclaims",
                "-q",
                "--no-header",
                "-p",
                "no:cacheprovider",
                "-p",
                "no:benchmark",
                "--noconftest",
                "-c",
                os.devnull,
                "--rootdir",
                str(Path(aeclaims.__file__).parent),
                "-W",
                "ignore::pytest.PytestAssertRewriteWarning",
                f"--claims-json={path}",
                *options,
            ],
            plugins=[_Refusals()],
        )
        document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"claims": []}
    results = document["claims"]
    if not results:
        return CODES.get(pytest.ExitCode(code), 1) or 1, None
    return CODES.get(pytest.ExitCode(code), 1), results[0]


def plot(result: dict[str, Any], path: Path) -> bool:
    """Draw the curves of a result's trainings as PNG or SVG; False where it trained nothing of more than one epoch."""
    if not has_picture(result):
        return False
    draw(result, path)
    return True
