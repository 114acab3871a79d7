"""The numba backend: independent of torch, and the fastest here for populations of tiny networks.

One compiled loop (kernel/) trains the seeds. It releases Python's global lock, so threads run in parallel. Each thread
trains one seed, or as many seeds at once as a vector has lanes. Each call of the loop trains a few epochs. Between two
calls, Python shows the progress and handles Ctrl-C.
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
# Rows of each seed that one call of the compiled loop visits: 4 ms at D=2 to 60 ms at D=10, so Ctrl-C acts at once.
# With 60,000 rows, a step of one seed took 1.5 times as long.
ROWS_PER_ENTRY = 1_000_000
# If a model has more parameters than this (16 KB in lanes), seeds train faster one by one. Relative to that, lanes of
# seeds take 0.6 times as long at D=4 (40 parameters), and 1.4 times as long at D=10 (440).
MOST_PARAMETERS_IN_LANES = 256
# For one row and one parameter; measured for narrow layers, on one processor.
SECONDS_PER_VISIT = 0.5e-9
# Forked processes that compile the loop for rows in lanes (False) or for seeds in lanes (True); see `compile_ahead`.
COMPILING: dict[bool, BaseProcess] = {}


def compile_ahead(trainings: Iterable[tuple[Experiment, Sequence[int]]], dtype: str) -> None:
    """Start to compile the loop for these trainings in parallel.

    The first training compiles its variant of the loop in this process. A forked process compiles the other variant. Each
    variant, rows in lanes or seeds in lanes, takes 3 s to compile on one processor. Numba's cache passes the code on.
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
            # Python warns when a process with threads forks. No thread trains at this point.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        COMPILING[kind] = process


def _compile(experiment: Experiment, start: Start) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal
    try:
        train(replace(start, experiment=experiment))
    finally:
        os._exit(0)  # without a flush: the parent process writes the output that was buffered at the fork


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
                if upcoming:  # the first idle thread draws the next orders
                    orders = pool.submit(draw, upcoming)
                for training in trainings:
                    training.result()
                advance(epochs.stop - epochs.start)
    finally:
        pool.shutdown(cancel_futures=True)
    return Run(start, population.epoch_loss, population.collect())


class Population:
    """All seeds, in batches that threads train in parallel."""

    def __init__(self, experiment: Experiment, start: Start) -> None:
        self.model, rows = experiment.model, start.rows()
        self.epoch_loss = np.full((experiment.epochs, len(start.seeds)), np.nan)
        self.packed = _pack(experiment.model, start.parameters(), start.dtype)
        self.seed_batches = [
            SeedBatch(experiment, seeds, rows, self.packed, self.epoch_loss)
            for seeds in _seed_batches(experiment, start)
        ]

    def begin(self, pool: Executor, orders: Orders, epochs: slice) -> list[Future[None]]:
        """Submit the training of these epochs to the pool.

        Args:
            pool: The executor.
            orders: The orders of the rows, shape (E, N) or (E, S, N).
            epochs: The numbers of the epochs.
        Returns:
            One future for each seed batch.
        """
        return [pool.submit(seed_batch.train, orders, epochs) for seed_batch in self.seed_batches]

    def collect(self) -> Parameters:
        """The current parameters; the first axis is the seeds."""
        for seed_batch in self.seed_batches:
            seed_batch.scatter(self.packed)
        return _unpack(self.model, self.packed)


def _seed_batches(experiment: Experiment, start: Start) -> list[list[int]]:
    """The indices of the seeds in each batch: one seed, or as many as there are lanes.

    If the last batch is not full, its last seed is repeated, unless its seeds train faster one by one.
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
    """The seeds that one thread trains together: one seed, or as many as there are lanes, on the last axis."""

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
        """Train for these epochs; `orders` has shape (E, N) or (E, S, N)."""
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
        """Write the parameters into the array of all seeds."""
        packed[self.seeds] = self.parameters.reshape(len(self.parameters), -1).T


def _side_by_side(array: Array, seeds: list[int]) -> Array:
    """Select seeds from (S, ...): returns (...) for one seed, and (..., lanes) for several."""
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
    """All parameters of each seed in one row, shape (S, P).

    Each layer is padded to even widths, and each row to a whole number of vectors.
    """
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
