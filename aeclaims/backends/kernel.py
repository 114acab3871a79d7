"""The reference's training loop for one seed, compiled by Numba, with every gradient written by hand.

Layout: a minibatch is transposed once, to (features, rows), so that every inner loop runs over contiguous numbers and
vectorises whatever the widths are; one seed alone is as fast as one of many. Affine layers take two outputs and two
inputs at a time, which halves the traffic to the cache. Odd widths are padded by a unit whose parameters are zero and
whose activation is never applied: it stays zero, and so do all its gradients.

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
def _gather(rows, order, into):
    for feature in range(rows.shape[1]):
        column = into[feature]
        for k in range(order.size):
            column[k] = rows[order[k], feature]


@compiled
def _affine(weight, bias, inputs, outputs, count):
    """outputs = weight inputs + bias, for the first `count` columns."""
    for o in range(0, weight.shape[0], 2):
        out0, out1 = outputs[o], outputs[o + 1]
        for i in range(0, weight.shape[1], 2):
            w00, w01, w10, w11 = weight[o, i], weight[o, i + 1], weight[o + 1, i], weight[o + 1, i + 1]
            in0, in1 = inputs[i], inputs[i + 1]
            if i == 0:
                bias0, bias1 = bias[o], bias[o + 1]
                for k in range(count):
                    out0[k] = bias0 + w00 * in0[k] + w01 * in1[k]
                    out1[k] = bias1 + w10 * in0[k] + w11 * in1[k]
            else:
                for k in range(count):
                    out0[k] += w00 * in0[k] + w01 * in1[k]
                    out1[k] += w10 * in0[k] + w11 * in1[k]


@compiled
def _pull_back(weight, slope, into, count):
    """into = weight^T slope: the gradient of the loss by the inputs of an affine layer."""
    for i in range(0, weight.shape[1], 2):
        into0, into1 = into[i], into[i + 1]
        for o in range(0, weight.shape[0], 2):
            w00, w01, w10, w11 = weight[o, i], weight[o, i + 1], weight[o + 1, i], weight[o + 1, i + 1]
            slope0, slope1 = slope[o], slope[o + 1]
            if o == 0:
                for k in range(count):
                    into0[k] = w00 * slope0[k] + w10 * slope1[k]
                    into1[k] = w01 * slope0[k] + w11 * slope1[k]
            else:
                for k in range(count):
                    into0[k] += w00 * slope0[k] + w10 * slope1[k]
                    into1[k] += w01 * slope0[k] + w11 * slope1[k]


@compiled
def _add_gradients(slope, inputs, weight_gradient, bias_gradient, count):
    """weight_gradient += slope inputs^T, bias_gradient += the sum of slope over the minibatch."""
    zero = slope.dtype.type(0)
    for o in range(0, weight_gradient.shape[0], 2):
        slope0, slope1 = slope[o], slope[o + 1]
        sum0 = sum1 = zero
        for k in range(count):
            sum0 += slope0[k]
            sum1 += slope1[k]
        bias_gradient[o] += sum0
        bias_gradient[o + 1] += sum1
        for i in range(0, weight_gradient.shape[1], 2):
            in0, in1 = inputs[i], inputs[i + 1]
            s00 = s01 = s10 = s11 = zero
            for k in range(count):
                s00 += slope0[k] * in0[k]
                s01 += slope0[k] * in1[k]
                s10 += slope1[k] * in0[k]
                s11 += slope1[k] * in1[k]
            weight_gradient[o, i] += s00
            weight_gradient[o, i + 1] += s01
            weight_gradient[o + 1, i] += s10
            weight_gradient[o + 1, i + 1] += s11


@compiled
def _activate(kind, leak, values, width, count):
    """Apply an activation in place."""
    F = values.dtype.type
    one, two, zero = F(1), F(2), F(0)
    for unit in range(width):
        y = values[unit]
        if kind in (RELU, LEAKY_RELU):
            for k in range(count):
                y[k] = leak * y[k] if y[k] <= zero else y[k]
        elif kind == TANH:
            for k in range(count):
                z = y[k]
                shrunk = exp(-two * abs(z))
                size = (one - shrunk) / (one + shrunk)
                y[k] = -size if z < zero else size
        elif kind == SIGMOID:
            for k in range(count):
                y[k] = one / (one + exp(-y[k]))


@compiled
def _through_activation(kind, leak, outputs, slope, width, count):
    """Turn the gradient by an activation's outputs, in place, into the one by its inputs."""
    F = outputs.dtype.type
    one, zero = F(1), F(0)
    for unit in range(width):
        y, s = outputs[unit], slope[unit]
        if kind in (RELU, LEAKY_RELU):
            for k in range(count):
                s[k] = leak * s[k] if y[k] <= zero else s[k]
        elif kind == TANH:
            for k in range(count):
                s[k] *= one - y[k] * y[k]
        elif kind == SIGMOID:
            for k in range(count):
                s[k] *= (one - y[k]) * y[k]


