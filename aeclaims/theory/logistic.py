"""Logistic regression with soft targets by Newton's method: the best fit of affine layers and a sigmoid."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy

from aeclaims.runtime import parallel

Double = npt.NDArray[np.float64]

# Resolution of float64 in a loss of about 1.
RESOLUTION = float(np.finfo(np.float64).eps)
# Newton's method starts on this many rows, because their steps are cheap, and ends on all rows.
FEW_ROWS = 2_000
# Least gain of ten steps that still make progress, in nats.
STALLED = 1e-9
# Limits of the sample that `excess` uses. It takes seconds on two cores for any rows.
MOST_ROWS, MOST_COLUMNS, MOST_PRODUCTS = 10_000, 100, 1e10
# Newton steps on all rows, after those on a few rows; the distance to the minimum at which they stop, in nats.
STEPS, FINE = 6, 1e-7


class Excess(NamedTuple):
    """Distance of a class of models from the entropy of its targets, in nats per feature, and the sample behind it."""

    mean: float
    error: float
    """Standard error over the features; 0 if all features and all rows took part."""
    n_rows: int
    n_features: int
    n_columns: int
    """Columns on which each feature was regressed. If some were left out, the best model of the class may reach less."""


def floor(rows: Double) -> float:
    """Least mean of ln(1 + exp z) - x z over affine maps z of the same rows, shape (N, D). See `floors.class_floor`."""
    design = _standardised(rows)
    return float(np.mean([_least(design, targets) for targets in rows.T]))


def excess(rows: npt.NDArray[np.floating], code: int | None = None, products: float = MOST_PRODUCTS) -> Excess:
    """Difference of the class floor and the entropy.

    Each feature is regressed on all features, or on the leading principal components. With a bottleneck of K numbers, the
    best choice of these numbers is not a convex problem. The principal components are one choice, so affine layers reach
    its value. No choice goes below the value of all features. The two values bracket the floor.

    If `products` multiplications do not suffice, a sample is drawn with a fixed seed. It has fewer rows and features. Its
    columns are the feature itself and the leading components. Fewer rows lower the result by about the fraction
    columns / (2 rows).

    Args:
        rows: Shape (N, D), values in [0, 1].
        code: Number of principal components, K. None for all features.
        products: Limit of multiplications.
    """
    generator, (count, features) = np.random.default_rng(0), rows.shape
    some = np.sort(generator.choice(count, min(count, MOST_ROWS), replace=False))
    own = np.asarray(rows[some], np.float64)
    if code is None and len(own) <= features + 1 and np.linalg.matrix_rank(own - own.mean(axis=0)) == len(own) - 1:
        return Excess(0.0, 0.0, len(own), features, features)  # an affine map can take so few rows to any logits
    width = min(features, MOST_COLUMNS)
    components = None if code is None and width == features else principal(own, width - 1 if code is None else code)
    columns = features if components is None else components.shape[1] + (code is None)
    most = max(4, int(products / (STEPS * len(own) * (columns + 1) ** 2)))
    picked = np.sort(generator.choice(features, min(features, most), replace=False))
    design = _standardised(own if components is None else components)

    def of(feature: int) -> float:
        targets = own[:, feature]
        with_own = (
            design if components is None or code is not None else _standardised(np.column_stack([targets, components]))
        )
        entropy = scipy.special.entr(targets) + scipy.special.entr(1 - targets)
        return _least(with_own, targets, code is None, FINE) - float(entropy.mean())

    found = np.array(parallel.map(of, picked.tolist()))
    is_sampled = len(picked) < features or len(own) < count
    error = float(found.std(ddof=1) / np.sqrt(len(found))) if is_sampled and len(found) > 1 else 0.0
    return Excess(float(found.mean()), error, len(own), len(picked), columns)


def principal(rows: Double, count: int) -> Double:
    """Return the `count` leading principal components of rows, shape (N, D).

    They come from the eigenvectors of the smaller of the two matrices of products. If both are large, 2,000 rows are used.

    Returns:
        Shape (N, count), with fewer columns if the rank is less.
    """
    centred = rows - rows.mean(axis=0)
    part = centred if min(centred.shape) <= 2_000 else centred[:2_000]
    is_tall = len(part) >= part.shape[1]
    values, vectors = np.linalg.eigh(part.T @ part if is_tall else part @ part.T)
    kept = values > values[-1] * max(part.shape) * RESOLUTION
    directions = (vectors if is_tall else part.T @ vectors)[:, kept][:, ::-1][:, :count]
    return np.asarray(centred @ directions)


def _standardised(columns: Double) -> Double:
    # Columns of mean 0 and variance 1 keep the Hessian well conditioned, even if a feature varies little. Constant columns
    # carry no information.
    centred, deviation = columns - columns.mean(axis=0), columns.std(axis=0)
    return np.column_stack([centred[:, deviation > 0] / deviation[deviation > 0], np.ones(len(columns))])


def _least(design: Double, targets: Double, is_own_known: bool = True, resolution: float = RESOLUTION) -> float:
    if is_own_known and np.all((targets == 0) | (targets == 1)):
        return 0.0
    coefficients = np.zeros(design.shape[1])
    coefficients[-1] = scipy.special.logit(np.clip(targets.mean(), 1e-12, 1 - 1e-12))
    if len(targets) > 4 * FEW_ROWS:
        begun, _ = _newton(design[:FEW_ROWS], targets[:FEW_ROWS], coefficients, max(resolution, 1e-6))
        # A few rows may be separable although all rows are not. Their coefficients are then too large to start from.
        coefficients = begun if np.abs(begun).max() < 100 else coefficients
    return _newton(design, targets, coefficients, resolution)[1]


def _newton(design: Double, targets: Double, coefficients: Double, resolution: float) -> tuple[Double, float]:
    """Minimise the mean of ln(1 + exp z) - x z, with z = design coefficients.

    Returns:
        The coefficients and the mean at the minimum.
    """

    def losses(z: Double) -> float:
        return float(np.mean(np.maximum(z, 0) - targets * z + np.log1p(np.exp(-np.abs(z)))))

    z = design @ coefficients
    value = losses(z)
    earlier = value
    for count in range(100):
        if count % 10 == 0:
            earlier = value
        p = scipy.special.expit(z)
        slope = design.T @ (p - targets) / len(targets)
        curvature = (design.T * (p * (1 - p))) @ design / len(targets)
        # The pseudo-inverse ignores redundant columns.
        step = np.linalg.pinv(curvature, hermitian=True) @ slope
        if slope @ step < resolution:
            return coefficients, value
        along, size = design @ step, 1.0
        while (moved := losses(z - size * along)) > value:
            size /= 2
            if size < 1e-9:  # rounding hides the remaining gain
                return coefficients, value
        gained = value - moved
        z, value, coefficients = z - size * along, moved, coefficients - size * step
        # If targets are next to 0 or 1, the minimum is far out and curvature vanishes. Each step gains e times less.
        if gained < resolution:
            return coefficients, value
    # If few rows are almost separable, rounding hides the curvature and steps wander. Ten steps gain about 1e-10.
    if earlier - value < STALLED:
        return coefficients, value
    raise ArithmeticError("Newton's method found no minimum in 100 steps: check that the targets are in [0, 1]")
