"""The differences between rows in lanes and seeds in lanes: how rows are laid out, weighted and summed.

Parameters, gradients and moments have the shape (P,) for one seed, or (P, lanes) for as many seeds as there are lanes. A
pointer to them points to numbers or to lanes; these functions are overloaded by that type. A gradient array holds the
loss behind the gradients of the parameters.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
import numba
import numpy as np
from numba.extending import overload

from aeclaims.backends.numba.kernel.horizontal_sums import add_horizontal_sums, horizontal_sums
from aeclaims.backends.numba.kernel.simd import (
    Lanes,
    get,
    lanes_of,
    load,
    numbers,
    offset,
    prefetch,
    put,
    splat,
    store,
    vectors,
)

inlined = numba.njit(error_model="numpy", nogil=True, forceinline=True)


def elements(array, parameters):
    """A pointer to an array's numbers, or to its lanes if the parameters have lanes."""


@overload(elements, jit_options={"forceinline": True})
def _elements(array, parameters):
    if parameters.ndim == 1:
        return lambda array, parameters: numbers(array)
    return lambda array, parameters: vectors(array)


@inlined
def dealt(part, parts):
    """The first row of a part: the bits of the part's number in reverse.

    Neighbouring parts are then the lanes that `horizontal_sums` adds first.
    """
    row, parts = 0, parts // 2
    while parts > 0:
        row, part, parts = 2 * row + part % 2, part // 2, parts // 2
    return row


def gather(values, width, rows, features, order, ahead, count, first, groups):
    """Lay out `groups` vectors of the rows order[:count] as values[feature, lane]; features are `width` numbers apart.

    Rows in lanes are taken one after the other. Seeds in lanes take the rows first, first + lanes, first + 2 lanes, ...
    If lanes are left over, they repeat the last row.
    """


@overload(gather, jit_options={"error_model": "numpy"})
def _gather(values, width, rows, features, order, ahead, count, first, groups):
    def rows_in_lanes(values, width, rows, features, order, ahead, count, first, groups):
        for lane in range(count):
            row, to = offset(rows, np.intp(get(order, lane)) * features), lane
            for feature in range(0, features - 1, 2):
                put(values, to, get(row, feature))
                put(values, to + width, get(row, feature + 1))
                to += 2 * width
            if features % 2:
                put(values, to, get(row, features - 1))
        for feature in range(features):
            for lane in range(count, groups * lanes_of(values)):
                put(values, feature * width + lane, get(values, feature * width + count - 1))

    def seeds_in_lanes(values, width, rows, features, order, ahead, count, first, groups):
        lanes = lanes_of(values)
        for group in range(groups):
            place = min(first + group * lanes, count - 1)
            row = offset(rows, np.intp(get(order, place)) * features)
            later = offset(rows, np.intp(get(order, place + ahead)) * features)
            for feature in range(features):
                prefetch(later, feature)
                store(values, feature * width + group * lanes, get(row, feature))

    return seeds_in_lanes if isinstance(rows.dtype, Lanes) else rows_in_lanes


def weight(parameters, weights, lane):
    """The weights of the rows at `lane` of a part: one for each row in lanes, or the same one for all seeds in lanes."""


@overload(weight, jit_options={"forceinline": True})
def _weight(parameters, weights, lane):
    if isinstance(parameters.dtype, Lanes):
        return lambda parameters, weights, lane: splat(get(weights, lane))
    return lambda parameters, weights, lane: load(weights, lane)


def store_sums_4(sums, at, below, a, b, c, d):
    """Store the sums over rows of a and b at sums[at] and sums[at + 1], and those of c and d `below` numbers further on.

    With rows in lanes, the lanes are summed and added to the stored numbers. With seeds in lanes, each part keeps its
    sums apart until `tree_reduce` adds them.
    """


