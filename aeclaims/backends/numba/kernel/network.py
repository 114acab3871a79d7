"""Layers, losses and optimizers on a block of rows, forward and backward, with hand-written gradients."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
import numba
import numpy as np

from aeclaims.backends.numba.kernel.layouts import dealt, store_sums_2, store_sums_4, store_sums_8, weight
from aeclaims.backends.numba.kernel.simd import (
    fma,
    get,
    has_lanes,
    lanes_of,
    least_normal,
    load,
    offset,
    splat,
    sqrt,
    store,
    where,
    zeros,
)
from aeclaims.backends.numba.kernel.vector_math import exp, log, log1p

# The codes of activations, losses and optimizers in compiled code.
IDENTITY, RELU, LEAKY_RELU, TANH, SIGMOID = range(5)
MSE, BCE, BCE_LOGITS = range(3)
ADAM, SGD = range(2)

# Vectors of rows that a product takes at a time.
TILE = 4

# Separate functions: if all were one, registers would run out.
compiled = numba.njit(error_model="numpy", nogil=True)


@compiled
def dense(parameters, bias, by_output, by_input, source, result, width, outputs, inputs, end):
    """Compute result = weight source + bias, each of shape (units, lanes), with units `width` numbers apart.

    If `bias` is negative, there is no bias. The weight of an output and an input is
    parameters[output * by_output + input * by_input]. The forward pass reads the weight by rows. The backward pass reads
    it by columns; it turns the gradient by an affine layer's outputs into the one by its inputs.
    """
    lanes = lanes_of(source)
    for k in range(0, end, TILE * lanes):
        for output in range(0, outputs, 2):
            a0 = b0 = zeros(source)
            if bias >= 0:
                a0, b0 = splat(get(parameters, bias + output)), splat(get(parameters, bias + output + 1))
            a1 = a2 = a3 = a0
            b1 = b2 = b3 = b0
            weights, x = offset(parameters, output * by_output), offset(source, k)
            for _ in range(inputs):
                x0, x1, x2, x3 = load(x, 0), load(x, lanes), load(x, 2 * lanes), load(x, 3 * lanes)
                a, b = splat(get(weights, 0)), splat(get(weights, by_output))
                a0, a1, a2, a3 = fma(a, x0, a0), fma(a, x1, a1), fma(a, x2, a2), fma(a, x3, a3)
                b0, b1, b2, b3 = fma(b, x0, b0), fma(b, x1, b1), fma(b, x2, b2), fma(b, x3, b3)
                weights, x = offset(weights, by_input), offset(x, width)
            y = offset(result, output * width + k)
            store(y, 0, a0)
            store(y, lanes, a1)
            store(y, 2 * lanes, a2)
            store(y, 3 * lanes, a3)
            y = offset(y, width)
            store(y, 0, b0)
            store(y, lanes, b1)
            store(y, 2 * lanes, b2)
            store(y, 3 * lanes, b3)


@compiled
def weight_gradients(slopes, source, width, part_length, parts, sums, size, at, outputs, inputs):
    """Store the weight's gradient, slopes source^T, at sums[at], and the bias's gradient, the sums of slopes, behind it.

    Each part has `part_length` numbers; the sums of two parts are `size` apart.
    """
    lanes = lanes_of(slopes)
    for part in range(parts):
        own = offset(sums, part * size + at)
        for output in range(0, outputs, 2):
            left = offset(slopes, output * width + part * part_length)
            for i in range(0, inputs - 2, 4):
                right = offset(source, i * width + part * part_length)
                a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = zeros(slopes)
                for k in range(0, part_length, lanes):
                    a, b, x0, x1 = load(left, k), load(left, width + k), load(right, k), load(right, width + k)
                    x2, x3 = load(right, 2 * width + k), load(right, 3 * width + k)
                    a0, a1, a2, a3 = fma(a, x0, a0), fma(a, x1, a1), fma(a, x2, a2), fma(a, x3, a3)
                    b0, b1, b2, b3 = fma(b, x0, b0), fma(b, x1, b1), fma(b, x2, b2), fma(b, x3, b3)
                store_sums_8(own, output * inputs + i, inputs, a0, a1, a2, a3, b0, b1, b2, b3)
            sum_a = sum_b = a0 = a1 = b0 = b1 = zeros(slopes)
            if inputs % 4:  # two inputs are left
                right = offset(source, (inputs - 2) * width + part * part_length)
                for k in range(0, part_length, lanes):
                    a, b, x0, x1 = load(left, k), load(left, width + k), load(right, k), load(right, width + k)
                    a0, a1, b0, b1 = fma(a, x0, a0), fma(a, x1, a1), fma(b, x0, b0), fma(b, x1, b1)
                    sum_a, sum_b = sum_a + a, sum_b + b
                store_sums_4(own, output * inputs + inputs - 2, inputs, a0, a1, b0, b1)
            else:
                for k in range(0, part_length, lanes):
                    sum_a, sum_b = sum_a + load(left, k), sum_b + load(left, width + k)
            store_sums_2(own, outputs * inputs + output, sum_a, sum_b)


@compiled
def activate(kind, leak, values, width, units, end):
    """Apply an activation to values, (units, lanes), in place."""
    lanes = lanes_of(values)
    for unit in range(units):
        row = offset(values, unit * width)
        if kind in (RELU, LEAKY_RELU):
            for k in range(0, end, lanes):
                z = load(row, k)
                store(row, k, where(z <= 0, z * leak, z))
        elif kind == TANH:
            for k in range(0, end, lanes):
                z = load(row, k)
                shrunk = exp(abs(z) * -2)
                size = (1 - shrunk) / (1 + shrunk)
                store(row, k, where(z < 0, -size, size))
        elif kind == SIGMOID:
            for k in range(0, end, lanes):
                store(row, k, 1 / (1 + exp(-load(row, k))))


@compiled
def activation_backward(kind, leak, values, slopes, width, units, end):
    """Turn the gradient by an activation's outputs into the one by its inputs, in place."""
    lanes = lanes_of(values)
    for unit in range(units):
        outputs, row = offset(values, unit * width), offset(slopes, unit * width)
        if kind in (RELU, LEAKY_RELU):
            for k in range(0, end, lanes):
                slope = load(row, k)
                store(row, k, where(load(outputs, k) <= 0, slope * leak, slope))
        elif kind == TANH:
            for k in range(0, end, lanes):
                y = load(outputs, k)
                store(row, k, load(row, k) * (1 - y * y))
        elif kind == SIGMOID:
            for k in range(0, end, lanes):
                y = load(outputs, k)
                store(row, k, load(row, k) * ((1 - y) * y))


