"""Theory: the lowest value a loss can take, on the very rows drawn and in expectation. All float64, nats per feature."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from aeclaims.dtypes import Format
from aeclaims.experiment import Bernoulli, Beta, Loss, Uniform
from aeclaims.run import Run, activate
from aeclaims.runtime import parallel
from aeclaims.start import Array, Start
from aeclaims.theory import logistic

Double = npt.NDArray[np.float64]


class OutOfRange(ValueError):
    """A target that has no entropy, because it lies outside [0, 1]."""


def _of_each_seed(function: Callable[[Double], Any], rows: Array) -> list[Any]:
    """function(rows of one seed) in float64, so that a population is never held in double precision at once."""
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
    """Mean binary entropy of each row: the least that BCE can be on it, whatever is predicted.

    BCE(x, p) = -x ln p - (1 - x) ln(1 - p) = H(x) + KL(x || p) >= H(x), by Gibbs' inequality, with equality only at
    p = x; H(x) = -x ln x - (1 - x) ln(1 - x), with 0 ln 0 = 0.
    rows: (S, N, D), in [0, 1].    Returns: (S, N), in [0, ln 2].
    Raises OutOfRange, naming seed, row and feature, where a value is outside [0, 1] or NaN.
    """
    _check_range(rows)

    def of_seed(own: Double) -> Double:
        return np.asarray((scipy.special.entr(own) + scipy.special.entr(1 - own)).mean(axis=-1))

    return np.array(_of_each_seed(of_seed, rows))


def entropy(rows: Array) -> Double:
    """Mean binary entropy of each seed's rows: the floor of BCE on them.  (S, N, D) to (S,); see `row_entropy`."""
    return np.asarray(row_entropy(rows).mean(axis=1))


