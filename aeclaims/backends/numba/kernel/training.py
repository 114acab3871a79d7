"""The training loop: epochs, minibatches, blocks of rows, and the passes over the network that each takes."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from typing import Any

import numba
import numpy as np

from aeclaims.backends.numba.kernel.layouts import add_loss, dealt, elements, gather, tree_reduce
from aeclaims.backends.numba.kernel.network import (
    ADAM,
    IDENTITY,
    TILE,
    activate,
    activation_backward,
    dense,
    step,
    sum_losses,
    weight_gradients,
)
from aeclaims.backends.numba.kernel.simd import BITS, lanes_of, numbers, offset, store, zeros
from aeclaims.start import Array

# Rows of a minibatch are trained in blocks of this many: what lies in between stays in the cache, and float32 sums of a
# large minibatch are sums of short ones.
BLOCK = 128
# What the values of one pass may take of the first cache, of 48 KB where this was measured: half and twice are slower.
MOST_BYTES = 24_000
# Bytes of a line of the cache, and of the longest vector.
LINE = 64


def workspace(
    widths: tuple[int, ...],
    batch_size: int,
    n_rows: int,
    gradient: Array,
) -> tuple[int, Array, Array, Array]:
    """What a training works in: how many parts a pass takes, and its arrays of values, weights and sums.

    Each part has its values for a pass. Its sums lie on a pile, on which two become one (`merge`); rows in lanes are one part,
    whose sums go to the gradient.
    """
    lanes, layers, widest = BITS // (8 * gradient.itemsize), len(widths) - 1, max(widths) + max(widths) % 2
    tile, longest = TILE * lanes, min(BLOCK, batch_size, n_rows)
    rows = -(-longest // tile) * tile
    all_parts = gradient.size // len(gradient)
    bytes_of_part = (layers + 3) * widest * rows * gradient.itemsize
    parts = 1
    while parts < all_parts and 2 * parts * bytes_of_part <= MOST_BYTES:
        parts *= 2
    # One vector more: lines 4 KiB apart would get in each other's way.
    values = aligned_zeros((layers + 3) * widest * (parts * rows + lanes), gradient.dtype)
    pile = parts + (all_parts // parts).bit_length() - 1
    sums = gradient if all_parts == 1 else aligned_zeros((pile * len(gradient), all_parts), gradient.dtype)
    return parts, values, aligned_zeros(rows, gradient.dtype), sums


def aligned_zeros(shape: int | tuple[int, ...], dtype: Any) -> Array:
    """Zeros that begin and end on lines of the cache: no vector lies across two, which takes two loads, and no line is shared."""
    size, per_line = int(np.prod(shape)), LINE // np.dtype(dtype).itemsize
    room = np.zeros(-(-size // per_line) * per_line + per_line, dtype)
    begin = -room.ctypes.data % LINE // room.itemsize
    return room[begin : begin + size].reshape(shape)


@numba.njit(inline="always")
def _pass(network, parameters, sums, top, size, loss_at, first, parts, values, width, weights, groups):
    """Forward and back through the network over `parts` parts of a block from `first` on: their sums go on the pile at `top`.

    values: (layers + 3, units, lanes): inputs, each layer's outputs, and by turns the gradients by outputs and by inputs.
    """
    widths, even, activations, leaks, loss, block = network
    part_length, layers = groups * lanes_of(values), activations.size
    end, sums = parts * part_length, offset(sums, top * size)
    # As variables: for each number that is written into a call Numba would compile the function again.
    at, inputs, one_apart, no_bias = 0, values, np.intp(1), np.intp(-1)
    for layer in range(layers):
        i, o, outputs = even[layer], even[layer + 1], offset(inputs, block)
        dense(offset(parameters, at), o * i, i, one_apart, inputs, outputs, width, o, i, end)
        if activations[layer] != IDENTITY:
            activate(activations[layer], leaks[layer], outputs, width, widths[layer + 1], end)
        at += (i + 1) * o
        inputs = outputs
    slopes, others = offset(inputs, block), offset(inputs, 2 * block)
    sum_losses(
        loss,
        parameters,
        weights,
        first,
        values,
        inputs,
        slopes,
        width,
        widths[layers],
        part_length,
        parts,
        offset(sums, loss_at),
        size,
    )
    for layer in range(layers - 1, -1, -1):
        i, o, outputs, inputs = even[layer], even[layer + 1], inputs, offset(inputs, -block)
        at -= (i + 1) * o
        if activations[layer] != IDENTITY:
            activation_backward(activations[layer], leaks[layer], outputs, slopes, width, widths[layer + 1], end)
        weight_gradients(slopes, inputs, width, part_length, parts, sums, size, at, o, i)
        if layer > 0:
            dense(offset(parameters, at), no_bias, one_apart, i, slopes, others, width, i, o, end)
            slopes, others = others, slopes


@numba.njit(inline="always")
def train(
    rows, orders, batch_size, widths, activations, leaks, loss, optimizer, settings, clears, steps_done,
    parts, values_kept, weights_kept, sums_kept, parameters, gradient, first, second, epoch_loss,
):  # fmt: skip
    """What `train_epochs` does."""
    n_rows, features, layers, lanes = rows.shape[0], rows.shape[1], activations.size, lanes_of(leaks)
    all_parts, size, loss_at = gradient.size // gradient.shape[0], gradient.shape[0], parameters.shape[0]
    width = parts * weights_kept.size + lanes
    values, weights, order_at = numbers(values_kept), numbers(weights_kept), numbers(orders)
    rows_at, own, slopes, sums = (
        elements(rows, parameters),
        elements(parameters, parameters),
        elements(gradient, parameters),
        elements(sums_kept, parameters),
    )
    network = (widths, widths + widths % 2, activations, leaks, loss, values_kept.size // (layers + 3))
    # Multiplied on: to take the two powers anew in each step cost 0.02 of its 0.27 us at D=2.
    beta1, beta2 = (settings[2], settings[3]) if optimizer == ADAM else (0.0, 0.0)
    rest1, rest2 = beta1**steps_done, beta2**steps_done
    weighed = (0, 0)
    for epoch in range(orders.shape[0]):
        for begin in range(0, n_rows, batch_size):
            length = min(batch_size, n_rows - begin)
            for at in range(0 if clears else parameters.size, gradient.size, lanes):
                store(numbers(gradient), at, zeros(values))
            for block in range(begin, begin + length, BLOCK):
                count = min(BLOCK, begin + length - block)
                groups = -(-count // (TILE * lanes)) * TILE
                if weighed != (count, length):
                    weighed = (count, length)
                    share = parameters.dtype.type(1.0 / (length * widths[layers]))
                    for row in range(weights_kept.size):
                        weights_kept[row] = share if row < count else 0
                order, top = offset(order_at, epoch * n_rows + block), np.intp(0)
                ahead = BLOCK if block + 2 * BLOCK <= n_rows else 0
                for passed in range(0, all_parts, parts):
                    for part in range(parts):
                        gather(
                            offset(values, part * groups * lanes),
                            width,
                            rows_at,
                            features,
                            order,
                            ahead,
                            count,
                            dealt(passed + part, all_parts),
                            groups,
                        )
                    _pass(network, own, sums, top, size, loss_at, passed, parts, values, width, weights, groups)
                    top = tree_reduce(slopes, size, sums, top, parts, passed // parts + 1)
            add_loss(epoch_loss, epoch, gradient, loss_at)
            rest1 *= beta1
            rest2 *= beta2
            step(
                optimizer,
                settings,
                rest1,
                rest2,
                parameters.size,
                numbers(parameters),
                numbers(gradient),
                numbers(first),
                numbers(second),
            )
