"""Trains what later claims will ask for while earlier ones are judged, so that no processor waits.

On the reference a thread does: compiled code holds no Python lock. A training on torch keeps one processor busy with Python, so
that as many processes train as there are processors, less this one where it has checks of its own to do meanwhile. They are
copies of this process as it is when the first claim begins: what a plugin or a conftest.py has changed in torch by then is
changed in them too. If torch.compile was called in this process, there are no copies: inductor's workers answer this process
alone, and a copy that asks them for a program waits for ever.
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

# The import of this module starts inductor's workers.
INDUCTOR = "torch._inductor.async_compile"
# A copy that takes no processor time for so many seconds waits for an event that never comes; it is looked at every so many.
STUCK_AFTER, LOOKED_AT_EVERY = 300.0, 5.0
Train = Callable[[Experiment, range], Run]


class Answer(NamedTuple):
    """What came of a training: a run, an error, or neither where nobody was left to train; and the warnings on the way."""

    run: Run | None
    error: BaseException | None
    warnings: tuple[Warning, ...] = ()


def can_copy_processes() -> bool:
    """Whether a running process can be copied safely: on Linux it can, as long as it has not trained by several threads."""
    return sys.platform == "linux"


class Prefetcher:
    """Trainings that were asked for before they are needed, in that order."""

    def __init__(self, train: Train, plan: Iterable[tuple[Experiment, range]], *, copies: int) -> None:
        """`train` in so many copies of this process, or, if that is 0, in a thread of it."""
        if copies and INDUCTOR in sys.modules:
            warnings.warn(
                "torch.compile was called in this process before the claims began, and inductor's workers answer no copy of it: "
                "the claims are trained in this process alone, which takes longer",
                RuntimeWarning,
                stacklevel=2,
            )
            plan, copies = (), 0
        self.stop = threading.Event()
        self.workers: list[_ThreadWorker | _ForkedWorker] = [_ThreadWorker(train, self.stop)]
        if copies:
            self.workers = [_ForkedWorker(train) for _ in range(copies)]
            parallel.set_cpu_limit(1)  # they have them now
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
        """The run of these seeds, or more, once it is there; None where none is to come. Raises what the training raised."""
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
        with progress("ahead", len(futures), "trainings") as advance:
            while not future.done():
                now = sum(other.done() for other in futures)
                advance(now - done)
                done = now
                wait([future], timeout=0.1)

    def close(self) -> None:
        """Stop at once; what is not trained yet is not trained."""
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
        """The event has told it."""


class _ForkedWorker:
    """Trains in a copy of this process."""

    def __init__(self, train: Train) -> None:
        context = multiprocessing.get_context("fork")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_worker_main, args=(train, theirs), daemon=True)
        with warnings.catch_warnings():
            # Python warns of copies of processes with threads; those of this one wait for work and hold no lock.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process.start()
        theirs.close()

    def train(self, experiment: Experiment, seeds: range) -> Answer:
        if not self.process.is_alive():
            return Answer(None, None)  # what it did not end with is trained where it is needed
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
                    "--claims-processes 1 trains in pytest's own process"
                ),
            )
        return answer

    def _end_if_stuck(self) -> str:
        """Wait for an answer. If the copy takes no processor time, end it, and return the reason."""
        idle, before = 0.0, -1.0
        while not self.connection.poll(LOOKED_AT_EVERY):
            now = _cpu_seconds(self.process.pid)
            idle, before = (idle + LOOKED_AT_EVERY if now == before else 0.0), now
            if idle >= STUCK_AFTER:
                self.process.kill()
                return f"took no processor time for {idle:.0f} s, and was ended"
        return ""

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _cpu_seconds(pid: int | None) -> float:
    """The processor time of a process, of all its threads and of its children that have ended."""
    after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return sum(map(float, after_name[11:15])) / os.sysconf("SC_CLK_TCK")


def _worker_main(train: Train, connection: Connection) -> None:
    """What a copy does: answer until nobody asks any more."""
    # Ctrl-C reaches all processes of a terminal; this one ends with the one that it serves.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parallel.set_cpu_limit(1)
    # A step makes and drops objects by the dozen: looking for cycles every 700 took 7 % of a training.
    gc.set_threshold(100_000, 50, 50)
    silent = threading.Event()
    stopping.set(silent)
    with suppress(EOFError, OSError):
        while True:
            connection.send(_run_one(train, *connection.recv()))
    os._exit(0)


def _run_one(train: Train, experiment: Experiment, seeds: range) -> Answer:
    """What training comes to, in a form that can be sent."""
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
