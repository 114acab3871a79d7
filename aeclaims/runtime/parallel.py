"""How many processors this process may use, and work spread over them."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from time import perf_counter
from typing import Any, TypeVar

_limit: int | None = None


def set_cpu_limit(most: int | None) -> None:
    """Have this process use no more than so many, or, with None, its share again."""
    global _limit
    _limit = most


def cpu_count() -> int:
    """Those that the system lets this process run on; a worker of pytest-xdist takes its share of them."""
    if _limit is not None:
        return _limit
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return max(1, allowed // max(1, workers))


Item = TypeVar("Item")
Result = TypeVar("Result")


# To hand an item to a thread takes 50 us, as long as the work that some of them are: threads take some at once.
PARTS_PER_THREAD = 4
# Seconds of work for which threads are worth starting: one takes 50 us on idle processors, 1 ms on busy ones.
WORTH_THREADS = 2e-3


class SerialExecutor(Executor):
    """Does at once, in the caller's thread, what it is handed."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future that is done already; what `fn` raises is raised here."""
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def threads(seconds: float) -> Executor:
    """What does work of about so many seconds: a thread for each processor, or the caller's own where it is little."""
    return ThreadPoolExecutor(cpu_count()) if seconds >= WORTH_THREADS and cpu_count() > 1 else SerialExecutor()


def map(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """function(item) of each item, by as many threads: NumPy holds no lock while it computes on arrays."""
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
