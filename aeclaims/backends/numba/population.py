"""The numba backend: independent of torch, and the fastest here for populations of tiny networks.

Seeds are trained by one compiled loop (kernel/) that holds no Python lock, so that threads run side by side: each takes one
seed, or as many at once as a vector has lanes. The loop is entered for a few epochs at a time: between two entries
progress is shown and Ctrl-C is heard.
"""

import multiprocessing
import os
import signal
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from itertools import pairwise, zip_longest
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import numpy.typing as npt

from aeclaims.backends.numba import kernel
from aeclaims.experiment import Adam, Experiment, Model
from aeclaims.run import Double, Run
from aeclaims.runtime import parallel
from aeclaims.runtime.progress import progress
from aeclaims.start import Array, LayerParameters, Parameters, Start

ACTIVATIONS = {
    "identity": kernel.IDENTITY,
    "relu": kernel.RELU,
    "leaky_relu": kernel.LEAKY_RELU,
    "tanh": kernel.TANH,
    "sigmoid": kernel.SIGMOID,
}
LOSSES = {"mse": kernel.MSE, "bce": kernel.BCE, "bce_logits": kernel.BCE_LOGITS}

Orders = npt.NDArray[np.uint32]
# Rows that one entry into the compiled loop visits of each seed: 4 ms at D=2 to 60 ms at D=10, so that Ctrl-C is heard at
# once. With 60,000 a step and replica took half as long again.
ROWS_PER_ENTRY = 1_000_000
# With more parameters than this, which take 16 KB in lanes, seeds are faster one by one: at D=4 (40 parameters) lanes of
# seeds take 0.6 times as long, at D=10 (440) 1.4 times.
MOST_PARAMETERS_IN_LANES = 256
# Of a row, for each parameter; measured for narrow layers, on one processor.
SECONDS_PER_VISIT = 0.5e-9
# Copies of this process that compile the loop for rows in lanes (False) or for seeds in lanes (True); see `compile_ahead`.
COMPILING: dict[bool, BaseProcess] = {}


