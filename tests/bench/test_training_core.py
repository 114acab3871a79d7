"""Time of one training step and replica: backend x network x population, in one run."""

import dataclasses
import os

import pytest

from aeclaims import Adam, Backend, Experiment, Uniform, affine
from aeclaims.backends import get
from aeclaims.claims.setups import listing_network
from aeclaims.start import Start

DEVICE = os.environ.get("AECLAIMS_BENCH_DEVICE", "cpu")
NETWORKS = {
    "D2": Experiment(rows=Uniform(features=2), model=affine(2, 2, 2), loss="mse", optimizer=Adam(lr=1e-5), epochs=1),
    "D10": Experiment(rows=Uniform(features=10), model=listing_network(10, 10), loss="mse", optimizer=Adam(lr=1e-3), epochs=1),
}
# Rows and epochs that make a round long enough to time and short enough to repeat; a step is the same in all.
SIZES = {"reference": (30_000, 10), "torch": (30_000, 3), "torch-eager": (30_000, 1), "torch-loop": (6_000, 1)}


def backend(name: str) -> Backend:
    return get(name, "cpu" if name == "reference" else DEVICE)


@pytest.mark.parametrize("seeds", [1, 32, 128])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ["reference", "torch", "torch-eager"])
def test_population(benchmark, spans, name, network, seeds):
    measure(benchmark, spans, name, network, seeds)


@pytest.mark.parametrize("network", NETWORKS)
def test_plain_loop(benchmark, spans, network):
    """The baseline: nn.Sequential, DataLoader, zero_grad, backward, step."""
    measure(benchmark, spans, "torch-loop", network, 1)


def measure(benchmark, spans, name, network, seeds):
    n_rows, epochs = SIZES[name]
    experiment = dataclasses.replace(NETWORKS[network], n_rows=n_rows, epochs=epochs)
    start, chosen = Start(experiment, tuple(range(seeds))), backend(name)
    start.rows()
    train = chosen.train
    if name == "torch":
        # Compiled outside the timing, as in a training that is long enough for it.
        from aeclaims.backends import torch_population

        train = torch_population.prepared(experiment, start, device=DEVICE)
    train(experiment, start)
    benchmark.pedantic(train, args=(experiment, start), rounds=3, warmup_rounds=0)
    steps = experiment.epochs * experiment.steps_per_epoch * seeds
    spans[name, network, seeds] = benchmark.stats["median"] / steps
    benchmark.extra_info |= {"us_per_step_and_replica": round(1e6 * benchmark.stats["median"] / steps, 4), "device": DEVICE}
