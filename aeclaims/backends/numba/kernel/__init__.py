"""The reference's training loop, compiled by Numba, with every gradient written by hand.

All arithmetic is on lanes (lanes.py), and a lane is one of two things:

- a row: 16 rows of one seed's minibatch side by side. Parameters are numbers, spread over the lanes, and a gradient is
  summed over them. One seed alone is as fast as one of many.
- a seed: the same row of 16 seeds side by side. Parameters are lanes, and a gradient is added row by row. Nothing is
  gathered number by number and nothing is summed across lanes, which makes up half of a step of two features; but all
  parameters take 16 times as much room in the cache.

The code is the same, compiled for each: what differs stands in layouts.py. So are the sums, to the last bit: a block of
rows is dealt out to as many parts as there are lanes, like cards; a part is what one lane of rows adds up, and parts are
added as `totals` adds lanes, halves first.

Layout: values[(layer, unit), lanes of rows], so that inner loops run over contiguous memory. Products take two outputs and
four lanes of rows at a time, which keeps eight sums in registers for six loads; gradients take two outputs and four inputs.
All arrays begin on lines of the cache, so that no vector lies across two: a step at D=10 takes 0.87 times as long as by chance.
Odd widths are padded by a unit whose parameters are zero and whose activation is never applied: it stays zero, and so do
its gradients. Rows that fill up the last lanes repeat one of the minibatch and weigh nothing.

Nothing assumes that NaN or infinity cannot occur: a diverged replica stays visible. The stored activation is an output,
never an input: each derivative is written in terms of the output.
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
    """How many numbers of that type are trained side by side."""
    return BITS // (8 * int(np.dtype(dtype).itemsize))


def loss_buffer(parameters: Any) -> int:
    """How many numbers, or lanes, a gradient has more than the parameters, for the loss: whole vectors, two where sums go."""
    return lanes(parameters.dtype) if parameters.ndim == 1 else 2


def _sources():
    """A number that stands for this folder's code: Numba's cache by itself would look at this file only."""
    text = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return int.from_bytes(hashlib.sha256(text).digest()[:7])


def _entry(sources):
    @numba.njit(error_model="numpy", nogil=True, cache=True)
    def train_epochs(
        rows, orders, batch_size, widths, activations, leaks, loss, optimizer, settings, clears, steps_done,
        parts, values, weights, sums, parameters, gradient, first, second, epoch_loss,
    ):  # fmt: skip
        """Train one seed, or as many as there are lanes, for orders.shape[0] epochs; updates the last five arrays in place.

        rows (N, D) or (N, D, lanes); orders (E, N); widths (L + 1,); activations and leaks (L,); parts to sums: a
        `workspace`; parameters, first and second (P,) or (P, lanes): for each layer the weight (outputs, inputs), then the
        bias, at widths rounded up to even, then zeros up to a whole number of vectors; gradient `loss_room` more;
        epoch_loss, to which the sums of each epoch's minibatch losses are added, (E,) or (E, lanes).
        Returns the number of the sources it was compiled from.
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
