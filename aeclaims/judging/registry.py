"""The registry of the claims and conformance checks that the package ships, each with its test."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any, NamedTuple

from aeclaims.judging.claim import Claim

# They are named, not imported: they import this room.
CLAIMS = "aeclaims.claims"
CHECKS = "aeclaims.conformance"


class Entry(NamedTuple):
    """A claim or a check.

    node: its test, as pytest --pyargs takes it.    is_slow: whether it runs only if -m names the marker slow.
    """

    claim: Claim
    node: str
    is_slow: bool

    @property
    def is_check(self) -> bool:
        """Whether it is a conformance check."""
        return self.node.startswith(CHECKS)


def entries(*packages: str) -> dict[str, Entry]:
    """All entries of these packages (CLAIMS, if none is given) by their ids, in the order of their files."""
    found: dict[str, Entry] = {}
    for package in packages or (CLAIMS,):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            if module.name.startswith("test_"):
                path = f"{package}.{module.name}"
                for name, test in vars(importlib.import_module(path)).items():
                    if inspect.isfunction(test):
                        found.update((entry.claim.id, entry) for entry in _entries_of(test, f"{path}::{name}"))
    return found


def _entries_of(test: Any, node: str) -> Iterator[Entry]:
    """The entry of a test, or those of its parameter sets."""
    marks = getattr(test, "pytestmark", [])
    is_slow = any(mark.name == "slow" for mark in marks)
    for mark in marks:
        if mark.name in ("claims", "conformance"):
            yield Entry(mark.args[0], node, is_slow)
        cases = mark.args[1] if mark.name == "parametrize" else ()
        for case in cases:
            for inner in getattr(case, "marks", ()):
                if inner.name in ("claims", "conformance"):
                    yield Entry(inner.args[0], f"{node}[{case.id}]", is_slow)
