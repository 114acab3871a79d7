"""Replay of one claim from the command line: pytest runs it, without any configuration of the working directory."""

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

# Exit codes of a replay, by pytest's: 0 if the claim held, 2 on a usage error. Others become 1: it failed, or was not exercised.
CODES = {pytest.ExitCode.OK: 0, pytest.ExitCode.USAGE_ERROR: 2, pytest.ExitCode.INTERRUPTED: 130}


class WrongUsage(ValueError):
    """pytest refused an option. The message names the option of `aeclaims run`, the value and the remedy."""

    def __init__(self, error: pytest.UsageError) -> None:
        # argparse prints its usage and the name of pytest.main() before the message, and pytest's configuration after it.
        text = re.sub(r".*error: argument ", "", str(error), flags=re.DOTALL).partition("\n")[0]
        super().__init__(text.replace("--claims-", "--"))


class _Refusals:
    """Raises pytest's usage errors as `WrongUsage`. Otherwise pytest prints them in terms of its options."""

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
    """Judge a claim or a check.

    The configuration and the conftest.py of the working directory have no effect, nor has PYTEST_ADDOPTS. pytest's root
    is the folder of the package.

    Args:
        entry: The claim or check.
        options: The `--claims-*` options.

    Returns:
        The exit code, and the result; None if there is no result.

    Raises:
        WrongUsage: If pytest refuses an option.
    """
    if sys.stdout.isatty() and sys.stderr.isatty():
        drawing.set(live_curve)
        # Trainings in other processes cannot be shown, and one claim gains little from them. With this process alone, the 16
        # trainings of the bottlenecks took 14.4 s, and 15.2 s otherwise. A claim that compiles two programs on torch took
        # 15 s, and 13.6 s otherwise.
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
                # The name of its entry point: so pytest loads the plugin once, also if it loads no entry points by itself.
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
    """Draw the curves of a result's trainings as PNG or SVG; return False if none has more than one epoch."""
    if not has_picture(result):
        return False
    draw(result, path)
    return True
