"""The growth of a training's time with seeds, rows, epochs and features."""

import dataclasses
from functools import cache

import pytest

from aeclaims import affine
from aeclaims.backends import get
from tests.bench.contestants import DEVICE, MSE, Drawn
from tests.bench.turns import CLOCK, by_turns

BASE = {"numba": {"S": 64, "N": 8_000, "E": 32, "D": 2}, "torch": {"S": 16, "N": 8_000, "E": 40, "D": 2}}
# torch compiles a program for each number of seeds and of features.
SIZES = {
    "numba": {
        "S": (16, 64, 256, 1024),
        "N": (2_000, 8_000, 32_000, 128_000),
        "E": (16, 64, 256, 1024),
        "D": (2, 4, 8, 16, 32),
    },
    "torch": {"S": (16, 64, 256), "N": (8_000, 32_000, 128_000), "E": (40, 160, 640), "D": (2, 8, 32)},
}
ROUNDS = 3
CASES = [(backend, axis, size) for backend, axes in SIZES.items() for axis, sizes in axes.items() for size in sizes]


def training(backend, axis, size):
    """A training of the given size on one axis."""
    sizes = BASE[backend] | {axis: size}
    features = sizes["D"]
    experiment = dataclasses.replace(
        MSE,
        rows=dataclasses.replace(MSE.rows, features=features),
        model=affine(features, features, features),
        n_rows=sizes["N"],
        epochs=sizes["E"],
    )
    start, chosen = Drawn(experiment, tuple(range(sizes["S"]))), get(backend, DEVICE if backend == "torch" else "cpu")
    start.rows(), start.order(0)
    return lambda times: [chosen.train(start) for _ in range(times)]


@cache
def timed(backend, axis):
    return by_turns({size: training(backend, axis, size) for size in SIZES[backend][axis]}, ROUNDS)


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize(("backend", "axis", "size"), CASES)
def test_training(show, backend, axis, size):
    show(
        f"sweep: {backend}, {axis}={size}",
        timed(backend, axis)[size],
        f"a whole training, {backend}, {axis}",
        backend=backend,
        axis=axis,
        size=size,
    )