@compiled
def sum_losses(
    kind, parameters, weights, first, targets, outputs, slopes, width, units, part_length, parts, sums, size
):
    """Store the loss at sums[0], summed over rows with their weights, and its gradient by the outputs in `slopes`.

    Each part has its sum, as in `weight_gradients`; `first` is the number of the first part.

    BCE follows torch.nn.BCELoss: logarithms are at least -100, and the gradient's denominator is at least 1e-12. The
    gradient of BCE on logits, sigmoid(y) - x, is written without cancellation: (1 - x) sigmoid(y) - x sigmoid(-y).
    """
    lanes, all_parts = lanes_of(targets), lanes_of(targets) if has_lanes(parameters) else 1
    for part in range(parts):
        shares, total = offset(weights, dealt(first + part, all_parts)), zeros(targets)
        for unit in range(units):
            at = unit * width + part * part_length
            x_at, y_at, slope_at, lost = offset(targets, at), offset(outputs, at), offset(slopes, at), zeros(targets)
            if kind == MSE:
                for k in range(0, part_length, lanes):
                    error = load(y_at, k) - load(x_at, k)
                    weighed = weight(parameters, shares, k) * error
                    lost = fma(weighed, error, lost)
                    store(slope_at, k, weighed + weighed)
            elif kind == BCE:
                for k in range(0, part_length, lanes):
                    x, y, share = load(x_at, k), load(y_at, k), weight(parameters, shares, k)
                    rest = 1 - y
                    log_y, log_rest, spread_of_y = log(y), log1p(-y), rest * y
                    log_y, log_rest = where(log_y < -100, -100, log_y), where(log_rest < -100, -100, log_rest)
                    lost = fma(-share, fma(x, log_y, (1 - x) * log_rest), lost)
                    store(slope_at, k, share * ((y - x) / where(spread_of_y < 1e-12, 1e-12, spread_of_y)))
            else:
                for k in range(0, part_length, lanes):
                    x, y, share = load(x_at, k), load(y_at, k), weight(parameters, shares, k)
                    shrunk = exp(-abs(y))
                    lost = fma(share, where(y < 0, 0, y) - x * y + log1p(shrunk), lost)
                    large = 1 / (1 + shrunk)
                    small = shrunk * large
                    rising, falling = where(y < 0, small, large), where(y < 0, large, small)
                    store(slope_at, k, share * ((1 - x) * rising - x * falling))
            total = total + lost
        store_sums_2(offset(sums, part * size), 0, total, zeros(targets))
    for unit in range(units, units + units % 2):  # the padding of an odd width
        for k in range(0, parts * part_length, lanes):
            store(slopes, unit * width + k, zeros(slopes))


@compiled
def step(kind, settings, rest1, rest2, size, parameters, gradient, first, second):
    """Take one optimizer step on `size` numbers, in place.

    `settings` are lr and decay, then Adam's two betas and eps, or SGD's momentum. `rest1` and `rest2` are Adam's betas to
    the power of the step's number. The moments of dead units decay into denormal numbers, which slow processors down. If
    a moment is denormal, it is too small to move a parameter and is set to zero.
    """
    lr, decay, tiny, lanes = settings[0], settings[1], least_normal(parameters), lanes_of(parameters)
    if kind == ADAM:
        keep1, keep2, eps = settings[2], settings[3], settings[4]
        take1, take2, per_root = 1 - keep1, 1 - keep2, 1 / np.sqrt(1 - rest2)
        for at in range(0, size, lanes):
            number = load(parameters, at)
            slope = fma(number, decay, load(gradient, at))
            mean = fma(load(first, at), keep1, slope * take1)
            square = fma(load(second, at), keep2, slope * take2 * slope)
            is_gone = abs(mean) < tiny
            mean = where(is_gone, 0, mean)
            square = where(is_gone, where(square < tiny, 0, square), square)
            store(first, at, mean)
            store(second, at, square)
            store(parameters, at, fma(mean / fma(sqrt(square), per_root, eps), -lr / (1 - rest1), number))
    else:
        for at in range(0, size, lanes):
            number = load(parameters, at)
            mean = fma(load(first, at), settings[2], fma(number, decay, load(gradient, at)))
            mean = where(abs(mean) < tiny, 0, mean)
            store(first, at, mean)
            store(parameters, at, fma(mean, -lr, number))
