"""The reference's training loop, compiled by Numba, with every gradient written by hand.

All arithmetic works on lanes (simd.py). A lane holds one of two things:

- A row: 16 rows of one seed's minibatch side by side. Parameters are numbers, copied to all lanes, and a gradient is
  summed over the lanes. One seed alone is as fast as one of many.
- A seed: the same row of 16 seeds side by side. Parameters are lanes, and a gradient is added row by row. No number is
  gathered alone, and no sum runs across lanes. Both together take half of a step at D=2. But the parameters take 16 times
  as much space in the cache.

The same code is compiled for both layouts; layouts.py holds the differences. The sums are the same too, to the last bit.
A block of rows is dealt like cards to as many parts as there are lanes. A part holds the rows that one lane of rows adds
up. Parts are added in the order in which `horizontal_sums` adds lanes: halves first.

The layout is values[(layer, unit), lanes of rows], so inner loops run over contiguous memory. Products take two outputs
and four vectors of rows at a time, which keeps eight sums in registers for six loads. Gradients take two outputs and four
inputs. All arrays begin at a cache line, so no vector spans two lines. With this alignment, a step at D=10 takes 0.87
times as long as with the default one.

An odd width is padded by a unit with zero parameters and no activation. The unit stays zero, and so do its gradients. If
rows do not fill the last lanes, these lanes repeat a row of the minibatch with weight zero.

The code does not assume that NaN or infinity cannot occur, so a diverged seed stays visible. Only outputs of activations
are stored, so each derivative is written in terms of the output.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
import hashlib
from pathlib import Path
from typing import Any

import numba
import numpy as np

from aeclaims.backends.numba.kernel.network import (
    ADAM,
    BCE,
    BCE_LOGITS,
    IDENTITY,
    LEAKY_RELU,
    MSE,
    RELU,
    SGD,
    SIGMOID,
    TANH,
)
from aeclaims.backends.numba.kernel.simd import BITS
from aeclaims.backends.numba.kernel.training import aligned_zeros, train, workspace

__all__ = [
    "ADAM",
    "BCE",
    "BCE_LOGITS",
    "IDENTITY",
    "LEAKY_RELU",
    "MSE",
    "RELU",
    "SGD",
    "SIGMOID",
    "TANH",
    "aligned_zeros",
    "lanes",
    "loss_buffer",
    "train_epochs",
    "workspace",
]


def lanes(dtype: Any) -> int:
    """The number of lanes: numbers of this type in one vector."""
    return BITS // (8 * int(np.dtype(dtype).itemsize))


def loss_buffer(parameters: Any) -> int:
    """The space that a gradient has for the loss, behind the parameters: one whole vector, or two lanes."""
    return lanes(parameters.dtype) if parameters.ndim == 1 else 2


def _sources():
    """A hash of this folder's code: Numba's cache would check this file only."""
    text = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return int.from_bytes(hashlib.sha256(text).digest()[:7])


def _entry(sources):
    @numba.njit(error_model="numpy", nogil=True, cache=True)
    def train_epochs(
        rows, orders, batch_size, widths, activations, leaks, loss, optimizer, settings, clears, steps_done,
        parts, values, weights, sums, parameters, gradient, first, second, epoch_loss,
    ):  # fmt: skip
        """Train one seed, or as many seeds as there are lanes, for E epochs; updates the last five arrays in place.

        Args:
            rows: Shape (N, D) or (N, D, lanes).
            orders: The order of the rows in each epoch, shape (E, N).
            batch_size: Rows in a minibatch.
            widths: Of the layers, shape (L + 1,).
            activations: Their codes, shape (L,).
            leaks: The slopes of leaky ReLUs, shape (L,).
            loss: Its code.
            optimizer: Its code.
            settings: Numbers of the optimizer; see `step`.
            clears: Whether each step first sets the gradient to zero.
            steps_done: Steps before this call.
            parts, values, weights, sums: A `workspace`.
            parameters: Shape (P,) or (P, lanes). Each layer has its weight (outputs, inputs), then its bias, at widths
                rounded up to even. Zeros follow up to a whole number of vectors.
            gradient: Like the parameters, with `loss_buffer` more entries.
            first: The optimizer's first moment, like the parameters.
            second: Its second moment, like the parameters.
            epoch_loss: Shape (E,) or (E, lanes). Each epoch's sum of minibatch losses is added to it.
        Returns:
            The hash of the sources from which this function was compiled.
        """
        train(
            rows,
            orders,
            batch_size,
            widths,
            activations,
            leaks,
            loss,
            optimizer,
            settings,
            clears,
            steps_done,
            parts,
            values,
            weights,
            sums,
            parameters,
            gradient,
            first,
            second,
            epoch_loss,
        )
        return sources

    return train_epochs


train_epochs = _entry(_sources())
