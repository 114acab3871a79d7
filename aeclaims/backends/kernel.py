"""The reference's training loop for one seed, compiled by Numba, with every gradient written by hand.

Layout: a minibatch is transposed once, to (features, rows), so that every inner loop runs over contiguous numbers and
vectorises whatever the widths are; one seed alone is as fast as one of many. Affine layers take two outputs and two
inputs at a time, which halves the traffic to the cache. Arrays are indexed in full, never sliced: a slice counts
references, which cost more than a step's arithmetic at D=2 (0.48 us a step with slices, 0.26 without). Odd widths are
padded by a unit whose parameters are zero and whose activation is never applied: it stays zero, and so do all its
gradients.

Sums may be reassociated, which vectorises them. Nothing assumes that NaN or infinity cannot occur: a diverged replica
stays visible. The stored activation is an output, never an input: each derivative is written in terms of the output.
"""

# mypy: disable-error-code="no-untyped-def"
import numba
import numpy as np

from aeclaims.backends.vector_math import exp, log, log1p

# Codes of the vocabulary, as compiled code sees it.
IDENTITY, RELU, LEAKY_RELU, TANH, SIGMOID = range(5)
MSE, BCE, BCE_LOGITS = range(3)
ADAM, SGD = range(2)

compiled = numba.njit(fastmath={"reassoc", "contract", "nsz"}, error_model="numpy", nogil=True, forceinline=True)


@compiled
def _gather(rows, order, begin, count, values):
    """values[0] = the minibatch's rows, transposed; two features at a time, which halves the visits to a row."""
    features = rows.shape[1]
    for feature in range(0, features - 1, 2):
        for k in range(count):
            row = order[begin + k]
            values[0, feature, k] = rows[row, feature]
            values[0, feature + 1, k] = rows[row, feature + 1]
    if features % 2:
        for k in range(count):
            values[0, features - 1, k] = rows[order[begin + k], features - 1]


@compiled
def _affine(parameters, at, values, layer, inputs, outputs, count):
    """values[layer + 1] = weight values[layer] + bias."""
    bias = at + outputs * inputs
    for o in range(0, outputs, 2):
        for i in range(0, inputs, 2):
            w = at + o * inputs + i
            w00, w01, w10, w11 = parameters[w], parameters[w + 1], parameters[w + inputs], parameters[w + inputs + 1]
            if i == 0:
                bias0, bias1 = parameters[bias + o], parameters[bias + o + 1]
                for k in range(count):
                    in0, in1 = values[layer, i, k], values[layer, i + 1, k]
                    values[layer + 1, o, k] = bias0 + w00 * in0 + w01 * in1
                    values[layer + 1, o + 1, k] = bias1 + w10 * in0 + w11 * in1
            else:
                for k in range(count):
                    in0, in1 = values[layer, i, k], values[layer, i + 1, k]
                    values[layer + 1, o, k] += w00 * in0 + w01 * in1
                    values[layer + 1, o + 1, k] += w10 * in0 + w11 * in1


@compiled
def _pull_back(parameters, at, slopes, side, inputs, outputs, count):
    """slopes[1 - side] = weight^T slopes[side]: the gradient of the loss by the inputs of an affine layer."""
    for i in range(0, inputs, 2):
        for o in range(0, outputs, 2):
            w = at + o * inputs + i
            w00, w01, w10, w11 = parameters[w], parameters[w + 1], parameters[w + inputs], parameters[w + inputs + 1]
            if o == 0:
                for k in range(count):
                    slope0, slope1 = slopes[side, o, k], slopes[side, o + 1, k]
                    slopes[1 - side, i, k] = w00 * slope0 + w10 * slope1
                    slopes[1 - side, i + 1, k] = w01 * slope0 + w11 * slope1
            else:
                for k in range(count):
                    slope0, slope1 = slopes[side, o, k], slopes[side, o + 1, k]
                    slopes[1 - side, i, k] += w00 * slope0 + w10 * slope1
                    slopes[1 - side, i + 1, k] += w01 * slope0 + w11 * slope1


