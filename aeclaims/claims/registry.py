"""The claims that the package ships: each one's record, and where its test stands."""

import importlib
import inspect
import pkgutil
from typing import NamedTuple

import aeclaims.claims
from aeclaims.claim import Claim


class Entry(NamedTuple):
    """A claim, its test as --pyargs takes it, and whether it runs only where it is named."""

    claim: Claim
    node: str
    is_slow: bool


def entries() -> dict[str, Entry]:
    """All claims by their ids, in the order of their files."""
    found = {}
    for module in pkgutil.iter_modules(aeclaims.claims.__path__):
        if module.name.startswith("test_"):
            path = f"aeclaims.claims.{module.name}"
            for name, test in vars(importlib.import_module(path)).items():
                marks = {mark.name: mark for mark in getattr(test, "pytestmark", []) if inspect.isfunction(test)}
                if "claims" in marks:
                    claim = marks["claims"].args[0]
                    found[claim.id] = Entry(claim, f"{path}::{name}", "slow" in marks)
    return found