@compiled
def _loss(kind, outputs, targets, slope, width, count):
    """The minibatch's mean loss; its gradient by the outputs goes into `slope`.

    BCE follows torch.nn.BCELoss: logarithms are held at -100, and the gradient's denominator at 1e-12.
    """
    F = outputs.dtype.type
    one, two, zero, least_log, least_spread = F(1), F(2), F(0), F(-100), F(1e-12)
    share = F(1.0 / (width * count))
    total = 0.0
    for unit in range(width):
        y, x, s = outputs[unit], targets[unit], slope[unit]
        partial = zero
        if kind == MSE:
            for k in range(count):
                error = y[k] - x[k]
                partial += error * error
                s[k] = two * share * error
        elif kind == BCE:
            for k in range(count):
                log_y, log_rest = log(y[k]), log1p(-y[k])
                log_y = least_log if log_y < least_log else log_y
                log_rest = least_log if log_rest < least_log else log_rest
                partial -= x[k] * log_y + (one - x[k]) * log_rest
                spread = (one - y[k]) * y[k]
                spread = least_spread if spread < least_spread else spread
                s[k] = share * ((y[k] - x[k]) / spread)
        else:
            for k in range(count):
                shrunk = exp(-abs(y[k]))
                partial += (y[k] if y[k] > zero else zero) - x[k] * y[k] + log1p(shrunk)
                probability = (one if y[k] >= zero else shrunk) / (one + shrunk)
                s[k] = share * (probability - x[k])
        total += partial
    for unit in range(width, slope.shape[0]):
        slope[unit, :count] = 0
    return total / (width * count)


@compiled
def _step(kind, settings, step, parameters, gradient, first, second):
    """One optimizer step, in place. settings: lr, weight decay, then Adam's two betas and eps, or SGD's momentum."""
    F = parameters.dtype.type
    lr, decay = settings[0], F(settings[1])
    if kind == ADAM:
        beta1, beta2, eps = settings[2], settings[3], F(settings[4])
        size = F(lr / (1.0 - beta1**step))
        root = F((1.0 - beta2**step) ** 0.5)
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
    shape = (even.max(), min(batch_size, n_rows))
    values = np.zeros((layers + 1, *shape), parameters.dtype)
    slope, other = np.zeros(shape, parameters.dtype), np.zeros(shape, parameters.dtype)
    step = steps_done
    for epoch in range(orders.shape[0]):
        total, batches = 0.0, 0
        order = orders[epoch]
        for begin in range(0, n_rows, batch_size):
            picked = order[begin : begin + batch_size]
            count = picked.size
            _gather(rows, picked, values[0])
            offset = 0
            for layer in range(layers):
                inputs, outputs = even[layer], even[layer + 1]
                weight = parameters[offset : offset + outputs * inputs].reshape(outputs, inputs)
                offset += outputs * inputs
                _affine(weight, parameters[offset : offset + outputs], values[layer], values[layer + 1], count)
                offset += outputs
                _activate(activations[layer], leaks[layer], values[layer + 1], widths[layer + 1], count)
            total += _loss(loss, values[layers], values[0], slope[: even[layers]], widths[layers], count)
            batches += 1
            if clears:
                gradient[:] = 0
            for layer in range(layers - 1, -1, -1):
                inputs, outputs = even[layer], even[layer + 1]
                _through_activation(activations[layer], leaks[layer], values[layer + 1], slope, widths[layer + 1], count)
                begin_bias = offset - outputs
                begin_weight = begin_bias - outputs * inputs
                _add_gradients(
                    slope, values[layer], gradient[begin_weight:begin_bias].reshape(outputs, inputs),
                    gradient[begin_bias:offset], count,
                )  # fmt: skip
                if layer > 0:
                    weight = parameters[begin_weight:begin_bias].reshape(outputs, inputs)
                    _pull_back(weight, slope, other, count)
                    slope, other = other, slope
                offset = begin_weight
            step += 1
            _step(optimizer, settings, step, parameters, gradient, first, second)
        epoch_loss[epoch] = total / batches
