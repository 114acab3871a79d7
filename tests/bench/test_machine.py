"""The highest speeds of this machine: the roofs for the training cores."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest

from aeclaims.runtime import parallel
from tests.bench.turns import CLOCK, by_turns

SIZE = 1024
BYTES = 2**27


def multiply(times):
    a, b = (np.random.default_rng(0).random((SIZE, SIZE), np.float32) for _ in range(2))
    for _ in range(times):
        a @ b


def copying():
    """Copies BYTES of memory on all processors, repeatedly; the memory is allocated before."""
    count = parallel.cpu_count()
    parts = [(np.ones(BYTES // count, np.uint8), np.ones(BYTES // count, np.uint8)) for _ in range(count)]
    pool = ThreadPoolExecutor(count)
    return lambda times: [list(pool.map(lambda part: np.copyto(part[1], part[0]), parts)) for _ in range(times)]


@cache
def timed():
    return by_turns({"sgemm": multiply, "copy": copying()})


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize(("name", "said"), [("sgemm", {"operations": 2 * SIZE**3}), ("copy", {"bytes": 2 * BYTES})])
def test_peak(show, name, said):
    show(f"machine: {name}", timed()[name], "this machine at its best", **said)
