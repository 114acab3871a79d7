"""The training loop: epochs, minibatches, blocks of rows, and the passes over the network for each block."""

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

# Rows in a block of a minibatch. The intermediate values of a block stay in the cache. Float32 sums over a large
# minibatch become sums of short sums.
BLOCK = 128
# Bytes of the first-level cache for the values of one pass. Half and twice as many were slower with a cache of 48 KB.
MOST_BYTES = 24_000
# Bytes of a cache line, and of the longest vector.
LINE = 64


def workspace(
    widths: tuple[int, ...],
    batch_size: int,
    n_rows: int,
    gradient: Array,
) -> tuple[int, Array, Array, Array]:
    """Allocate the buffers of a training.

    Each part has its values for a pass. Its sums lie on a stack, on which `tree_reduce` adds pairs. Rows in lanes are
    one part, and its sums go to the gradient.

    Returns:
        The number of parts in a pass, and the arrays of values, weights and sums.
    """
    lanes, layers, widest = BITS // (8 * gradient.itemsize), len(widths) - 1, max(widths) + max(widths) % 2
    tile, longest = TILE * lanes, min(BLOCK, batch_size, n_rows)
    rows = -(-longest // tile) * tile
    all_parts = gradient.size // len(gradient)
    bytes_of_part = (layers + 3) * widest * rows * gradient.itemsize
    parts = 1
    while parts < all_parts and 2 * parts * bytes_of_part <= MOST_BYTES:
        parts *= 2
    # One more vector: cache lines that are 4 KiB apart would evict each other.
    values = aligned_zeros((layers + 3) * widest * (parts * rows + lanes), gradient.dtype)
    pile = parts + (all_parts // parts).bit_length() - 1
    sums = gradient if all_parts == 1 else aligned_zeros((pile * len(gradient), all_parts), gradient.dtype)
    return parts, values, aligned_zeros(rows, gradient.dtype), sums


def aligned_zeros(shape: int | tuple[int, ...], dtype: Any) -> Array:
    """Zeros that begin and end at cache lines.

    No vector spans two lines, which would take two loads, and no two arrays share a line.
    """
    size, per_line = int(np.prod(shape)), LINE // np.dtype(dtype).itemsize
    room = np.zeros(-(-size // per_line) * per_line + per_line, dtype)
    begin = -room.ctypes.data % LINE // room.itemsize
    return room[begin : begin + size].reshape(shape)


@numba.njit(inline="always")
def _pass(network, parameters, sums, top, size, loss_at, first, parts, values, width, weights, groups):
    """Run the network forward and backward over `parts` parts of a block, from `first` on.

    The sums of these parts go on the stack at `top`. `values` has the shape (layers + 3, units, lanes): the inputs, each
    layer's outputs, and two slots in which gradients by outputs and by inputs alternate.
    """
    widths, even, activations, leaks, loss, block = network
    part_length, layers = groups * lanes_of(values), activations.size
    end, sums = parts * part_length, offset(sums, top * size)
    # These are variables, because Numba would compile the function again for each literal number in a call.
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
    """Train; see `train_epochs`."""
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
    # Each step multiplies both powers once more. Computing them anew cost 0.02 of a step's 0.27 us at D=2.
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
