"""How many processors this process may use, and work spread over them."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_limit: int | None = None


def limit(most: int | None) -> None:
    """Have this process use no more than so many, or, with None, its share again."""
    global _limit
    _limit = most


def count() -> int:
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


def each(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """function(item) of each item, by as many threads: NumPy holds no lock while it computes on arrays."""
    todo = list(items)
    size = -(-len(todo) // (PARTS_PER_THREAD * count())) or 1
    parts = [todo[at : at + size] for at in range(0, len(todo), size)]
    with ThreadPoolExecutor(count()) as pool:
        return [result for done in pool.map(lambda part: [function(item) for item in part], parts) for result in done]
