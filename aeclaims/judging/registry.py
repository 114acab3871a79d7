"""Registry of the claims and conformance checks in the package, each with its test."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any, NamedTuple

from aeclaims.judging.claim import Claim

# Named, not imported: these packages import this module.
CLAIMS = "aeclaims.claims"
CHECKS = "aeclaims.conformance"


class Entry(NamedTuple):
    """A claim or a check.

    Attributes:
        claim: The record.
        node: The test, in the form that `pytest --pyargs` takes.
        is_slow: Whether the test runs only if `-m` names the marker `slow`.
    """

    claim: Claim
    node: str
    is_slow: bool

    @property
    def is_check(self) -> bool:
        """Whether it is a conformance check."""
        return self.node.startswith(CHECKS)


def entries(*packages: str) -> dict[str, Entry]:
    """Return the entries of these packages by id, in the order of their files; if you name no package, those of CLAIMS."""
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
    """Yield the entry of a test, or the entries of its parameter sets."""
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