@compiled
def _add_gradients(slopes, side, values, layer, gradient, at, inputs, outputs, count):
    """Add slopes[side] values[layer]^T to the weight's gradient, and its sum over the minibatch to the bias's."""
    zero = slopes.dtype.type(0)
    bias = at + outputs * inputs
    for o in range(0, outputs, 2):
        for i in range(0, inputs, 2):
            w = at + o * inputs + i
            s00 = s01 = s10 = s11 = sum0 = sum1 = zero
            if i == 0:
                for k in range(count):
                    slope0, slope1 = slopes[side, o, k], slopes[side, o + 1, k]
                    in0, in1 = values[layer, i, k], values[layer, i + 1, k]
                    sum0 += slope0
                    sum1 += slope1
                    s00 += slope0 * in0
                    s01 += slope0 * in1
                    s10 += slope1 * in0
                    s11 += slope1 * in1
                gradient[bias + o] += sum0
                gradient[bias + o + 1] += sum1
            else:
                for k in range(count):
                    slope0, slope1 = slopes[side, o, k], slopes[side, o + 1, k]
                    in0, in1 = values[layer, i, k], values[layer, i + 1, k]
                    s00 += slope0 * in0
                    s01 += slope0 * in1
                    s10 += slope1 * in0
                    s11 += slope1 * in1
            gradient[w] += s00
            gradient[w + 1] += s01
            gradient[w + inputs] += s10
            gradient[w + inputs + 1] += s11


@compiled
def _activate(kind, leak, values, layer, width, count):
    """Apply an activation to values[layer], in place."""
    F = values.dtype.type
    one, two, zero = F(1), F(2), F(0)
    for unit in range(width):
        if kind in (RELU, LEAKY_RELU):
            for k in range(count):
                z = values[layer, unit, k]
                values[layer, unit, k] = leak * z if z <= zero else z
        elif kind == TANH:
            for k in range(count):
                z = values[layer, unit, k]
                shrunk = exp(-two * abs(z))
                size = (one - shrunk) / (one + shrunk)
                values[layer, unit, k] = -size if z < zero else size
        elif kind == SIGMOID:
            for k in range(count):
                values[layer, unit, k] = one / (one + exp(-values[layer, unit, k]))


@compiled
def _through_activation(kind, leak, values, layer, slopes, side, width, count):
    """Turn the gradient by an activation's outputs, in place, into the one by its inputs."""
    F = values.dtype.type
    one, zero = F(1), F(0)
    for unit in range(width):
        if kind in (RELU, LEAKY_RELU):
            for k in range(count):
                slope = slopes[side, unit, k]
                slopes[side, unit, k] = leak * slope if values[layer, unit, k] <= zero else slope
        elif kind == TANH:
            for k in range(count):
                y = values[layer, unit, k]
                slopes[side, unit, k] *= one - y * y
        elif kind == SIGMOID:
            for k in range(count):
                y = values[layer, unit, k]
                slopes[side, unit, k] *= (one - y) * y


@compiled
def _loss(kind, values, layer, slopes, side, width, count):
    """The minibatch's mean loss of values[layer] as outputs for values[0]; slopes[side] = its gradient by the outputs.

    BCE follows torch.nn.BCELoss: logarithms are held at -100, and the gradient's denominator at 1e-12. The gradient of
    BCE on logits, sigmoid(y) - x, is taken apart so that it does not cancel: (1 - x) sigmoid(y) - x sigmoid(-y).
    """
    F = values.dtype.type
    one, two, zero, least_log, least_spread = F(1), F(2), F(0), F(-100), F(1e-12)
    share = F(1.0 / (width * count))
    total = 0.0
    for unit in range(width):
        partial = zero
        if kind == MSE:
            for k in range(count):
                error = values[layer, unit, k] - values[0, unit, k]
                partial += error * error
                slopes[side, unit, k] = two * share * error
        elif kind == BCE:
            for k in range(count):
                y, x = values[layer, unit, k], values[0, unit, k]
                log_y, log_rest = log(y), log1p(-y)
                log_y = least_log if log_y < least_log else log_y
                log_rest = least_log if log_rest < least_log else log_rest
                partial -= x * log_y + (one - x) * log_rest
                spread = (one - y) * y
                spread = least_spread if spread < least_spread else spread
                slopes[side, unit, k] = share * ((y - x) / spread)
        else:
            for k in range(count):
                y, x = values[layer, unit, k], values[0, unit, k]
                shrunk = exp(-abs(y))
                partial += (y if y > zero else zero) - x * y + log1p(shrunk)
                large, small = one / (one + shrunk), shrunk / (one + shrunk)
                rising, falling = (large, small) if y >= zero else (small, large)
                slopes[side, unit, k] = share * ((one - x) * rising - x * falling)
        total += partial
    for k in range(count):
        if width % 2:
            slopes[side, width, k] = zero
    return total / (width * count)


