"""The --claims-* options: one table that feeds the parser, the header and the README."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

# Declaring options must cost nothing where no claim runs: their types import what they need when they are given.
if TYPE_CHECKING:
    from aeclaims.backends.torch.compile import Compilation
    from aeclaims.backends.torch.optimizers import CustomOptimizer
    from pytest_aeclaims.known_failures import KnownFailure


def _whole(text: str, least: int, most: int | None = None) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number of at least {least}")
    if most is not None and number > most:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number of at most {most:,}")
    return number


def _search_working_directory(text: str) -> None:
    """Let Python find the user's module:name in the working directory, as `python -m pytest` does, after all else."""
    if ":" in text and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def _backend(text: str) -> str:
    from aeclaims.backends import check_name
    from aeclaims.errors import UnknownBackend

    _search_working_directory(text)
    try:
        return check_name(text)
    except UnknownBackend as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _output(text: str) -> Path:
    from aeclaims.report.files import check_writable

    path = Path(text).absolute()
    try:
        check_writable(path)
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} cannot be written ({error.strerror}): give a file in a folder that exists and is writable"
        ) from None
    return path


def _dtype(text: str) -> str:
    from aeclaims.dtypes import FORMATS

    if text not in FORMATS:
        raise argparse.ArgumentTypeError(f"{text!r}: give one of {', '.join(FORMATS)}")
    return text


def _alpha(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    # The parts of a smaller one, one for each judge, would round to 0.
    if not 1e-300 <= number <= 0.1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a probability from 1e-300 to 0.1, such as 1e-6")
    return number


def _optimizer(text: str) -> "CustomOptimizer":
    from aeclaims.backends.torch.optimizers import parse
    from aeclaims.errors import InvalidOptimizer

    _search_working_directory(text)
    try:
        return parse(text)
    except InvalidOptimizer as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _compile(text: str) -> "Compilation":
    from aeclaims.backends.torch.compile import parse
    from aeclaims.errors import UnknownBackend

    _search_working_directory(text)
    try:
        return parse(text)
    except UnknownBackend as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _xfails(text: str) -> dict[str, "KnownFailure"]:
    from aeclaims.errors import InvalidList
    from pytest_aeclaims.known_failures import read

    try:
        return read(Path(text))
    except InvalidList as error:
        raise argparse.ArgumentTypeError(str(error)) from None


class Option(NamedTuple):
    """One --claims-* option."""

    name: str
    default: Any
    type: Callable[[str], Any]
    help: str


OPTIONS = (
    Option(
        "backend",
        "torch",
        _backend,
        "what trains: torch, torch-eager, torch-compile, torch-cudagraph, torch-loop, numba, oracle, or package.module:name",
    ),
    Option("device", "cpu", str, "where torch trains: cpu, cuda, cuda:1, ..."),
    Option(
        "optimizer",
        None,
        _optimizer,
        "package.module:name[,lr=...]: an optimizer of your own in Adam's place, on the torch backends",
    ),
    Option(
        "compile",
        None,
        _compile,
        "backend=...,mode=...,dynamic=...,fullgraph=...,scope=...: how torch and torch-compile call torch.compile",
    ),
    Option(
        "dtype", "float32", _dtype, "float32 or float64; bfloat16 or float16: parameters in float32, products in that"
    ),
    Option(
        "seeds",
        None,
        lambda text: _whole(text, 1, 1_000_000),
        "replicas of each claim (default: 256 on the reference; else the fewest with which every judge can fail)",
    ),
    Option("scale", 1, lambda text: _whole(text, 1, 1_000), "times as many seeds as by default, for every claim"),
    Option("seed-base", 0, lambda text: _whole(text, 0), "the first seed"),
    Option(
        "processes",
        None,
        lambda text: _whole(text, 1, 1_000),
        "processes that train on a CPU while claims are judged (default: as many as there are processors; 1: pytest's own)",
    ),
    Option(
        "alpha",
        1e-6,
        _alpha,
        "with which probability a sound stack may fail the suite by chance, all claims together: it is split over them",
    ),
    Option(
        "bisect",
        False,
        bool,
        "with -m conformance: find the first stage, from the plain loop to compiled populations, that deviates",
    ),
    Option(
        "quick",
        False,
        bool,
        "with -m claims: the claims and conformance checks that find most faults, in half a minute",
    ),
    Option("selftest", False, bool, "judge the suite: which faults it kills, by which checks, how soon; -k selects"),
    Option("xfails", None, _xfails, "known failures: a file with lines `id  # reason  expires=2027-01-01`; strict"),
    Option(
        "false-alarms",
        None,
        lambda text: _whole(text, 1, 1_000_000),
        "judge all that is selected on so many disjoint seed bases, and count what fails: on a sound stack nothing should",
    ),
    Option("json", None, _output, "write what was judged to this file"),
    Option("report", None, _output, "write what was judged as a page to look at: one HTML file that needs no network"),
)
METAVARS = {"json": "PATH", "false-alarms": "BASES", "xfails": "FILE", "report": "FILE", "compile": "SETTINGS"}


def declare(group: pytest.OptionGroup) -> None:
    """Add all options to pytest's parser."""
    for option in OPTIONS:
        shown = "" if option.default is None else f" (default: {option.default})"
        if option.type is bool:
            group.addoption(f"--claims-{option.name}", action="store_true", default=False, help=option.help)
            continue
        # argparse would parse a default given here, and parsing imports what only a claim needs.
        group.addoption(
            f"--claims-{option.name}",
            default=None,
            type=option.type,
            help=option.help + shown,
            metavar=METAVARS.get(option.name, option.name.upper().replace("-", "_")),
        )