@overload(store_sums_4, jit_options={"forceinline": True})
def _store_sums_4(sums, at, below, a, b, c, d):
    def rows_in_lanes(sums, at, below, a, b, c, d):
        total_a, total_b, total_c, total_d = horizontal_sums(a, b, c, d)
        put(sums, at, get(sums, at) + total_a)
        put(sums, at + 1, get(sums, at + 1) + total_b)
        at += below
        put(sums, at, get(sums, at) + total_c)
        put(sums, at + 1, get(sums, at + 1) + total_d)

    def seeds_in_lanes(sums, at, below, a, b, c, d):
        store_sums_2(sums, at, a, b)
        store_sums_2(sums, at + below, c, d)

    return seeds_in_lanes if isinstance(sums.dtype, Lanes) else rows_in_lanes


def store_sums_8(sums, at, below, a0, a1, a2, a3, b0, b1, b2, b3):
    """Store the sums over rows of a0 to a3 from sums[at] on, and those of b0 to b3 `below` further on; see `store_sums_4`."""


@overload(store_sums_8, jit_options={"forceinline": True})
def _store_sums_8(sums, at, below, a0, a1, a2, a3, b0, b1, b2, b3):
    def rows_in_lanes(sums, at, below, a0, a1, a2, a3, b0, b1, b2, b3):
        add_horizontal_sums(sums, at, below, a0, a1, a2, a3, b0, b1, b2, b3)

    def seeds_in_lanes(sums, at, below, a0, a1, a2, a3, b0, b1, b2, b3):
        store_sums_4(sums, at, below, a0, a1, b0, b1)
        store_sums_4(sums, at + 2, below, a2, a3, b2, b3)

    return seeds_in_lanes if isinstance(sums.dtype, Lanes) else rows_in_lanes


def store_sums_2(sums, at, a, b):
    """Store the sums over rows of a and b at sums[at] and sums[at + 1]; see `store_sums_4`."""


@overload(store_sums_2, jit_options={"forceinline": True})
def _store_sums_2(sums, at, a, b):
    def rows_in_lanes(sums, at, a, b):
        total_a, total_b, _, _ = horizontal_sums(a, b, a, b)
        put(sums, at, get(sums, at) + total_a)
        put(sums, at + 1, get(sums, at + 1) + total_b)

    def seeds_in_lanes(sums, at, a, b):
        put(sums, at, a)
        put(sums, at + 1, b)

    return seeds_in_lanes if isinstance(sums.dtype, Lanes) else rows_in_lanes


def tree_reduce(gradient, size, sums, top, parts, passes):
    """Add up the sums of `parts` parts that lie on the stack from `top`, after `passes` passes; returns the new top.

    Two entries that sum the same number of parts become one, as in a binary counter. After the last pass, the only entry
    left is added to the gradient.
    """


@overload(tree_reduce, jit_options={"error_model": "numpy"})
def _tree_reduce(gradient, size, sums, top, parts, passes):
    if not isinstance(gradient.dtype, Lanes):
        return lambda gradient, size, sums, top, parts, passes: 0

    def tree_reduce_seeds(gradient, size, sums, top, parts, passes):
        step = 1
        while step < parts:
            for part in range(top, top + parts, 2 * step):
                _add(offset(sums, part * size), offset(sums, (part + step) * size), size)
            step *= 2
        done = passes * parts
        while passes % 2 == 0:
            top, passes = top - 1, passes // 2
            _add(offset(sums, top * size), offset(sums, (top + 1) * size), size)
        if done < lanes_of(gradient):
            return top + 1
        _add(gradient, sums, size)
        return 0

    return tree_reduce_seeds


@inlined
def _add(target, source, size):
    for at in range(size):
        put(target, at, get(target, at) + get(source, at))


def add_loss(epoch_loss, epoch, gradient, at):
    """Add the loss in a gradient array to the epoch's loss, in double precision."""


@overload(add_loss, jit_options={"forceinline": True})
def _add_loss(epoch_loss, epoch, gradient, at):
    def of_one(epoch_loss, epoch, gradient, at):
        epoch_loss[epoch] += gradient[at]

    def of_seeds(epoch_loss, epoch, gradient, at):
        for lane in range(gradient.shape[1]):
            epoch_loss[epoch, lane] += gradient[at, lane]

    return of_one if gradient.ndim == 1 else of_seeds
