"""Time of one training step and replica: backend x network x population, in one run."""

import dataclasses
import os
from functools import partial

import pytest

from aeclaims import Adam, Experiment, Uniform, affine
from aeclaims.backends import get
from aeclaims.claims.setups import listing_network
from aeclaims.start import Start

DEVICE = os.environ.get("AECLAIMS_BENCH_DEVICE", "cpu")
NETWORKS = {
    "D2": Experiment(rows=Uniform(features=2), model=affine(2, 2, 2), loss="mse", optimizer=Adam(lr=1e-5), epochs=1),
    "D10": Experiment(rows=Uniform(features=10), model=listing_network(10, 10), loss="mse", optimizer=Adam(lr=1e-3), epochs=1),
}
# Epochs that make a round long enough to time and short enough to repeat; a step is the same in all.
EPOCHS = {"reference": 10, "torch": 3, "torch-eager": 1}


def per_step(benchmark, experiment, epochs, seeds):
    """Microseconds of one training step of one replica, kept with the benchmark."""
    steps = epochs * experiment.steps_per_epoch * seeds
    benchmark.extra_info |= {"us_per_step_and_replica": round(1e6 * benchmark.stats["median"] / steps, 4), "device": DEVICE}


@pytest.mark.parametrize("seeds", [1, 32, 128])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("backend", EPOCHS)
def test_population(benchmark, backend, network, seeds):
    experiment = dataclasses.replace(NETWORKS[network], epochs=EPOCHS[backend])
    start = Start(experiment, tuple(range(seeds)))
    start.rows()
    if backend == "reference":
        train = partial(get(backend).train, experiment, start)
    else:
        train = train_epochs(experiment, start, is_compiled=backend == "torch" and DEVICE == "cpu")
    train()  # compiles, and fills the caches
    benchmark.pedantic(train, rounds=3)
    per_step(benchmark, experiment, experiment.epochs, seeds)


def train_epochs(experiment, start, *, is_compiled):
    """A function that trains one population on and on, so that compiling it is not timed again; it synchronises the
    device, as the losses it returns are on the host.
    """
    from aeclaims.backends.torch_population import Population

    # Unrolled as in a training of 60,000 steps or more.
    population = Population(dataclasses.replace(experiment, epochs=300), start, device=DEVICE, is_compiled=is_compiled)
    return lambda: [population.train_epoch(start.order(epoch)) for epoch in range(experiment.epochs)]


@pytest.mark.parametrize("network", NETWORKS)
def test_plain_loop(benchmark, network):
    """The baseline: nn.Sequential, DataLoader, zero_grad, backward, step."""
    experiment = dataclasses.replace(NETWORKS[network], n_rows=12_800)
    start = Start(experiment, (0,))
    train = partial(get("torch-loop", DEVICE).train, experiment, start)
    train()
    benchmark.pedantic(train, rounds=3)
    per_step(benchmark, experiment, 1, 1)
