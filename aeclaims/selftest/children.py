"""Child processes, each of which judges a stack with one fault; a server that has imported everything forks them."""

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

# Seconds of processor time. A fault that survives them is given up: sound stacks take as long, and a run has 20 minutes.
SECONDS = 60.0
# Limit of wall-clock time, as a multiple of the processor time, since other processes compete for the processor.
PATIENCE = 6
PACKAGES = ("aeclaims.conformance", "aeclaims.claims")
# If a claim trains on more numbers, it runs after all checks of conformance: such claims take 10 s or more.
MANY = 3_000_000
# Order of kinds of checks, by the part of an id before its colon. Ids without a colon come first: each tests one part directly.
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
    """The result of one check in a child.

    Attributes:
        id: Id of the check.
        verdict: Verdict of its judge.
        reason: Theory behind the verdict.
        is_quick: Whether the quick profile includes the check.
        seconds: Seconds since the child's pytest began.
    """

    id: str
    verdict: str
    reason: str
    is_quick: bool
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """The outcome of one fault.

    Attributes:
        killer: The check that failed first; None if none failed.
        judged: Number of checks that were judged.
        seconds: Seconds until the outcome.
        is_complete: Whether all checks were judged; False if the time ran out.
    """

    killer: Check | None
    judged: int
    seconds: float
    is_complete: bool


class ChildFailed(RuntimeError):
    """Raised if a child's pytest reached no verdict."""


class Children:
    """A pool of child processes that judges faults in order and in advance.

    Args:
        ids: Ids of the faults.
        processes: Number of faults that are judged at a time.
        seconds: Processor time for each fault.
    """

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
        """Kill the running children and cancel the others."""
        with self.starting:
            self.is_closed = True
            for child in tuple(self.running):
                child.kill()
        self.pool.shutdown(cancel_futures=True)


def _context() -> BaseContext:
    """Return a context whose children are forks of a server that has imported torch and all checks, if the system has one."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    modules = [
        f"{package}.{module.name}"
        for package in PACKAGES
        for module in pkgutil.iter_modules(import_module(package).__path__)
    ]
    # The server also imports torch and its compiler, which would take 3 s in each child.
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
    """Run pytest in a child as CI would, on a stack with the fault, and send the result of each check."""
    from aeclaims.runtime import parallel
    from aeclaims.selftest.faults import CONTROLS, FAULTS

    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    parallel.set_cpu_limit(1)  # the other children use the other processors
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
    """Plugin that sorts the checks and sends the result of each; checks that kill most and cost least come first."""

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
