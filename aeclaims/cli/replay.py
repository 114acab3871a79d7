"""Judging one claim again from the command line: pytest runs it, with nothing of the folder that one stands in."""

import json
import os
import sys
import tempfile
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


def replay(entry: Entry, options: list[str]) -> tuple[int, dict[str, Any] | None]:
    """Judge a claim with these --claims-* options: the exit code, and its result where it came to one.

    Neither a configuration nor a conftest.py of the folder takes part: the package's own folder is pytest's root.
    """
    if sys.stdout.isatty() and sys.stderr.isatty():
        drawing.set(live_curve)
        # What others train for this process cannot be seen, and of one claim not much is trained ahead: those of bottlenecks,
        # 16 trainings, took 14.4 s so and 15.2 s otherwise; one that compiles two programs on torch 15 s and 13.6 s.
        options = [*options, "--claims-processes=1"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.json"
        code = pytest.main(
            [
                "--pyargs",
                entry.node,
                "-m",
                "claims and slow" if entry.is_slow else "claims",
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
            ]
        )
        document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"claims": []}
    results = document["claims"]
    return CODES.get(pytest.ExitCode(code), 1), results[0] if results else None


def plot(result: dict[str, Any], path: Path) -> bool:
    """Draw the curves of a result's trainings as PNG or SVG; False where it trained nothing of more than one epoch."""
    if not has_picture(result):
        return False
    draw(result, path)
    return True