def expected_entropy(rows: Uniform | Bernoulli | Beta) -> float:
    """Expectation of a feature's entropy, E[H(x)].

    Beta(a, b): E[x ln x] is the derivative by t at t = 1 of E[x^t] = B(a + t, b) / B(a, b), which is
    a/(a + b) (psi(a + 1) - psi(a + b + 1)), psi the digamma function; 1 - x is Beta(b, a). Adding both,

        E[H] = psi(a + b + 1) - (a psi(a + 1) + b psi(b + 1)) / (a + b).

    Beta(a, a) runs from 0 (a to 0) through 1/2 (a = 1) to ln 2 (a to infinity). Uniform is Beta(1, 1):
    psi(3) - psi(2) = 1/2. A Bernoulli feature is 0 or 1, which have no entropy.
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
    """The least BCE of affine layers with a sigmoid output and no bottleneck, on each seed's rows.

    Together the affine layers are one affine map, so that each feature d is a logistic regression on all features with
    soft targets: the mean of ln(1 + exp z) - x_d z, z = w x + c. That is convex in (w, c); Newton's method with halved
    steps finds its minimum. It stops once the Newton decrement, which bounds twice the distance to the minimum to
    second order, or what a step gains, is below eps. A feature that is only ever 0 or 1 is separated by itself (w_d to
    infinity): floor 0. For U(0,1) the floor is 0.504947 in expectation, reached at slope 5.1994 about 1/2, not 1/2: an affine map
    of x is not its logit. With a bottleneck the floor can only be higher.
    rows: (S, N, D), in [0, 1].    Returns: (S,).    Raises OutOfRange as `row_entropy` does.
    """
    _check_range(rows)
    return np.array(_of_each_seed(logistic.floor, rows))


def spectrum(rows: Array) -> Double:
    """The eigenvalues of the covariance of each seed's rows, from the largest: (S, N, D) to (S, D).

    Of fewer rows than features the N by N matrix of products has the same ones; the other D - N are 0.
    """

    def of_seed(own: Double) -> Double:
        centred = own - own.mean(axis=0)
        products = centred.T @ centred if len(own) >= own.shape[1] else centred @ centred.T
        found = np.zeros(own.shape[1])
        found[: len(products)] = np.linalg.eigvalsh(products / len(own))[::-1].clip(min=0)
        return found

    return np.array(_of_each_seed(of_seed, rows))


def bottleneck_floor(rows: Array, bottleneck: int) -> Double:
    """The least MSE of an affine autoencoder with code size `code`, on each seed's rows.

    An affine map of rank K reconstructs best by projecting the centred rows on their K leading principal components
    (Eckart and Young 1936; Baldi and Hornik 1989), and what it loses are the other eigenvalues of the covariance:

        floor = (sum of the D - K smallest eigenvalues) / D.

    It is 0 exactly when K >= the rank of the centred rows (computed: within 1e-15 of the variance). iid U(0,1) features
    have D eigenvalues 1/12, so that the floor is (1 - K/D)/12 in expectation. A nonlinear autoencoder can go below it.
    rows: (S, N, D).    code: K >= 1.    Returns: (S,).    Raises ValueError where K < 1.
    """
    if bottleneck < 1:
        raise ValueError(f"bottleneck = {bottleneck}: a bottleneck passes at least one number")
    return np.asarray(spectrum(rows)[:, bottleneck:].sum(axis=1) / rows.shape[-1])


def range_floor(rows: Array, loss: Loss, low: float, high: float) -> Double:
    """The least loss of predictions confined to [low, high]: what an output that cannot leave it costs, entropy included.

    MSE and BCE have one minimum each, at the target, so that the best confined prediction is the target clipped:

        floor = mean loss(x, min(max(x, low), high)).

    A ReLU output is confined to [0, inf), a tanh to [-1, 1]; a sigmoid whose values are read as logits, to [1/2, 0.7311].
    rows: (S, N, D).    low, high: of predictions, which are probabilities for BCE.    Returns: (S,).
    """

    def of_seed(own: Double) -> float:
        best = own.clip(low, high)
        if loss == "mse":
            return float(np.mean((own - best) ** 2))
        return float(-np.mean(scipy.special.xlogy(own, best) + scipy.special.xlog1py(1 - own, -best)))

    return np.array(_of_each_seed(of_seed, rows))


def row_class_entropy(targets: Array) -> Double:
    """The entropy of each row's distribution over classes, the least that cross-entropy with soft targets can be on it.

    CE(t, p) = -sum_c t_c ln p_c = H(t) + KL(t || p) >= H(t), summed over classes, as torch has it.
    targets: (S, N, C), rows that sum to 1.    Returns: (S, N), in [0, ln C].
    """
    return np.array(_of_each_seed(lambda own: scipy.special.entr(own).sum(axis=-1), targets))


def smoothing_floor(classes: int, smoothing: float) -> float:
    """The floor of cross-entropy with smoothed labels, t = (1 - e) onehot + e/C, as torch.nn.CrossEntropyLoss makes them.

    H = -a ln a - (C - 1) b ln b, a = 1 - e + e/C, b = e/C, in nats per row: 1.0148 at C = 1000, e = 0.1.
    """
    other = smoothing / classes
    return float(scipy.special.entr(1 - smoothing + other) + (classes - 1) * scipy.special.entr(other))


def softmax_twice_floor(classes: int, smoothing: float = 0.0) -> float:
    """The least cross-entropy of labels where the logits are a softmax's output already, in nats per row.

    Logits on the simplex give the label a probability of at most e/(e + C - 1), at the corner that is 1 there. A label smoothed
    to no more than that is met, and costs its entropy. Any other, t at the label, is best left at the corner, which costs
    ln(e + C - 1) - t: 1.4612 for ten classes and hard labels.
    """
    label = 1 - smoothing + smoothing / classes
    corner = np.e + classes - 1
    return smoothing_floor(classes, smoothing) if label <= np.e / corner else float(np.log(corner) - label)


def continuous_bernoulli(means: npt.ArrayLike) -> Double:
    """The least mean of -ln p(x | c) over constants c, p the continuous Bernoulli and x targets of that mean.

    p(x | c) = C(c) c^x (1 - c)^(1 - x), C(c) = 2 artanh(1 - 2c)/(1 - 2c) >= 2: BCE lacks ln C (Loaiza-Ganem and Cunningham
    2019). With c = sigmoid(h), -ln p = ln((e^h - 1)/h) - h x, whose least mean is where 1/(1 - e^-h) - 1/h = mean. It is a
    density: below 0 where targets agree, and -inf where all are 0 or all are 1.
    means: any shape, in [0, 1].    Returns: the same shape.
    """
    mean = np.asarray(means, np.float64)

    def apart(h: Double) -> Double:  # from 0, where the formulas are 0/0; the cost is off by the square of that
        return np.where(np.abs(h) < 1e-6, 1e-6, h)

    low, high = np.full(mean.shape, -1e9), np.full(mean.shape, 1e9)
    for _ in range(100):  # by halves; the mean grows with h
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
    """The floor of BCE in each epoch, on the very rows of its minibatches with their weights: (E, S).

    Each minibatch mean is at least the mean entropy of its rows, whatever the parameters then are. The epoch loss is the
    plain mean of the M minibatch means, so that a row weighs 1/(M rows of its minibatch): the rows of a short last
    minibatch weigh more, and those are others in each epoch.
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
    """How far rounding alone can carry a mean loss of size `scale` from its exact value in `dtype`.

    Each term carries at most 8 roundings of relative size u = eps/2 (products, exp, log, the difference and its
    square), and the mean of a minibatch, summed over lanes and then across them, at most 24 more: 32 u in all.
    """
    return 16 * np.finfo(dtype).eps * scale


def format_floor(rows: Array, loss: Loss, format: Format) -> Double:
    """The least loss of outputs that are numbers of a format, on each seed's rows, whatever the model.

    MSE: the mean square distance of the rows to the numbers next to them. BCE, of probabilities or on logits: convex in each, so
    that the least is at one of the two numbers around x, or around its logit; 0 where x is 0 or 1. It exceeds the entropy by
    KL(x || p).
    rows: (S, N, D), for BCE in [0, 1].    Returns: (S,).    Raises OutOfRange as `row_entropy` does.
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
    """(S,): the MSE that roundings of products to the run's format come to by themselves, at its final parameters.

    A rounding is off by a number that is uniform between plus and minus half the spacing there, variance spacing^2/12, and
    roundings are independent (Wilkinson's model). Operands and results are rounded, sums are not:
    Var(W h) = W^2 Var(h) + h^2 Var(W) + Var(result); an activation passes errors on at most as they are. Returned is the mean
    variance of the outputs. A float32 or float64 training of targets that its outputs can meet ends some times above it, because
    steps of less than half a spacing are lost.
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
