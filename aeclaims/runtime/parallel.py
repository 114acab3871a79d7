"""Parallel work on the processors that this process may use."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from time import perf_counter
from typing import Any, TypeVar

_limit: int | None = None


def set_cpu_limit(most: int | None) -> None:
    """Limit the processors of this process. None removes the limit."""
    global _limit
    _limit = most


def cpu_count() -> int:
    """Return the number of processors that this process may use. A pytest-xdist worker takes its share of them."""
    if _limit is not None:
        return _limit
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return max(1, allowed // max(1, workers))


Item = TypeVar("Item")
Result = TypeVar("Result")


# Handing an item to a thread takes 50 us, as long as the work of some items. Each thread therefore takes several items.
PARTS_PER_THREAD = 4
# Seconds of work that justify threads. Starting one takes 50 us on idle processors, 1 ms on busy ones.
WORTH_THREADS = 2e-3


class SerialExecutor(Executor):
    """Executor that runs each call immediately, in the thread of the caller."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call `fn` and return a completed future. An exception of `fn` is raised here."""
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def threads(seconds: float) -> Executor:
    """Return an executor for work of about so many seconds.

    It has one thread for each processor, or uses the thread of the caller if the work is too little.
    """
    return ThreadPoolExecutor(cpu_count()) if seconds >= WORTH_THREADS and cpu_count() > 1 else SerialExecutor()


def map(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return the list of function(item) for all items, computed by threads.

    Threads help, because NumPy holds no lock when it computes on arrays.
    """
    todo = list(items)
    begun = perf_counter()
    results = [function(item) for item in todo[:1]]
    todo = todo[1:]
    size = -(-len(todo) // (PARTS_PER_THREAD * cpu_count())) or 1
    parts = [todo[at : at + size] for at in range(0, len(todo), size)]
    with threads(len(todo) * (perf_counter() - begun)) as pool:
        for done in pool.map(lambda part: [function(item) for item in part], parts):
            results += done
    return results
