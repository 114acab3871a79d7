"""Logistic regression with soft targets: what affine layers and a sigmoid reach at best, by Newton's method."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy

from aeclaims.runtime import parallel

Double = npt.NDArray[np.float64]

# What float64 resolves in a loss of about 1.
RESOLUTION = float(np.finfo(np.float64).eps)
# Newton's method begins on this many of the rows, where a step costs next to nothing, and ends on all.
FEW_ROWS = 2_000
# What ten steps gain at least as long as they lead anywhere, in nats.
STALLED = 1e-9
# Of wide or many rows `excess` looks at some: seconds on two cores, whatever it is given.
MOST_ROWS, MOST_COLUMNS, MOST_PRODUCTS = 10_000, 100, 1e10
# Newton's steps on all rows, after those on a few; how near the minimum they end, in nats.
STEPS, FINE = 6, 1e-7


class Excess(NamedTuple):
    """How far above the entropy of its targets a class of models stays, in nats per feature, and on what that was found."""

    mean: float
    error: float
    """standard error over the features, 0 where all features and all rows took part"""
    n_rows: int
    n_features: int
    n_columns: int
    """on which each feature was regressed; fewer than there are: a model of the class reaches this, the best may reach less"""


def floor(rows: Double) -> float:
    """The least mean of ln(1 + exp z) - x z over affine z of the same rows (N, D); see `floors.class_floor`."""
    design = _standardised(rows)
    return float(np.mean([_least(design, targets) for targets in rows.T]))


def excess(rows: npt.NDArray[np.floating], code: int | None = None, products: float = MOST_PRODUCTS) -> Excess:
    """The class floor above the entropy: each feature regressed on all, or on the `code` leading principal components.

    Through a code of K numbers the best choice of them is no convex problem. The principal components are one choice, so that
    what they give is reached by affine layers, and what all features give is never gone below: the two bracket the floor.
    Where there are more rows, features or columns than `products` multiplications allow, some of them are looked at, drawn
    with a fixed seed: of the columns the feature itself and the leading components. Fewer rows make it lower by about
    columns / (2 rows) of itself.
    rows: (N, D), in [0, 1].
    """
    generator, (count, features) = np.random.default_rng(0), rows.shape
    some = np.sort(generator.choice(count, min(count, MOST_ROWS), replace=False))
    own = np.asarray(rows[some], np.float64)
    if code is None and len(own) <= features + 1 and np.linalg.matrix_rank(own - own.mean(axis=0)) == len(own) - 1:
        return Excess(0.0, 0.0, len(own), features, features)  # an affine map takes so few rows to any logits at all
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
    """The `count` leading principal components of rows (N, D): (N, count), fewer where the rank is less.

    By the eigenvectors of the smaller of the two matrices of products, of at most 2,000 rows where both are large.
    """
    centred = rows - rows.mean(axis=0)
    part = centred if min(centred.shape) <= 2_000 else centred[:2_000]
    is_tall = len(part) >= part.shape[1]
    values, vectors = np.linalg.eigh(part.T @ part if is_tall else part @ part.T)
    kept = values > values[-1] * max(part.shape) * RESOLUTION
    directions = (vectors if is_tall else part.T @ vectors)[:, kept][:, ::-1][:, :count]
    return np.asarray(centred @ directions)


def _standardised(columns: Double) -> Double:
    # Columns of mean 0 and variance 1 keep the Hessian well conditioned, however little a feature varies; constant ones say
    # nothing.
    centred, deviation = columns - columns.mean(axis=0), columns.std(axis=0)
    return np.column_stack([centred[:, deviation > 0] / deviation[deviation > 0], np.ones(len(columns))])


def _least(design: Double, targets: Double, is_own_known: bool = True, resolution: float = RESOLUTION) -> float:
    if is_own_known and np.all((targets == 0) | (targets == 1)):
        return 0.0
    coefficients = np.zeros(design.shape[1])
    coefficients[-1] = scipy.special.logit(np.clip(targets.mean(), 1e-12, 1 - 1e-12))
    if len(targets) > 4 * FEW_ROWS:
        begun, _ = _newton(design[:FEW_ROWS], targets[:FEW_ROWS], coefficients, max(resolution, 1e-6))
        # A few rows may be separated where all are not: their coefficients are then too large to begin with.
        coefficients = begun if np.abs(begun).max() < 100 else coefficients
    return _newton(design, targets, coefficients, resolution)[1]


def _newton(design: Double, targets: Double, coefficients: Double, resolution: float) -> tuple[Double, float]:
    """The coefficients of the least mean of ln(1 + exp z) - x z, z = design coefficients, and that mean."""

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
        # Columns that say nothing new are left out by the pseudo-inverse.
        step = np.linalg.pinv(curvature, hermitian=True) @ slope
        if slope @ step < resolution:
            return coefficients, value
        along, size = design @ step, 1.0
        while (moved := losses(z - size * along)) > value:
            size /= 2
            if size < 1e-9:  # rounding hides what is left to gain
                return coefficients, value
        gained = value - moved
        z, value, coefficients = z - size * along, moved, coefficients - size * step
        # Targets next to 0 or 1 have their minimum far out, where curvature vanishes: each step gains e times less.
        if gained < resolution:
            return coefficients, value
    # Where few rows are all but separated, curvature is rounded away and steps wander: of ten, some 1e-10 come.
    if earlier - value < STALLED:
        return coefficients, value
    raise ArithmeticError("Newton's method found no minimum in 100 steps: are the targets numbers in [0, 1]?")
