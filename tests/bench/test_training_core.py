"""Time of one training step of one replica: backend x network x population, timed by turns in one run."""

from functools import cache

import pytest

from tests.bench.contestants import DEVICE, NETWORKS, contestant, operations
from tests.bench.turns import CLOCK, by_turns

POPULATIONS = (1, 64, 128)
BACKENDS = ["torch-eager", "torch", "numba", "jax", *["torch-cudagraph"] * DEVICE.startswith("cuda")]
CONTESTS = {
    network: [("plain loop", network, 1),
              *((backend, network, seeds) for backend in BACKENDS for seeds in POPULATIONS)]
    for network in ("D=2", "D=10")
} | {
    "losses": [("numba", "MSE", 128), ("numba", "BCE", 128), ("numba", "BCE on logits", 128)],
    "question": [("numba", "question", 2), ("torch", "question", 2), ("sgemm", "question", 2)],
}  # fmt: skip
CASES = [(contest, case) for contest, cases in CONTESTS.items() for case in cases]


def name(case):
    return "{}, {}, S={}".format(*case)


@cache
def timed(contest, with_jax):
    """The seconds of an epoch, by contestant."""
    cases = [case for case in CONTESTS[contest] if with_jax or case[0] != "jax"]
    return by_turns({name(case): contestant(case[0], NETWORKS[case[1]], case[2]) for case in cases})


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize(("contest", "case"), CASES, ids=[name(case) for _, case in CASES])
def test_step(show, contest, case):
    backend, network, seeds = case
    if backend == "jax":
        pytest.importorskip("jax", reason="the extra [peers] is not installed")
    experiment = NETWORKS[network]
    steps = experiment.steps_per_epoch * seeds
    rounds = [seconds / steps for seconds in timed(contest, has_jax())[name(case)]]
    show(
        name(case),
        rounds,
        f"one step of one replica, {contest}",
        backend=backend,
        network=network,
        seeds=seeds,
        operations=operations(experiment),
    )


@cache
def has_jax():
    try:
        import jax
        import optax
    except ImportError:
        return False
    return bool(jax and optax)
