"""The oracle: training as textbooks write it, in NumPy, with every gradient by hand. It is slow, and short enough to read.

Shapes: S seeds, B rows of a minibatch, D features. S is only a leading axis: no line mixes two seeds.
Notation: an activation turns z into y, dy is the gradient of the loss by y, x is the minibatch, theta a weight or a bias.
"""

from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any, NamedTuple

import numpy as np

from aeclaims.experiment import SGD, Adam, Experiment
from aeclaims.run import Double, Run
from aeclaims.runtime.progress import progress
from aeclaims.start import Array, LayerParameters, Parameters, Start


def sigmoid(z: Array) -> Array:
    """Return 1 / (1 + e^-z)."""
    return 1 / (1 + np.exp(-z))


# y = f(z), then f'(z) in terms of y; a is the slope of leaky ReLU below zero. At z = 0 the derivative of ReLU is 0, as in torch.
ACTIVATIONS: dict[str, tuple[Callable[[Array, float], Array], Callable[[Array, float], Array]]] = {
    "identity": (lambda z, a: z, lambda y, a: np.ones_like(y)),
    "relu": (lambda z, a: np.maximum(z, 0), lambda y, a: (y > 0).astype(y.dtype)),
    "leaky_relu": (lambda z, a: np.where(z > 0, z, a * z), lambda y, a: np.where(y > 0, 1, a).astype(y.dtype)),
    "tanh": (lambda z, a: np.tanh(z), lambda y, a: 1 - y**2),
    "sigmoid": (lambda z, a: sigmoid(z), lambda y, a: y * (1 - y)),
}
# The loss of one number y with target x, then its derivative by y.
LOSSES: dict[str, tuple[Callable[[Array, Array], Array], Callable[[Array, Array], Array]]] = {
    "mse": (lambda x, y: (y - x) ** 2, lambda x, y: 2 * (y - x)),
    # torch.nn.BCELoss clamps its logarithms to at least -100, and its gradient divides by at least 1e-12.
    "bce": (lambda x, y: -x * np.maximum(np.log(y), -100) - (1 - x) * np.maximum(np.log1p(-y), -100),
            lambda x, y: (y - x) / np.maximum(y * (1 - y), 1e-12)),
    # -ln sigmoid(z) = ln(1 + e^-z), and -ln(1 - sigmoid(z)) = ln(1 + e^z). The derivative is sigmoid(z) - x without cancellation.
    "bce_logits": (lambda x, z: x * np.logaddexp(0, -z) + (1 - x) * np.logaddexp(0, z),
                   lambda x, z: (1 - x) * sigmoid(z) - x * sigmoid(-z)),
}  # fmt: skip


def differentiate(experiment: Experiment, parameters: Parameters, x: Array) -> tuple[Array, list[Array]]:
    """Backpropagate: return the mean loss (S,) of x, shape (S, B, D), and its gradient by each theta, in layer order."""
    activations = [(*ACTIVATIONS[spec.kind], float(spec.slope)) for spec in experiment.model.activations]
    loss, loss_derivative = LOSSES[experiment.loss]
    outputs = [x]
    for (weight, bias), (function, _, slope) in zip(parameters, activations, strict=True):
        outputs.append(function(outputs[-1] @ weight.swapaxes(1, 2) + bias[:, None], slope))
    dy, gradients = loss_derivative(x, outputs[-1]) / x[0].size, list[Array]()
    layers = list(zip(parameters, activations, outputs[:-1], outputs[1:], strict=True))
    for (weight, _), (_, derivative, slope), inputs, y in reversed(layers):
        dz = dy * derivative(y, slope)
        gradients = [dz.swapaxes(1, 2) @ inputs, dz.sum(axis=1), *gradients]
        dy = dz @ weight
    return loss(x, outputs[-1]).mean(axis=(1, 2)), gradients


def update(optimizer: Adam | SGD, t: Any, theta: Array, g: Array, m: Array, v: Array) -> tuple[Array, Array, Array]:
    """Take step t >= 1 of theta with gradient g; returns theta, m and v, its moments. A float32 t rounds bias corrections."""
    lr = float(optimizer.lr)
    g = g + float(optimizer.weight_decay) * theta
    if isinstance(optimizer, SGD):  # as torch.optim.SGD documents it: lr multiplies the velocity m
        m = float(optimizer.momentum) * m + g
        return theta - lr * m, m, v
    beta1, beta2 = map(float, optimizer.betas)  # Kingma and Ba, ICLR 2015, algorithm 1
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
    return theta - lr * m_hat / (np.sqrt(v_hat) + float(optimizer.eps)), m, v


class Step(NamedTuple):
    """One training step: the minibatch (S, B, D), its loss (S,), the parameters before and after; then lists by theta."""

    batch: Array
    loss: Array
    before: Parameters
    after: Parameters
    gradients: list[Array]  # without weight decay
    m: list[Array]
    v: list[Array]


def steps(start: Start, count_type: Callable[[int], Any] = int) -> Iterator[Step]:
    """Train from `start` in its dtype, epoch after epoch, for as many steps as you take. `count_type` counts them."""
    spec, rows, parameters = start.experiment, start.rows(), start.parameters()
    t, theta = 0, [array for layer in parameters for array in layer]  # weight, bias, weight, bias, ...
    gradients = m = v = [np.zeros_like(array) for array in theta]
    for epoch in count():
        order = start.order(epoch)  # (N,), or (S, N) if all seeds share the rows (1, N, D)
        for begin in range(0, spec.n_rows, spec.batch_size):
            chosen = order[..., begin : begin + spec.batch_size]
            batch = rows.take(chosen, axis=1) if order.ndim == 1 else rows[0].take(chosen, axis=0)
            t += 1
            with np.errstate(all="ignore"):  # the losses of a diverging replica show it
                loss, new = differentiate(spec, parameters, batch)
                gradients = new if spec.zero_grad else [a + b for a, b in zip(gradients, new, strict=True)]
                updated = [update(spec.optimizer, count_type(t), *p) for p in zip(theta, gradients, m, v, strict=True)]
            theta, m, v = (list(arrays) for arrays in zip(*updated, strict=True))
            before, parameters = parameters, tuple(map(LayerParameters, theta[::2], theta[1::2]))
            yield Step(batch, loss, before, parameters, gradients, m, v)


def epoch_mean(epoch: list[Step]) -> Double:
    """Return the loss (S,) of an epoch: the plain mean of its minibatches' losses, in float64."""
    return np.asarray(np.stack([step.loss for step in epoch], axis=1).mean(axis=1, dtype=np.float64))


def train(start: Start) -> Run:
    """Train every seed of `start`."""
    experiment, walk, parameters = start.experiment, steps(start), start.parameters()
    epoch_loss = np.full((experiment.epochs, len(start.seeds)), np.nan)
    with progress("oracle", experiment.epochs, losses=epoch_loss) as advance:
        for epoch in range(experiment.epochs):
            taken = list(islice(walk, experiment.steps_per_epoch))
            epoch_loss[epoch], parameters = epoch_mean(taken), taken[-1].after
            advance(1)
    return Run(start, epoch_loss, parameters)
