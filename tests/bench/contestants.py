"""The contestants of the benchmarks: each continues the training of one population, an epoch at a time."""

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cached_property
from typing import Any

import numpy as np

from aeclaims import SIGMOID, Adam, Experiment, Start, Uniform, affine
from aeclaims.backends import get
from aeclaims.claims.setups import QUESTION, listing_network
from aeclaims.runtime import parallel
from tests.bench.turns import Contestant

DEVICE = os.environ.get("AECLAIMS_BENCH_DEVICE", "cpu")
MSE = Experiment(rows=Uniform(features=2), model=affine(2, 2, 2), loss="mse", optimizer=Adam(lr=1e-5), epochs=1)
NETWORKS = {
    "D=2": MSE,
    "D=10": Experiment(
        rows=Uniform(features=10), model=listing_network(10, 10), loss="mse", optimizer=Adam(lr=1e-3), epochs=1
    ),
    "MSE": MSE,
    "BCE": dataclasses.replace(MSE, model=affine(2, 2, 2, output=SIGMOID), loss="bce"),
    "BCE on logits": dataclasses.replace(MSE, loss="bce_logits"),
    "question": QUESTION,
}
EPOCHS_DRAWN = 16


class Drawn(Start):
    """A start with rows and orders that are drawn before, so that only training is timed; the orders repeat."""

    @cached_property
    def _rows(self) -> Any:
        return super().rows()

    @cached_property
    def _orders(self) -> list[Any]:
        return [super(Drawn, self).order(epoch) for epoch in range(EPOCHS_DRAWN)]

    def rows(self) -> Any:
        return self._rows

    def order(self, epoch: int) -> Any:
        return self._orders[epoch % EPOCHS_DRAWN]


def contestant(backend: str, experiment: Experiment, seeds: int) -> Contestant:
    """A function that trains a number of further epochs."""
    start = Drawn(experiment, tuple(range(seeds)))
    start.rows(), start.order(0)
    match backend:
        case "plain loop":
            return lambda epochs: [get("torch-loop", DEVICE).train(start) for _ in range(epochs)]
        case "numba":
            return reference_population(experiment, start)
        case "jax":
            return jax_population(experiment, start)
        case "sgemm":
            return matrix_products(experiment, seeds)
        case "torch-cudagraph":
            return captured_epochs(experiment, start)
        case _:
            return torch_population(backend, experiment, start)


def reference_population(experiment: Experiment, start: Start) -> Contestant:
    from aeclaims.backends.numba.population import Population

    population = Population(dataclasses.replace(experiment, epochs=EPOCHS_DRAWN), start)
    orders = np.stack([start.order(epoch) for epoch in range(EPOCHS_DRAWN)])
    pool = ThreadPoolExecutor(parallel.cpu_count())

    def train(epochs: int) -> None:
        for begun in range(0, epochs, EPOCHS_DRAWN):
            entry = slice(0, min(EPOCHS_DRAWN, epochs - begun))
            wait(population.begin(pool, orders[entry], entry))

    return train


def torch_population(backend: str, experiment: Experiment, start: Start) -> Contestant:
    from aeclaims.backends.torch import parts
    from aeclaims.backends.torch.population import DEFAULT, CompiledPopulation, Population

    with parts.conditions(start, DEVICE):
        population = (
            CompiledPopulation(start, device=DEVICE, compilation=DEFAULT)
            if backend == "torch" and DEVICE == "cpu"
            else Population(start, device=DEVICE)
        )

    def train(epochs: int) -> None:
        with parts.conditions(start, DEVICE):
            for epoch in range(epochs):
                population.train_epoch(start.order(epoch))  # the losses come to the host, so a device has finished

    return train


def captured_epochs(experiment: Experiment, start: Start) -> Contestant:
    from aeclaims.backends.torch import parts
    from aeclaims.backends.torch.cudagraph import Epochs, settings
    from aeclaims.backends.torch.population import Population

    with parts.conditions(start, DEVICE):
        epochs = Epochs(Population(start, device=DEVICE, **settings(experiment)))
        epochs.begin(start.order(0))
        epochs.begin(start.order(1)).cpu()

    def train(count: int) -> None:
        with parts.conditions(start, DEVICE):
            for epoch in range(count):
                epochs.begin(start.order(epoch)).cpu()

    return train


def jax_population(experiment: Experiment, start: Start) -> Contestant:
    from examples.jax_backend import begin, train_epoch

    recipe, population, rows = begin(experiment, start)

    def train(epochs: int) -> None:
        nonlocal population
        for epoch in range(epochs):
            population, losses = train_epoch(recipe, population, rows, start.order(epoch).astype(np.int32))
            np.asarray(losses)

    return train


def matrix_products(experiment: Experiment, seeds: int) -> Contestant:
    """The multiplications of an epoch of all seeds, as products of two large matrices: the best speed of sgemm."""
    size = 1024
    a, b = (np.random.default_rng(0).random((size, size), np.float32) for _ in range(2))
    products = round(operations(experiment) * experiment.steps_per_epoch * seeds / (2 * size**3))

    def multiply(epochs: int) -> None:
        for _ in range(epochs * products):
            a @ b

    return multiply


def operations(experiment: Experiment) -> int:
    """Count the multiplications and additions of matrix products in one step of one replica.

    Forward, the gradient by the weights, and, for all layers but the first, by the inputs: 2 B (inputs x outputs) each.
    """
    products = [
        inputs * outputs for inputs, outputs in zip(experiment.model.widths, experiment.model.widths[1:], strict=False)
    ]
    return 2 * experiment.batch_size * (3 * sum(products) - products[0])
