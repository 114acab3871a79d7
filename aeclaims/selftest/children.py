"""Processes that judge a stack with a fault in it: one for each fault, begun from a server that has imported everything."""

import multiprocessing
import os
import pkgutil
import signal
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Any, NamedTuple

import pytest

from aeclaims.judging.claim import Claim

# Of a processor. What has survived so much is given up: sound stacks take as long, and all is to be done in 20 minutes.
SECONDS = 60.0
# How many times as long, by the clock, it may take where others want the processor, too.
PATIENCE = 6
PACKAGES = ("aeclaims.conformance", "aeclaims.claims")
# Numbers that a claim trains on, above which it runs after all checks of conformance: from there on it takes 10 s and more.
MANY = 3_000_000
# In which order kinds of checks run, by what of an id stands before its colon; first others, which look at one thing directly.
KINDS = (
    "",
    "gradient",
    "crowd",
    "path",
    "compiled functions",
    "compiled programs",
    "compiled rates",
    "compiled step",
    "loop",
    "long path",
    "compiled model",
    "repeated",
    "memory",
    "order",
    "alone",
    "independence",
)


class Check(NamedTuple):
    """What one check of a child came to; the seconds are those since its pytest began."""

    id: str
    verdict: str
    reason: str
    is_quick: bool
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What became of one fault.

    killer: the check that failed first, None where none did.    judged: how many were judged.    is_complete: whether they are
    all there are, and not those that the time was enough for.
    """

    killer: Check | None
    judged: int
    seconds: float
    is_complete: bool


class ChildFailed(RuntimeError):
    """A child's pytest did not come to a verdict."""


class Children:
    """Judges faults in their order, so many at a time, before they are asked for."""

    def __init__(self, ids: Iterable[str], *, processes: int, seconds: float) -> None:
        self.context, self.seconds, self.running = _context(), seconds, set[Any]()
        self.starting, self.is_closed = threading.Lock(), False
        self.pool = ThreadPoolExecutor(processes)
        self.outcomes: dict[str, Future[Outcome]] = {id: self.pool.submit(self._judge, id) for id in ids}

    def _judge(self, id: str) -> Outcome:
        ours, theirs = self.context.Pipe(duplex=False)
        child = self.context.Process(target=_serve, args=(id, theirs, self.seconds), daemon=True)  # type: ignore[attr-defined]
        with self.starting:
            if self.is_closed:
                raise ChildFailed(f"{id} was not judged")
            child.start()
            self.running.add(child)
        theirs.close()
        try:
            return _watched(ours, child, PATIENCE * self.seconds)
        finally:
            child.kill()
            child.join()
            self.running.discard(child)

    def close(self) -> None:
        """What is not judged yet is not judged."""
        with self.starting:
            self.is_closed = True
            for child in tuple(self.running):
                child.kill()
        self.pool.shutdown(cancel_futures=True)


def _context() -> BaseContext:
    """Where the system can, children are copies of a server that has imported torch and all checks."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    modules = [
        f"{package}.{module.name}"
        for package in PACKAGES
        for module in pkgutil.iter_modules(import_module(package).__path__)
    ]
    # Of torch too, and of its compiler: each child would take 3 s for them.
    context.set_forkserver_preload(["aeclaims.selftest.faults", *modules, "torch._inductor.compile_fx"])
    return context


def _watched(connection: Connection, child: Any, seconds: float) -> Outcome:
    judged, begun = 0, time.monotonic()
    while True:
        left = begun + seconds - time.monotonic()
        if not connection.poll(max(left, 0)):
            return Outcome(None, judged, seconds, is_complete=False)
        try:
            message = connection.recv()
        except EOFError:
            child.join()
            if child.exitcode == -getattr(signal, "SIGPROF", 0):
                return Outcome(None, judged, time.monotonic() - begun, is_complete=False)
            raise ChildFailed(f"the process ended after {judged} checks without a word") from None
        if isinstance(message, str):
            raise ChildFailed(message)
        if message is None:
            return Outcome(None, judged, time.monotonic() - begun, is_complete=True)
        check = Check(*message)
        if check.verdict == "failed":
            return Outcome(check, judged + 1, check.seconds, is_complete=True)
        judged += check.verdict == "held"


def _serve(id: str, connection: Connection, seconds: float) -> None:
    """What a child does: run pytest, as CI would, on a stack with the fault, and tell of each check."""
    from aeclaims.runtime import parallel
    from aeclaims.selftest.faults import CONTROLS, FAULTS

    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    parallel.set_cpu_limit(1)  # the others have theirs
    if hasattr(signal, "SIGPROF"):
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, seconds)
    fault = (FAULTS | CONTROLS)[id]
    arguments = [
        "-c",
        os.devnull,
        "--rootdir",
        os.getcwd(),
        "--noconftest",
        "-p",
        "no:cacheprovider",
        "-x",
        "--tb=no",
        "--pyargs",
        *PACKAGES,
        "-m",
        "claims or conformance",
        "--claims-processes",
        "1",
        "--claims-backend",
        fault.backend,
        *fault.options,
    ]
    with fault.inject():
        code = pytest.main(arguments, plugins=[_Reporter(connection)])
    is_judged = code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    connection.send(None if is_judged else f"pytest {' '.join(arguments)} ended with {code!r}")


class _Reporter:
    """Sorts the checks, those first that kill most and cost least, and tells of each."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.begun = connection, time.monotonic()
        self.quick: set[str] = set()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        def cost(item: pytest.Item) -> tuple[bool, bool, int, int]:
            claim: Claim = next(mark.args[0] for mark in item.iter_markers() if mark.name in ("claims", "conformance"))
            if claim.is_quick:
                self.quick.add(claim.id)
            kind = claim.id.partition(": ")[0]
            numbers = sum(training.epochs * training.n_rows * training.features for training in claim.trains)
            return numbers > MANY, not claim.is_quick, numbers, KINDS.index(kind if kind in KINDS else "")

        items.sort(key=cost)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if hasattr(report, "aeclaims"):
            result = report.aeclaims
            self.connection.send(
                Check(
                    result["id"],
                    result["verdict"],
                    result["reason"],
                    result["id"] in self.quick,
                    round(time.monotonic() - self.begun, 2),
                )
            )
