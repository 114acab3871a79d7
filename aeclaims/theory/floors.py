"""Floors: the lowest values of losses, on given rows and in expectation. All are float64, in nats per feature."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from aeclaims.dtypes import Format
from aeclaims.errors import OutOfRange
from aeclaims.experiment import Bernoulli, Beta, Loss, Uniform
from aeclaims.run import Run, activate
from aeclaims.runtime import parallel
from aeclaims.start import Array, Start
from aeclaims.theory import logistic

Double = npt.NDArray[np.float64]


def _of_each_seed(function: Callable[[Double], Any], rows: Array) -> list[Any]:
    """Apply the function to the rows of each seed in float64. The whole population is never held in float64 at once."""
    return parallel.map(lambda own: function(own.astype(np.float64)), rows)


def _check_range(rows: Array) -> None:
    inside = (rows >= 0) & (rows <= 1)  # False for NaN as well
    if not inside.all():
        seed, row, feature = (int(i) for i in np.argwhere(~inside)[0])
        raise OutOfRange(
            f"rows[seed {seed}, row {row}, feature {feature}] = {rows[seed, row, feature]}: "
            "entropy is defined for targets in [0, 1]; rescale them, or use MSE, which has floor 0"
        )


def row_entropy(rows: Array) -> Double:
    """Mean binary entropy of each row: the floor of BCE on it (Gibbs' inequality).

        BCE(x, p) = -x ln p - (1 - x) ln(1 - p) = H(x) + KL(x || p) >= H(x)
        H(x) = -x ln x - (1 - x) ln(1 - x), with 0 ln 0 = 0

    BCE equals H(x) only at p = x.

    Args:
        rows: Shape (S, N, D), values in [0, 1].

    Returns:
        Shape (S, N), in [0, ln 2].

    Raises:
        OutOfRange: If a value is outside [0, 1] or NaN. The message names seed, row and feature.
    """
    _check_range(rows)

    def of_seed(own: Double) -> Double:
        return np.asarray((scipy.special.entr(own) + scipy.special.entr(1 - own)).mean(axis=-1))

    return np.array(_of_each_seed(of_seed, rows))


def entropy(rows: Array) -> Double:
    """Mean binary entropy of each seed's rows: the floor of BCE on them.

    Args:
        rows: Shape (S, N, D), values in [0, 1].

    Returns:
        Shape (S,), in [0, ln 2].

    Raises:
        OutOfRange: If a value is outside [0, 1] or NaN, see `row_entropy`.

    Example:
        >>> entropy(np.full((1, 3, 2), 0.5)).round(4)
        array([0.6931])
    """
    return np.asarray(row_entropy(rows).mean(axis=1))


def expected_entropy(rows: Uniform | Bernoulli | Beta) -> float:
    """Return the expected entropy of a feature, E[H(x)].

    For Beta(a, b), E[x ln x] is the derivative of E[x^t] by t at t = 1. With the digamma function psi,

        E[x^t] = B(a + t, b) / B(a, b)
        E[x ln x] = a/(a + b) (psi(a + 1) - psi(a + b + 1)).

    1 - x is Beta(b, a). The sum of both terms gives

        E[H] = psi(a + b + 1) - (a psi(a + 1) + b psi(b + 1)) / (a + b).

    For Beta(a, a), it rises with a: from 0 (a to 0) through 1/2 (a = 1) to ln 2 (a to infinity). Uniform is Beta(1, 1):
    psi(3) - psi(2) = 1/2. A Bernoulli feature is 0 or 1, so its entropy is 0.
    """
    match rows:
        case Uniform():
            return 0.5
        case Bernoulli():
            return 0.0
        case Beta(a=a, b=b):
            weighted = (a * scipy.special.digamma(a + 1) + b * scipy.special.digamma(b + 1)) / (a + b)
            return float(scipy.special.digamma(a + b + 1) - weighted)


def class_floor(rows: Array) -> Double:
    """Least BCE of affine layers with a sigmoid output and no bottleneck, on each seed's rows.

    Together the affine layers are one affine map. Each feature d is then a logistic regression on all features with
    soft targets. It minimises

        mean of ln(1 + exp z) - x_d z, with z = w x + c.

    This is convex in (w, c). Newton's method with step halving finds the minimum. It stops if the Newton decrement or the
    gain of a step is below eps. To second order, the decrement bounds twice the distance to the minimum.

    A feature of only zeros and ones separates itself (w_d to infinity), so its floor is 0. For U(0, 1) rows, the expected
    floor is 0.504947, at slope 5.1994 about 1/2. It is not 1/2, because an affine map of x is not the logit of x. With
    a bottleneck, the floor can only be higher.

    Args:
        rows: Shape (S, N, D), values in [0, 1].

    Returns:
        Shape (S,).

    Raises:
        OutOfRange: If a value is outside [0, 1] or NaN, see `row_entropy`.
    """
    _check_range(rows)
    return np.array(_of_each_seed(logistic.floor, rows))


def spectrum(rows: Array) -> Double:
    """Return the eigenvalues of the covariance of each seed's rows, the largest first.

    If there are fewer rows than features, the N by N matrix of products has the same eigenvalues. The other D - N are 0.

    Args:
        rows: Shape (S, N, D).

    Returns:
        Shape (S, D).
    """

    def of_seed(own: Double) -> Double:
        centred = own - own.mean(axis=0)
        products = centred.T @ centred if len(own) >= own.shape[1] else centred @ centred.T
        found = np.zeros(own.shape[1])
        found[: len(products)] = np.linalg.eigvalsh(products / len(own))[::-1].clip(min=0)
        return found

    return np.array(_of_each_seed(of_seed, rows))


def bottleneck_floor(rows: Array, bottleneck: int) -> Double:
    """Least MSE of an affine autoencoder with a bottleneck, on each seed's rows.

    The best affine map of rank K projects the centred rows on their K leading principal components
    (Eckart and Young 1936; Baldi and Hornik 1989). It loses the other eigenvalues of the covariance:

        floor = (sum of the D - K smallest eigenvalues) / D.

    The floor is 0 if and only if K >= the rank of the centred rows (computed: within 1e-15 of the variance). For
    iid U(0, 1) features, the D eigenvalues are 1/12, so the expected floor is (1 - K/D)/12. A nonlinear autoencoder can go
    below it.

    Args:
        rows: Shape (S, N, D).
        bottleneck: Narrowest width, K >= 1.

    Returns:
        Shape (S,).

    Raises:
        ValueError: If K < 1.
    """
    if bottleneck < 1:
        raise ValueError(f"bottleneck = {bottleneck}: a bottleneck passes at least one number")
    return np.asarray(spectrum(rows)[:, bottleneck:].sum(axis=1) / rows.shape[-1])


def range_floor(rows: Array, loss: Loss, low: float, high: float) -> Double:
    """Least loss of predictions that are confined to [low, high], including the entropy.

    MSE and BCE each have a single minimum, at the target. The best confined prediction is therefore the clipped target:

        floor = mean loss(x, min(max(x, low), high)).

    A ReLU output is confined to [0, inf), a tanh output to [-1, 1]. If sigmoid values are read as logits, predictions are
    confined to [1/2, 0.7311].

    Args:
        rows: Shape (S, N, D).
        loss: One of mse, bce and bce_logits.
        low: Least prediction, for BCE a probability.
        high: Largest prediction, for BCE a probability.

    Returns:
        Shape (S,).
    """

    def of_seed(own: Double) -> float:
        best = own.clip(low, high)
        if loss == "mse":
            return float(np.mean((own - best) ** 2))
        return float(-np.mean(scipy.special.xlogy(own, best) + scipy.special.xlog1py(1 - own, -best)))

    return np.array(_of_each_seed(of_seed, rows))


def row_class_entropy(targets: Array) -> Double:
    """Entropy of each row's distribution over classes: the floor of cross-entropy with soft targets on it.

        CE(t, p) = -sum_c t_c ln p_c = H(t) + KL(t || p) >= H(t), summed over the C classes as in torch.

    Args:
        targets: Shape (S, N, C). Each row sums to 1.

    Returns:
        Shape (S, N), in [0, ln C].
    """
    return np.array(_of_each_seed(lambda own: scipy.special.entr(own).sum(axis=-1), targets))


def smoothing_floor(classes: int, smoothing: float) -> float:
    """Floor of cross-entropy with smoothed labels, in nats per row.

    torch.nn.CrossEntropyLoss smooths a label to `t = (1 - e) onehot + e/C`. The entropy of t is the floor:

        H = -a ln a - (C - 1) b ln b, with a = 1 - e + e/C and b = e/C.

    It is 1.0148 at C = 1000 and e = 0.1.

    Args:
        classes: Number of classes, C.
        smoothing: Smoothing e, in [0, 1].
    """
    other = smoothing / classes
    return float(scipy.special.entr(1 - smoothing + other) + (classes - 1) * scipy.special.entr(other))


def softmax_twice_floor(classes: int, smoothing: float = 0.0) -> float:
    """Least cross-entropy of labels if the logits are already the output of a softmax, in nats per row.

    Logits on the simplex give the label a probability of at most `e/(e + C - 1)`, with e = 2.718.... The corner of the label
    reaches it. If the smoothed label is at most this probability, the model can match it, and the floor is its entropy.
    Otherwise the corner is best. With t as the target of the label, it costs `ln(e + C - 1) - t`: 1.4612 for ten classes and
    hard labels.

    Args:
        classes: Number of classes, C.
        smoothing: Label smoothing, in [0, 1].
    """
    label = 1 - smoothing + smoothing / classes
    corner = np.e + classes - 1
    return smoothing_floor(classes, smoothing) if label <= np.e / corner else float(np.log(corner) - label)


def continuous_bernoulli(means: npt.ArrayLike) -> Double:
    """Least mean of -ln p(x | c) over constants c, for the continuous Bernoulli p and targets x with the given means.

        p(x | c) = C(c) c^x (1 - c)^(1 - x)
        C(c) = 2 artanh(1 - 2c)/(1 - 2c) >= 2

    BCE lacks ln C (Loaiza-Ganem and Cunningham 2019). With c = sigmoid(h),

        -ln p = ln((e^h - 1)/h) - h x.

    Its mean is least at the h that solves `1/(1 - e^-h) - 1/h = mean`. p is a density, so the result can be below 0. It is
    -inf if all targets are 0 or all are 1.

    Args:
        means: Means of the targets, any shape, in [0, 1].

    Returns:
        The same shape.
    """
    mean = np.asarray(means, np.float64)

    def apart(h: Double) -> Double:  # At 0 the formulas are 0/0. The error of the cost is the square of the shift.
        return np.where(np.abs(h) < 1e-6, 1e-6, h)

    low, high = np.full(mean.shape, -1e9), np.full(mean.shape, 1e9)
    for _ in range(100):  # bisection; the mean grows with h
        middle = (low + high) / 2
        h = apart(middle)
        is_below = -1 / np.expm1(-h.clip(min=-700)) - 1 / h < mean
        low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
    h = apart(low)
    size = np.abs(h)
    # ln((e^h - 1)/h) = |h| + ln((1 - e^-|h|)/|h|) for h > 0, without the |h| for h < 0.
    partition = np.maximum(h, 0) + np.log(-np.expm1(-size) / size)
    return np.where((mean <= 0) | (mean >= 1), -np.inf, partition - h * mean)


@lru_cache(maxsize=8)
def epoch_entropy(start: Start) -> Double:
    """Floor of BCE in each epoch, on the rows of its minibatches with their weights.

    Each minibatch mean is at least the mean entropy of its rows, for any parameters. The epoch loss is the plain mean of the
    M minibatch means, so a row weighs 1/(M rows of its minibatch). Rows of a short last minibatch weigh more. They differ
    from epoch to epoch.

    Returns:
        Shape (E, S), read-only.
    """
    experiment = start.experiment
    own, minibatches = row_entropy(start.rows()), experiment.steps_per_epoch
    last = experiment.n_rows - (minibatches - 1) * experiment.batch_size
    weight, weight_of_last = 1 / (minibatches * experiment.batch_size), 1 / (minibatches * last)
    floors = np.empty((experiment.epochs, len(start.seeds)))
    floors[:] = weight * own.sum(axis=1)
    for epoch in range(experiment.epochs):
        short = start.order(epoch)[..., -last:]
        picked = own[0][short] if start.has_shared_rows else own[:, short]
        floors[epoch] += (weight_of_last - weight) * picked.sum(axis=1)
    floors.flags.writeable = False
    return floors


def rounding(dtype: np.dtype[Any] | type, scale: Any = 1.0) -> Any:
    """Bound the error that rounding to `dtype` causes in a mean loss of size `scale`.

    A rounding has a relative size of at most u = eps/2. Each term has at most 8 roundings: products, exp, log, the difference
    and its square. The mean of a minibatch is summed in each lane, then across lanes. It adds at most 24 roundings: 32 u in
    all.
    """
    return 16 * np.finfo(dtype).eps * scale


def format_floor(rows: Array, loss: Loss, format: Format) -> Double:
    """Least loss of outputs that are numbers of a format, on each seed's rows, for any model.

    For MSE it is the mean squared distance of the rows to the nearest numbers. BCE is convex in the probability and in the
    logit. Its minimum is at one of the two numbers around x, or around the logit of x. It is 0 if x is 0 or 1, and exceeds
    the entropy by KL(x || p).

    Args:
        rows: Shape (S, N, D), for BCE in [0, 1].
        loss: One of mse, bce and bce_logits.
        format: Format of the outputs, for bce_logits of the logits.

    Returns:
        Shape (S,).

    Raises:
        OutOfRange: If the loss is BCE and a value is outside [0, 1] or NaN, see `row_entropy`.
    """
    if loss != "mse":
        _check_range(rows)

    def of_seed(x: Double) -> float:
        if loss == "mse":
            return float(np.mean((x - format.nearest(x)) ** 2))
        if loss == "bce":
            costs = [-scipy.special.xlogy(x, p) - scipy.special.xlog1py(1 - x, -p) for p in format.around(x)]
        else:
            inside = np.clip(x, 1e-300, 1 - 2.0**-53)
            costs = [np.logaddexp(0, z) - x * z for z in format.around(scipy.special.logit(inside))]
        return float(np.mean(np.where((x == 0) | (x == 1), 0, np.minimum(*costs))))

    return np.array(_of_each_seed(of_seed, rows))


def rounding_mse(run: Run) -> Double:
    """MSE that is caused by rounding products to the run's format alone, at the final parameters.

    Rounding errors are independent and uniform in plus or minus half a spacing (Wilkinson's model). Their variance is
    spacing^2/12. Operands and results are rounded, sums are not:

        Var(W h) = W^2 Var(h) + h^2 Var(W) + Var(result).

    An activation does not amplify errors. If the outputs can match the targets, a float32 or float64 training ends several
    times above this value. The reason is that steps of less than half a spacing are lost.

    Returns:
        Mean variance of the outputs, shape (S,).
    """
    format, model = run.start.format, run.experiment.model

    def variance(values: Array) -> Double:
        return np.asarray(format.spacing(np.asarray(values, np.float64)) ** 2 / 12)

    values = run.start.rows().astype(np.float64)
    spread = variance(values)
    for (weight, bias), activation in zip(run.parameters, model.activations, strict=True):
        square, rounded = (np.swapaxes(w, 1, 2) for w in (weight.astype(np.float64) ** 2, variance(weight)))
        spread = spread @ square + values**2 @ rounded + variance(bias)[:, None]
        values = values @ np.swapaxes(weight.astype(np.float64), 1, 2) + bias.astype(np.float64)[:, None]
        spread = spread + variance(values)
        values = activate(activation, values)
    return np.asarray(spread.mean(axis=(1, 2)))
