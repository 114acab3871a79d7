"""Reference values of a loss: entropy, range of the output, class floor, bottleneck floor, cost of the mean."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import scipy

from aeclaims.anatomy.column_statistics import ColumnStatistics, Double, chunks, sample
from aeclaims.anatomy.records import BOTTLENECK, CLASS, ENTROPY, MEAN, OBSERVED, OUTPUT, Question, ReferenceValue
from aeclaims.theory import floors, logistic

# Range of each output activation. For BCE, `output_range` turns it into probabilities.
RANGES = {"relu": (0.0, math.inf), "tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)}
# Numbers in the sample for values outside the decomposition.
SOME = 2_000_000


def binary_entropy(p: Any) -> Double:
    """Return the binary entropy, `H(p) = -p ln p - (1 - p) ln(1 - p)`.

    It is -inf outside [0, 1], because BCE with target p has no minimum there.
    """
    return np.asarray(scipy.special.entr(p) + scipy.special.entr(1 - np.asarray(p)))


def some(column_statistics: ColumnStatistics) -> Double:
    """Return a sample of the rows in float64, shape (n, D)."""
    return np.asarray(sample(column_statistics.rows, max(2, SOME // column_statistics.features)), np.float64)


def _mean(column_statistics: ColumnStatistics, function: Callable[[Double], Double]) -> float:
    """Return the mean over all rows of a function from (1, n, D) to (1,), which is applied to parts of them."""
    return sum(float(function(part[None])[0]) * len(part) for _, part in chunks(column_statistics.rows)) / len(
        column_statistics.rows
    )


def output_range(question: Question) -> tuple[float, float]:
    """Return the least and the largest prediction of the output, for BCE as probabilities."""
    low, high = RANGES.get(question.output or "", (-math.inf, math.inf))
    if question.loss == "mse":
        return low, high
    if question.loss == "bce_logits":
        return float(scipy.special.expit(low)), float(scipy.special.expit(high))
    return 0.0, 1.0


def reference_values(question: Question, column_statistics: ColumnStatistics) -> tuple[list[ReferenceValue], list[str]]:
    """Return the reference values in ascending order, and a note on each sample."""
    found, notes = (_mse if question.loss == "mse" else _bce)(question, column_statistics)
    if column_statistics.is_sampled:
        notes.insert(
            0,
            f"{len(column_statistics.rows):,} of {column_statistics.count:,} rows were drawn at random and used; "
            "± is the standard error",
        )
    if question.loss == "vae_bce":
        found = [
            replace(each, value=each.value * column_statistics.features, error=each.error * column_statistics.features)
            for each in found
        ]
    return placed(question, found), notes


def placed(question: Question, found: list[ReferenceValue]) -> list[ReferenceValue]:
    """Return the reference values in ascending order, with the observed loss if there is one."""
    if question.observed is not None:
        found.append(ReferenceValue(OBSERVED, float(question.observed), ""))
    return sorted(found, key=lambda level: level.value)


def _mse(question: Question, column_statistics: ColumnStatistics) -> tuple[list[ReferenceValue], list[str]]:
    found = [ReferenceValue(ENTROPY, 0.0, "MSE has none: an exact reconstruction costs 0", is_bound=True)]
    notes = []
    low, high = output_range(question)
    if column_statistics.low.min() < low or column_statistics.high.max() > high:
        cost = _mean(column_statistics, lambda part: floors.range_floor(part, "mse", low, high))
        found.append(
            ReferenceValue(OUTPUT, cost, f"a {question.output} output stays within [{low:g}, {high:g}]", is_bound=True)
        )
    if question.bottleneck is not None and question.bottleneck < column_statistics.features:
        value = float(column_statistics.spectrum[question.bottleneck :].sum() / column_statistics.features)
        is_exact = question.is_affine and question.output == "identity"
        note = (
            "affine layers end at this value (Baldi and Hornik 1989)"
            if is_exact
            else "exact for affine layers; for nonlinear ones a reference line, not a bound: they can go below"
        )
        error = (
            column_statistics.error(column_statistics.row_variance)
            * value
            / max(column_statistics.row_variance.mean(), 1e-300)
        )
        found.append(
            ReferenceValue(
                BOTTLENECK,
                value,
                f"through {question.bottleneck} of {column_statistics.features}: {note}",
                is_exact,
                error,
            )
        )
        if len(column_statistics.spectrum_rows) < len(column_statistics.rows):
            notes.append(
                f"bottleneck floor: computed on {len(column_statistics.spectrum_rows):,} rows, drawn at random"
            )
    found.append(
        ReferenceValue(
            MEAN,
            float(column_statistics.variances.mean()),
            "each column's mean, for every row: the mean variance",
            error=column_statistics.error(column_statistics.row_variance),
        )
    )
    return found, notes


def _bce(question: Question, column_statistics: ColumnStatistics) -> tuple[list[ReferenceValue], list[str]]:
    notes: list[str] = []
    mean = ReferenceValue(
        MEAN, float(binary_entropy(column_statistics.means).mean()), "each column's mean, for every row"
    )
    if column_statistics.entropy is None:
        return [
            ReferenceValue(ENTROPY, -math.inf, "BCE has no floor if a target is outside [0, 1]", is_bound=True),
            mean,
        ], notes
    entropy, error = float(column_statistics.entropy.mean()), column_statistics.error(column_statistics.entropy)
    found = [
        ReferenceValue(ENTROPY, entropy, "BCE(x, p) = H(x) + KL(x || p): irreducible by any model", True, error),
        mean,
    ]
    low, high = output_range(question)
    if low > 0 or high < 1:
        cost = _mean(column_statistics, lambda part: floors.range_floor(part, "bce", low, high))
        found.append(
            ReferenceValue(
                OUTPUT,
                cost,
                f"a {question.output} output read as a logit gives probabilities from {low:.4g} to {high:.4g}",
                True,
                error,
            )
        )
        return found, notes
    found.append(_class(question, column_statistics, entropy, error, notes))
    if question.bottleneck is not None and question.bottleneck < column_statistics.features:
        found.append(_bottleneck(question.bottleneck, column_statistics, entropy, error, notes))
    return found, notes


def _class(
    question: Question, column_statistics: ColumnStatistics, entropy: float, error: float, notes: list[str]
) -> ReferenceValue:
    excess = logistic.excess(column_statistics.rows)
    is_restricted = excess.n_columns < column_statistics.features
    note = "affine layers and a sigmoid cannot go lower; nonlinear ones can"
    if is_restricted:
        note = "affine layers and a sigmoid reach this, or slightly less; nonlinear ones can go lower"
    if excess.n_features < column_statistics.features or excess.n_rows < column_statistics.count or is_restricted:
        columns = f", regressed on themselves and {excess.n_columns - 1} principal components" if is_restricted else ""
        notes.append(
            f"class floor: {excess.n_features} of {column_statistics.features} features{columns}, on {excess.n_rows:,} rows"
        )
    return ReferenceValue(
        CLASS, entropy + excess.mean, note, question.is_affine and not is_restricted, math.hypot(error, excess.error)
    )


def _bottleneck(
    bottleneck: int, column_statistics: ColumnStatistics, entropy: float, error: float, notes: list[str]
) -> ReferenceValue:
    used = min(bottleneck, logistic.MOST_COLUMNS)
    excess = logistic.excess(column_statistics.rows, used)
    notes.append(
        f"bottleneck floor: from the {excess.n_columns} leading principal components, for {excess.n_features} of "
        f"{column_statistics.features} features, on {excess.n_rows:,} rows"
    )
    return ReferenceValue(
        BOTTLENECK,
        entropy + excess.mean,
        f"affine layers and a sigmoid reach this through {bottleneck} of "
        f"{column_statistics.features}, or a lower value down to the class floor",
        error=math.hypot(error, excess.error),
    )
