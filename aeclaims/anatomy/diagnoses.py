"""Findings about the observed loss, the output of the model, the rows, and rounding."""

import math

import numpy as np

from aeclaims.anatomy import units
from aeclaims.anatomy.column_statistics import ColumnStatistics, Double
from aeclaims.anatomy.records import (
    ENTROPY,
    FRACTION,
    MEAN,
    OUTPUT,
    Diagnosis,
    Question,
    ReferenceValue,
    at,
    floor,
    format_number,
    value,
)
from aeclaims.anatomy.scale import some

# If the MSE of rounding exceeds this fraction of the mean's cost, training meets it.
ROUNDED = 1e-6


def diagnose(
    question: Question, column_statistics: ColumnStatistics, reference_values: list[ReferenceValue]
) -> list[Diagnosis]:
    """Return all findings. Those that explain most about a stuck loss come first."""
    return [
        *place(question, reference_values, column_statistics.features, column_statistics.count),
        *of_output(question, reference_values),
        *_of_targets(question, column_statistics),
        *_of_columns(column_statistics),
        *_of_rounding(question, column_statistics, reference_values),
    ]


def place(question: Question, reference_values: list[ReferenceValue], features: int, rows: int) -> list[Diagnosis]:
    """Compare the observed loss with the reference values."""
    observed, least, mean = question.observed, floor(reference_values), value(reference_values, MEAN)
    if observed is None or not math.isfinite(least):
        return []
    error, width = 3 * max(level.error for level in reference_values), mean - least
    fits = units.fitting(question, features, rows, least, mean)
    then = ". Possible causes: " + "; ".join(fits) if fits else ""
    if observed < least - max(error, units.SLACK * least):
        return [
            Diagnosis(
                "below",
                f"{format_number(observed)} is below the floor, {format_number(least)}, and no model gets below it. The "
                f"unit, the reduction, the loss or the rows differ from those given{then}",
            )
        ]
    if observed > mean + max(error, 0.05 * width, units.SLACK * mean):
        return [
            Diagnosis(
                "above",
                f"{format_number(observed)} is above the cost of predicting the mean, {format_number(mean)}. Training "
                f"diverged or has not started, or the unit or the reduction differs{then}",
            )
        ]
    if abs(observed - mean) <= max(error, 0.02 * width):
        return [
            Diagnosis(
                "mean",
                f"{format_number(observed)} is the cost of predicting each column's mean: the output does not depend "
                "on the input. Look for dead ReLUs, a saturated layer, or a learning rate that is far too high or too low",
            )
        ]
    if observed - least <= max(error, 0.01 * width):
        return [Diagnosis("floor", f"{format_number(observed)} is at the floor: training has nothing left to gain")]
    return []


def of_output(question: Question, reference_values: list[ReferenceValue]) -> list[Diagnosis]:
    """Return the effect of the output activation on the loss."""
    if question.loss in ("bce", "vae_bce") and question.output != "sigmoid":
        return [
            Diagnosis(
                "output",
                f"{question.loss} takes probabilities, and a {question.output} output is not confined to [0, 1]: "
                "add a sigmoid, or use the loss on logits",
            )
        ]
    confined = at(reference_values, OUTPUT)
    if confined is None:
        return []
    costs = f"that alone costs {format_number(confined.value - value(reference_values, ENTROPY))}"
    if question.loss == "mse":
        what = "go negative" if question.output == "relu" else "leave its range"
        return [Diagnosis("output", f"the {question.output} output cannot {what}, but some targets do: {costs}")]
    applied = "softmax" if question.loss == "cross_entropy" else "sigmoid"
    return [Diagnosis("output", f"the loss applies a {applied} to the output of a {question.output}: {costs}")]


def _of_targets(question: Question, column_statistics: ColumnStatistics) -> list[Diagnosis]:
    found, total = [], column_statistics.rows.size
    if question.loss != "mse" and column_statistics.n_outside:
        low, high = float(column_statistics.low.min()), float(column_statistics.high.max())
        found.append(
            Diagnosis(
                "outside",
                f"{column_statistics.n_outside:,} of {total:,} targets are outside [0, 1], from {low:.4g} to "
                f"{high:.4g}: for them, BCE falls without limit as the logit grows. torch's BCELoss refuses them, and "
                "BCEWithLogitsLoss goes below zero",
            )
        )
    if question.loss == "vae_bce" and column_statistics.entropy is not None and column_statistics.n_binary < total:
        found.append(
            Diagnosis(
                "likelihood",
                "BCE is not a likelihood of values between 0 and 1: it lacks the normaliser ln C(p) of the continuous "
                f"Bernoulli, at least ln 2 per feature and {column_statistics.features * math.log(2):.1f} per row "
                "(Loaiza-Ganem and Cunningham 2019)",
            )
        )
    return found


def _of_columns(column_statistics: ColumnStatistics) -> list[Diagnosis]:
    found, repeats = [], []
    if column_statistics.n_constant:
        repeats.append(f"{column_statistics.n_constant} of {column_statistics.features} columns never vary")
    if column_statistics.n_duplicates:
        repeats.append(f"{column_statistics.n_duplicates} repeat another column")
    if column_statistics.rank < min(column_statistics.features, len(column_statistics.spectrum_rows) - 1):
        repeats.append(
            f"{column_statistics.rank} of {column_statistics.features} directions vary: with a bottleneck of "
            f"{column_statistics.rank}, affine layers bring MSE to 0"
        )
    if repeats:
        found.append(Diagnosis("columns", "; ".join(repeats)))
    if column_statistics.count <= column_statistics.features:
        found.append(
            Diagnosis(
                "few rows",
                f"{column_statistics.count} rows of {column_statistics.features} features lie in {column_statistics.count - 1} "
                "directions: a model can memorise them, and these floors say little about other rows",
            )
        )
    return found


def _of_rounding(
    question: Question, column_statistics: ColumnStatistics, reference_values: list[ReferenceValue]
) -> list[Diagnosis]:
    """Return the limits of the number format, if training meets them or the observed loss is near them."""
    fraction, near = FRACTION[question.dtype], math.inf if question.observed is None else question.observed
    if question.loss == "mse":
        rounding = rounding_of(some(column_statistics), fraction)
        if near <= 100 * rounding:
            return [
                Diagnosis(
                    "rounding",
                    f"{question.dtype} numbers of this size are {math.sqrt(12 * rounding):.1e} apart: rounding "
                    f"alone gives an MSE of {rounding:.1e}, and {format_number(near)} is close to it",
                )
            ]
        if rounding > ROUNDED * value(reference_values, MEAN) > 0:
            return [
                Diagnosis(
                    "rounding",
                    f"the rows are far from 0, compared with their variation: rounding to {question.dtype} "
                    f"alone gives an MSE of {rounding:.1e}; subtract each column's mean",
                )
            ]
    least = 2.0 ** -(fraction + 1)
    if (
        question.loss == "bce"
        and column_statistics.entropy is not None
        and floor(reference_values) < least
        and near <= 100 * least
    ):
        return [
            Diagnosis(
                "rounding",
                f"the largest {question.dtype} below 1 is 1 - {least:.0e}: BCE of probabilities cannot resolve "
                "less, and its gradient vanishes there; compute the loss from logits",
            )
        ]
    return []


def rounding_of(values: Double, fraction: int) -> float:
    """Return the mean square of rounding to `fraction` bits, `spacing^2/12` with `spacing = 2^(exponent - fraction)`."""
    exponents = np.frexp(values[values != 0])[1] - 1
    return float((4.0 ** (exponents - fraction)).sum() / 12 / values.size)
