"""The --claims-* options: one table that feeds the parser, the header and the README."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

# Declaring options must cost nothing if no claim runs: the types of options import modules when they are called.
if TYPE_CHECKING:
    from aeclaims.backends.torch.compile import Compilation
    from aeclaims.backends.torch.custom_optimizers import CustomOptimizer
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
    """Append the working directory to `sys.path`, so that Python finds your module:name, as with `python -m pytest`."""
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
    # A smaller probability, split over the judges, would round to 0.
    if not 1e-300 <= number <= 0.1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a probability from 1e-300 to 0.1, such as 1e-6")
    return number


def _optimizer(text: str) -> "CustomOptimizer":
    from aeclaims.backends.torch.custom_optimizers import parse
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
        "backend that trains: torch, torch-eager, torch-compile, torch-cudagraph, torch-loop, numba, oracle, or your own as "
        "package.module:name",
    ),
    Option("device", "cpu", str, "device that torch trains on: cpu, cuda, cuda:1, ..."),
    Option(
        "optimizer",
        None,
        _optimizer,
        "package.module:name[,lr=...]: your optimizer in Adam's place, on the torch backends",
    ),
    Option(
        "compile",
        None,
        _compile,
        "backend=...,mode=...,dynamic=...,fullgraph=...,scope=...: arguments of torch.compile, for the backends "
        "torch and torch-compile",
    ),
    Option(
        "dtype",
        "float32",
        _dtype,
        "float32 or float64; bfloat16 or float16: parameters in float32, products in that format (torch.autocast)",
    ),
    Option(
        "seeds",
        None,
        lambda text: _whole(text, 1, 1_000_000),
        "replicas of each claim (default: the fewest with which every judge can fail; 256 on numba without --claims-quick)",
    ),
    Option("scale", 1, lambda text: _whole(text, 1, 1_000), "factor on the default number of seeds"),
    Option("seed-base", 0, lambda text: _whole(text, 0), "the first seed"),
    Option(
        "processes",
        None,
        lambda text: _whole(text, 1, 1_000),
        "processes that train with torch on a CPU while pytest judges claims (default: one for each processor, and one fewer "
        "with --claims-quick; 1: only pytest's process trains)",
    ),
    Option(
        "alpha",
        1e-6,
        _alpha,
        "probability with which chance may fail a sound stack, split over all claims; a smaller one takes more seeds",
    ),
    Option(
        "bisect",
        False,
        bool,
        "with -m conformance: name the first stage, from the plain loop to compiled populations and CUDA graphs, that deviates",
    ),
    Option(
        "quick",
        False,
        bool,
        "with -m claims: the checks that find most faults, in half a minute, conformance checks among them",
    ),
    Option(
        "selftest",
        False,
        bool,
        "judge the suite: the faults that it kills, by which check, how soon; -k selects faults",
    ),
    Option("xfails", None, _xfails, "file of known failures, one line `id  # reason  expires=2027-01-01` each"),
    Option(
        "false-alarms",
        None,
        lambda text: _whole(text, 1, 1_000_000),
        "judge the selection on that many disjoint seed bases, and count the bases with a failure; a sound stack has none",
    ),
    Option("json", None, _output, "file for the results, written whole, also if claims fail or you interrupt the run"),
    Option("report", None, _output, "one HTML file with the results and the curves of the seeds; it needs no network"),
)
METAVARS = {"json": "PATH", "false-alarms": "BASES", "xfails": "FILE", "report": "FILE", "compile": "SETTINGS"}


def declare(group: pytest.OptionGroup) -> None:
    """Add all options to pytest's parser."""
    for option in OPTIONS:
        shown = "" if option.default is None else f" (default: {option.default})"
        if option.type is bool:
            group.addoption(f"--claims-{option.name}", action="store_true", default=False, help=option.help)
            continue
        # If a default were given here, argparse would parse it, and import modules that only claims need.
        group.addoption(
            f"--claims-{option.name}",
            default=None,
            type=option.type,
            help=option.help + shown,
            metavar=METAVARS.get(option.name, option.name.upper().replace("-", "_")),
        )