def compile_ahead(trainings: Iterable[tuple[Experiment, Sequence[int]]], dtype: str) -> None:
    """Have what these trainings need compiled side by side: what the first needs by itself, the rest in a copy of this process.

    Compiled for rows and for seeds in lanes the loop takes 3 s each, on one processor; Numba's cache hands over the code.
    """
    if parallel.cpu_count() < 2 or COMPILING:
        return
    kinds: dict[bool, tuple[Experiment, Start]] = {}
    for experiment, seeds in trainings:
        start = Start(experiment, tuple(seeds), np.dtype(dtype))
        kinds.setdefault(_has_seeds_in_lanes(experiment, start), (replace(experiment, epochs=1), start))
    for kind, (experiment, start) in list(kinds.items())[1:]:
        process = multiprocessing.get_context("fork").Process(target=_compile, args=(experiment, start), daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # of copies of processes with threads: here none trains yet
            process.start()
        COMPILING[kind] = process


def _compile(experiment: Experiment, start: Start) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal
    try:
        train(replace(start, experiment=experiment))
    finally:
        os._exit(0)  # what this process had not written yet when it was copied is not to be written twice


def train(start: Start) -> Run:
    """Train every seed of `start`, on all processors that this process may use."""
    experiment = start.experiment
    if (compiling := COMPILING.pop(_has_seeds_in_lanes(experiment, start), None)) is not None:
        compiling.join()
    population = Population(experiment, start)
    chunk = max(1, ROWS_PER_ENTRY // experiment.n_rows)
    entries = [slice(begin, min(begin + chunk, experiment.epochs)) for begin in range(0, experiment.epochs, chunk)]

    def draw(epochs: slice) -> Orders:
        return np.stack([start.order(epoch) for epoch in range(epochs.start, epochs.stop)])

    visits = experiment.n_rows * experiment.epochs * len(population.seed_batches) * population.packed.shape[1]
    pool = parallel.threads(visits * SECONDS_PER_VISIT)
    try:
        with progress("numba", experiment.epochs, losses=population.epoch_loss) as advance:
            orders = pool.submit(draw, entries[0])
            for epochs, upcoming in zip_longest(entries, entries[1:]):
                trainings = population.begin(pool, orders.result(), epochs)
                if upcoming:  # drawn by whoever has nothing to train
                    orders = pool.submit(draw, upcoming)
                for training in trainings:
                    training.result()
                advance(epochs.stop - epochs.start)
    finally:
        pool.shutdown(cancel_futures=True)
    return Run(start, population.epoch_loss, population.collect())


class Population:
    """All seeds, in crews that threads train side by side."""

    def __init__(self, experiment: Experiment, start: Start) -> None:
        self.model, rows = experiment.model, start.rows()
        self.epoch_loss = np.full((experiment.epochs, len(start.seeds)), np.nan)
        self.packed = _pack(experiment.model, start.parameters(), start.dtype)
        self.seed_batches = [
            SeedBatch(experiment, seeds, rows, self.packed, self.epoch_loss)
            for seeds in _seed_batches(experiment, start)
        ]

    def begin(self, pool: Executor, orders: Orders, epochs: slice) -> list[Future[None]]:
        """Have the pool train these epochs, in these orders: (E, N), or (E, S, N)."""
        return [pool.submit(seed_batch.train, orders, epochs) for seed_batch in self.seed_batches]

    def collect(self) -> Parameters:
        """The parameters as they now are, seeds first."""
        for seed_batch in self.seed_batches:
            seed_batch.scatter(self.packed)
        return _unpack(self.model, self.packed)


def _seed_batches(experiment: Experiment, start: Start) -> list[list[int]]:
    """Which seeds, by their places in the start, are trained at once: one, or as many as there are lanes.

    A crew that is not full is filled up by its last seed, where that is faster than one by one.
    """
    seeds = list(range(len(start.seeds)))
    widths = experiment.model.widths
    parameters = sum((inputs + 1) * outputs for inputs, outputs in pairwise(widths))
    if start.has_shared_rows or parameters > MOST_PARAMETERS_IN_LANES:
        return [[seed] for seed in seeds]
    lanes = kernel.lanes(start.dtype)
    seed_batches = [seeds[at : at + lanes] for at in range(0, len(seeds), lanes)]
    if len(seed_batches[-1]) <= lanes // 2:
        seed_batches += [[seed] for seed in seed_batches.pop()]
    return [
        seed_batch + seed_batch[-1:] * (lanes - len(seed_batch)) if len(seed_batch) > 1 else seed_batch
        for seed_batch in seed_batches
    ]


def _has_seeds_in_lanes(experiment: Experiment, start: Start) -> bool:
    return len(_seed_batches(experiment, start)[0]) > 1


class SeedBatch:
    """One seed, or as many as there are lanes, side by side on the last axis: what one thread trains."""

    def __init__(
        self, experiment: Experiment, seeds: list[int], rows: Array, packed: Array, epoch_loss: Double
    ) -> None:
        self.experiment, self.seeds, self.epoch_loss = experiment, seeds, epoch_loss
        optimizer, settings = _optimizer(experiment)
        model = experiment.model
        self.constants = (
            np.array(model.widths), np.array([ACTIVATIONS[a.kind] for a in model.activations]),
            np.array([a.slope for a in model.activations], rows.dtype), LOSSES[experiment.loss], optimizer, settings,
            experiment.zero_grad,
        )  # fmt: skip
        self.rows = _side_by_side(rows, seeds if len(rows) > 1 else [0])
        parameters = _side_by_side(packed, seeds)
        self.parameters, self.first, self.second = (
            kernel.aligned_zeros(parameters.shape, rows.dtype) for _ in range(3)
        )
        self.parameters[:] = parameters
        self.gradient = kernel.aligned_zeros(
            (len(parameters) + kernel.loss_buffer(parameters), *parameters.shape[1:]), rows.dtype
        )
        self.workspace = kernel.workspace(model.widths, experiment.batch_size, experiment.n_rows, self.gradient)

    def train(self, orders: Orders, epochs: slice) -> None:
        """Train for these epochs, whose orders are (E, N), or (E, S, N)."""
        if orders.ndim == 3:
            orders = np.ascontiguousarray(orders[:, self.seeds[0]])
        losses = np.zeros((len(orders), *self.parameters.shape[1:]))
        steps = self.experiment.steps_per_epoch
        kernel.train_epochs(
            self.rows,
            orders,
            self.experiment.batch_size,
            *self.constants,
            epochs.start * steps,
            *self.workspace,
            self.parameters,
            self.gradient,
            self.first,
            self.second,
            losses,
        )
        self.epoch_loss[epochs, self.seeds] = losses.reshape(len(losses), -1) / steps

    def scatter(self, packed: Array) -> None:
        """Put the parameters back among those of all seeds."""
        packed[self.seeds] = self.parameters.reshape(len(self.parameters), -1).T


def _side_by_side(array: Array, seeds: list[int]) -> Array:
    """(S, ...) to (...) of one seed, or to (..., lanes) of several."""
    if len(seeds) == 1:
        return np.ascontiguousarray(array[seeds[0]])
    placed = kernel.aligned_zeros((*array.shape[1:], len(seeds)), array.dtype)
    placed[:] = np.moveaxis(array[seeds], 0, -1)
    return placed


def _optimizer(experiment: Experiment) -> tuple[int, Any]:
    optimizer = experiment.optimizer
    if isinstance(optimizer, Adam):
        return kernel.ADAM, np.array([optimizer.lr, optimizer.weight_decay, *optimizer.betas, optimizer.eps])
    return kernel.SGD, np.array([optimizer.lr, optimizer.weight_decay, optimizer.momentum])


def _even(width: int) -> int:
    return width + width % 2


def _pack(model: Model, parameters: Parameters, dtype: np.dtype[Any]) -> Array:
    """All parameters of each seed in one row, each layer padded to even widths, all to whole vectors: (S, P)."""
    parts = []
    for (weight, bias), (inputs, outputs) in zip(parameters, pairwise(model.widths), strict=True):
        padded = np.zeros((len(weight), _even(outputs), _even(inputs)), dtype)
        padded[:, :outputs, :inputs] = weight
        padded_bias = np.zeros((len(weight), _even(outputs)), dtype)
        padded_bias[:, :outputs] = bias
        parts += [padded.reshape(len(weight), -1), padded_bias]
    size = sum(part.shape[1] for part in parts)
    return np.concatenate([*parts, np.zeros((len(parts[0]), -size % kernel.lanes(dtype)), dtype)], axis=1)


def _unpack(model: Model, packed: Array) -> Parameters:
    unpacked, offset = [], 0
    for inputs, outputs in pairwise(model.widths):
        end = offset + _even(outputs) * _even(inputs)
        weight = packed[:, offset:end].reshape(-1, _even(outputs), _even(inputs))[:, :outputs, :inputs]
        offset = end + _even(outputs)
        unpacked.append(LayerParameters(weight.copy(), packed[:, end : end + outputs].copy()))
    return tuple(unpacked)
