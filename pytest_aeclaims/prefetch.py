"""Prefetching: while pytest judges a claim, the trainings of later claims run, so that no processor waits.

The reference trains in a thread, because its compiled code does not hold Python's lock. A training on torch keeps one
processor busy with Python, so there are as many training processes as processors. If this process runs checks
meanwhile, there is one fewer.

The training processes are copies of this process, made when the first claim begins. If a plugin or a conftest.py has
changed torch by then, the copies have the change too. If torch.compile was called in this process, there are no copies:
inductor's workers answer this process alone, and a copy that asks them for a program waits for ever.
"""

import gc
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from aeclaims.errors import ProcessEnded
from aeclaims.experiment import Experiment
from aeclaims.run import Run
from aeclaims.runtime import parallel
from aeclaims.runtime.progress import progress, stopping

# Importing this module starts inductor's workers.
INDUCTOR = "torch._inductor.async_compile"
# Seconds. If a copy uses no processor time for that long, it waits for an event that never comes; and how often to look.
STUCK_AFTER, LOOKED_AT_EVERY = 300.0, 5.0
Train = Callable[[Experiment, range], Run]


class Answer(NamedTuple):
    """Outcome of a training.

    Attributes:
        run: The run; None if there is none.
        error: The error; None if there is none. If both are None, no process was left to train.
        warnings: The warnings that the training raised.
    """

    run: Run | None
    error: BaseException | None
    warnings: tuple[Warning, ...] = ()


def can_copy_processes() -> bool:
    """Return whether a running process can be copied safely: on Linux, if it has not trained with several threads."""
    return sys.platform == "linux"


class Prefetcher:
    """Trains planned experiments in the background, in their order."""

    def __init__(self, train: Train, plan: Iterable[tuple[Experiment, range]], *, copies: int) -> None:
        """Begin to train.

        Args:
            train: Trains an experiment on some seeds.
            plan: The experiments and their seeds.
            copies: Number of copies of this process that train. If it is 0, a thread of this process does.
        """
        if copies and INDUCTOR in sys.modules:
            warnings.warn(
                "torch.compile was called in this process before the claims began, and inductor's workers answer no copy of it: "
                "this process trains alone, which takes longer",
                RuntimeWarning,
                stacklevel=2,
            )
            plan, copies = (), 0
        self.stop = threading.Event()
        self.workers: list[_ThreadWorker | _ForkedWorker] = [_ThreadWorker(train, self.stop)]
        if copies:
            self.workers = [_ForkedWorker(train) for _ in range(copies)]
            parallel.set_cpu_limit(1)  # the copies have the others now
        self.idle = list(self.workers)
        self.pool = ThreadPoolExecutor(len(self.workers))
        self.planned: dict[Experiment, tuple[range, Future[Answer]]] = {
            experiment: (seeds, self.pool.submit(self._train, experiment, seeds)) for experiment, seeds in plan
        }

    def _train(self, experiment: Experiment, seeds: range) -> Answer:
        worker = self.idle.pop()
        try:
            return worker.train(experiment, seeds)
        finally:
            self.idle.append(worker)

    def result(self, experiment: Experiment, seeds: range) -> Run | None:
        """Wait for a run, and return it.

        Args:
            experiment: The experiment.
            seeds: The seeds that the run must have; it may have more.

        Returns:
            The run; None if it was not planned, or if no process was left to train it.

        Raises:
            BaseException: The error that the training raised.
        """
        planned, future = self.planned.get(experiment, (range(0), None))
        if future is None or not set(seeds) <= set(planned):
            return None
        self._await(future)
        answer = future.result()
        for warning in answer.warnings:
            warnings.warn(warning, stacklevel=2)
        if answer.error is not None:
            raise answer.error
        return answer.run

    def _await(self, future: "Future[Answer]") -> None:
        if future.done():
            return
        futures = [future for _, future in self.planned.values()]
        done = 0
        with progress("background workers", len(futures), "trainings") as advance:
            while not future.done():
                now = sum(other.done() for other in futures)
                advance(now - done)
                done = now
                wait([future], timeout=0.1)

    def close(self) -> None:
        """Stop at once; trainings that have not ended are lost."""
        self.stop.set()
        self.pool.shutdown(wait=False, cancel_futures=True)
        for worker in self.workers:
            worker.close()
        parallel.set_cpu_limit(None)


class _ThreadWorker:
    """Trains in this process."""

    def __init__(self, train: Train, stop: threading.Event) -> None:
        self.function, self.stop = train, stop

    def train(self, experiment: Experiment, seeds: range) -> Answer:
        stopping.set(self.stop)
        try:
            return Answer(self.function(experiment, seeds), None)
        except Exception as error:
            return Answer(None, error)

    def close(self) -> None:
        """Do nothing: the event has stopped the training."""


class _ForkedWorker:
    """Trains in a copy of this process."""

    def __init__(self, train: Train) -> None:
        context = multiprocessing.get_context("fork")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_worker_main, args=(train, theirs), daemon=True)
        with warnings.catch_warnings():
            # Python warns of copies of processes with threads. The threads of this process wait for work and hold no lock.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process.start()
        theirs.close()

    def train(self, experiment: Experiment, seeds: range) -> Answer:
        if not self.process.is_alive():
            return Answer(None, None)  # this process trains it when a claim needs it
        how = ""
        try:
            self.connection.send((experiment, seeds))
            how = self._end_if_stuck()
            answer: Answer = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            return Answer(
                None,
                ProcessEnded(
                    f"the process that trained {experiment} {how or f'ended with exit code {self.process.exitcode}'}; "
                    "--claims-processes 1 trains in pytest's process"
                ),
            )
        return answer

    def _end_if_stuck(self) -> str:
        """Wait for an answer. If the copy uses no processor time, kill it and return the reason; else return an empty string."""
        idle, before = 0.0, -1.0
        while not self.connection.poll(LOOKED_AT_EVERY):
            now = _cpu_seconds(self.process.pid)
            idle, before = (idle + LOOKED_AT_EVERY if now == before else 0.0), now
            if idle >= STUCK_AFTER:
                self.process.kill()
                return f"used no processor time for {idle:.0f} s and was killed"
        return ""

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _cpu_seconds(pid: int | None) -> float:
    """Return the processor time of a process: of all its threads, and of its children that have ended."""
    after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return sum(map(float, after_name[11:15])) / os.sysconf("SC_CLK_TCK")


def _worker_main(train: Train, connection: Connection) -> None:
    """Train in a copy, until nobody asks any more."""
    # Ctrl-C reaches all processes of a terminal; this one ends when pytest's process does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parallel.set_cpu_limit(1)
    # A step makes and drops dozens of objects: looking for cycles every 700 objects took 7 % of a training.
    gc.set_threshold(100_000, 50, 50)
    silent = threading.Event()
    stopping.set(silent)
    with suppress(EOFError, OSError):
        while True:
            connection.send(_run_one(train, *connection.recv()))
    os._exit(0)


def _run_one(train: Train, experiment: Experiment, seeds: range) -> Answer:
    """Train, and return the outcome in a form that can be sent."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            run, error = train(experiment, seeds), None
        except (Exception, SystemExit) as raised:
            run, error = None, _portable(raised)
    return Answer(run, error, tuple(entry.message for entry in caught if isinstance(entry.message, Warning)))


def _portable(error: BaseException) -> Exception:
    error.add_note("".join(traceback.format_exception(error)))
    with suppress(Exception):
        if isinstance(copied := pickle.loads(pickle.dumps(error)), Exception):
            return copied
    return RuntimeError(f"{type(error).__name__}: {error}")
