"""The reference backend: the oracle, independent of torch, and the fastest here for populations of tiny networks.

Each seed is trained by one compiled loop (kernel.py) that holds no Python lock, so threads run seeds side by side. The
loop is entered for a few epochs at a time: between two entries progress is shown and Ctrl-C is heard.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from aeclaims.backends import kernel
from aeclaims.experiment import Adam, Experiment, Model
from aeclaims.progress import progress
from aeclaims.run import Run
from aeclaims.start import Affine, Array, Parameters, Start

ACTIVATIONS = {"identity": kernel.IDENTITY, "relu": kernel.RELU, "leaky_relu": kernel.LEAKY_RELU,
               "tanh": kernel.TANH, "sigmoid": kernel.SIGMOID}
LOSSES = {"mse": kernel.MSE, "bce": kernel.BCE, "bce_logits": kernel.BCE_LOGITS}

# Rows that one entry into the compiled loop visits: 4 ms at D=2 to 60 ms at D=10, so that Ctrl-C is heard at once. Fewer
# were slower (0.53 against 0.36 us per step and replica with 60,000, in one run).
ROWS_PER_ENTRY = 1_000_000


def train(experiment: Experiment, start: Start) -> Run:
    """Train every seed of `start`, on all processors that this process may use."""
    model, dtype = experiment.model, start.dtype
    rows = start.rows()
    parameters = _pack(model, start.parameters(), dtype)
    gradient, first, second = (np.zeros_like(parameters) for _ in range(3))
    epoch_loss = np.empty((len(start.seeds), experiment.epochs))
    optimizer, settings = _optimizer(experiment)
    constants = (
        np.array(model.widths), np.array([ACTIVATIONS[a.kind] for a in model.activations]),
        np.array([a.slope for a in model.activations], dtype), LOSSES[experiment.loss], optimizer, settings,
        experiment.clear_gradients,
    )  # fmt: skip

    def train_seed(seed: int, orders: npt.NDArray[np.uint32], epochs: slice) -> None:
        own = seed if len(rows) > 1 else 0
        kernel.train_epochs(
            rows[own], orders[:, seed] if orders.ndim == 3 else orders, experiment.batch_size, *constants,
            epochs.start * experiment.steps_per_epoch, parameters[seed], gradient[seed], first[seed], second[seed],
            epoch_loss[seed, epochs],
        )  # fmt: skip

    chunk = max(1, ROWS_PER_ENTRY // experiment.n_rows)
    pool = ThreadPoolExecutor(_processors())
    try:
        with progress("reference", experiment.epochs) as advance:
            for begin in range(0, experiment.epochs, chunk):
                epochs = slice(begin, min(begin + chunk, experiment.epochs))
                orders = np.stack([start.order(epoch) for epoch in range(epochs.start, epochs.stop)])
                for _ in pool.map(lambda seed: train_seed(seed, orders, epochs), range(len(start.seeds))):  # noqa: B023
                    pass
                advance(epochs.stop - epochs.start)
    finally:
        pool.shutdown(cancel_futures=True)
    return Run(start, epoch_loss.T.copy(), _unpack(model, parameters))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _optimizer(experiment: Experiment) -> tuple[int, Any]:
    optimizer = experiment.optimizer
    if isinstance(optimizer, Adam):
        return kernel.ADAM, np.array([optimizer.lr, optimizer.weight_decay, *optimizer.betas, optimizer.eps])
    return kernel.SGD, np.array([optimizer.lr, optimizer.weight_decay, optimizer.momentum])


def _even(width: int) -> int:
    return width + width % 2


def _pack(model: Model, parameters: Parameters, dtype: np.dtype[Any]) -> Array:
    """All parameters of each seed in one row, each layer padded to even widths: (S, P)."""
    parts = []
    for (weight, bias), inputs, outputs in zip(parameters, model.widths, model.widths[1:], strict=False):
        padded = np.zeros((len(weight), _even(outputs), _even(inputs)), dtype)
        padded[:, :outputs, :inputs] = weight
        padded_bias = np.zeros((len(weight), _even(outputs)), dtype)
        padded_bias[:, :outputs] = bias
        parts += [padded.reshape(len(weight), -1), padded_bias]
    return np.concatenate(parts, axis=1)


def _unpack(model: Model, packed: Array) -> Parameters:
    unpacked, offset = [], 0
    for inputs, outputs in zip(model.widths, model.widths[1:], strict=False):
        end = offset + _even(outputs) * _even(inputs)
        weight = packed[:, offset:end].reshape(-1, _even(outputs), _even(inputs))[:, :outputs, :inputs]
        offset = end + _even(outputs)
        unpacked.append(Affine(weight.copy(), packed[:, end : end + outputs].copy()))
    return tuple(unpacked)