@compiled
def _step(kind, settings, rest1, rest2, parameters, gradient, first, second):
    """One optimizer step, in place. settings: lr, weight decay, then Adam's two betas and eps, or SGD's momentum.

    rest1, rest2: Adam's betas to the power of the step.
    """
    F = parameters.dtype.type
    lr, decay = settings[0], F(settings[1])
    if kind == ADAM:
        beta1, beta2, eps = settings[2], settings[3], F(settings[4])
        size = F(lr / (1.0 - rest1))
        root = F((1.0 - rest2) ** 0.5)
        keep1, take1, keep2, take2 = F(beta1), F(1.0 - beta1), F(beta2), F(1.0 - beta2)
        for j in range(parameters.size):
            g = gradient[j] + decay * parameters[j]
            first[j] = keep1 * first[j] + take1 * g
            second[j] = keep2 * second[j] + take2 * g * g
            parameters[j] -= size * first[j] / (np.sqrt(second[j]) / root + eps)
    else:
        size, momentum = F(lr), F(settings[2])
        for j in range(parameters.size):
            g = gradient[j] + decay * parameters[j]
            first[j] = momentum * first[j] + g
            parameters[j] -= size * first[j]


@numba.njit(fastmath={"reassoc", "contract", "nsz"}, error_model="numpy", nogil=True, cache=True)
def train_epochs(
    rows, orders, batch_size, widths, activations, leaks, loss, optimizer, settings, clears, steps_done,
    parameters, gradient, first, second, epoch_loss,
):  # fmt: skip
    """Train one seed for orders.shape[0] epochs; updates the last five arrays in place.

    rows (N, D); orders (E, N); widths (L + 1,); activations and leaks (L,); parameters, gradient, first and second
    (P,): for each layer the weight (outputs, inputs), then the bias, at widths rounded up to even; epoch_loss (E,).
    """
    n_rows, layers = rows.shape[0], activations.size
    even = widths + widths % 2
    widest, longest = even.max(), min(batch_size, n_rows)
    values = np.zeros((layers + 1, widest, longest), parameters.dtype)
    # Gradients by one layer's outputs, and by its inputs: layers take the two sides by turns.
    slopes = np.zeros((2, widest, longest), parameters.dtype)
    # Multiplied on: to take the two powers anew in each step cost 0.02 of its 0.27 us at D=2.
    beta1, beta2 = (settings[2], settings[3]) if optimizer == ADAM else (0.0, 0.0)
    rest1, rest2 = beta1**steps_done, beta2**steps_done
    for epoch in range(orders.shape[0]):
        total, batches = 0.0, 0
        order = orders[epoch]
        for begin in range(0, n_rows, batch_size):
            count = min(batch_size, n_rows - begin)
            _gather(rows, order, begin, count, values)
            at = 0
            for layer in range(layers):
                inputs, outputs = even[layer], even[layer + 1]
                _affine(parameters, at, values, layer, inputs, outputs, count)
                _activate(activations[layer], leaks[layer], values, layer + 1, widths[layer + 1], count)
                at += (inputs + 1) * outputs
            total += _loss(loss, values, layers, slopes, layers % 2, widths[layers], count)
            batches += 1
            if clears:
                for j in range(gradient.size):
                    gradient[j] = 0
            for layer in range(layers - 1, -1, -1):
                inputs, outputs = even[layer], even[layer + 1]
                at -= (inputs + 1) * outputs
                side = (layer + 1) % 2
                _through_activation(activations[layer], leaks[layer], values, layer + 1, slopes, side, widths[layer + 1], count)
                _add_gradients(slopes, side, values, layer, gradient, at, inputs, outputs, count)
                if layer > 0:
                    _pull_back(parameters, at, slopes, side, inputs, outputs, count)
            rest1 *= beta1
            rest2 *= beta2
            _step(optimizer, settings, rest1, rest2, parameters, gradient, first, second)
        epoch_loss[epoch] = total / batches
