"""What was found in the rows, in the model's output, in the rounding of numbers, and in where the observed loss lies."""

import math

import numpy as np

from aeclaims.anatomy import units
from aeclaims.anatomy.anatomy import (
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
from aeclaims.anatomy.column_statistics import ColumnStatistics, Double
from aeclaims.anatomy.scale import some

# An MSE of rounding that is more than this of what the mean costs is one that training meets.
ROUNDED = 1e-6


def diagnose(
    question: Question, column_statistics: ColumnStatistics, reference_values: list[ReferenceValue]
) -> list[Diagnosis]:
    """All that was found; what says most of a stuck loss comes first."""
    return [
        *place(question, reference_values, column_statistics.features, column_statistics.count),
        *of_output(question, reference_values),
        *_of_targets(question, column_statistics),
        *_of_columns(column_statistics),
        *_of_rounding(question, column_statistics, reference_values),
    ]


def place(question: Question, reference_values: list[ReferenceValue], features: int, rows: int) -> list[Diagnosis]:
    """Where the observed loss lies on its scale."""
    observed, least, mean = question.observed, floor(reference_values), value(reference_values, MEAN)
    if observed is None or not math.isfinite(least):
        return []
    error, width = 3 * max(level.error for level in reference_values), mean - least
    fits = units.fitting(question, features, rows, least, mean)
    then = "; it would fit if it is " + ", or ".join(fits) if fits else ""
    if observed < least - max(error, units.SLACK * least):
        return [
            Diagnosis(
                "below",
                f"{format_number(observed)} is below the floor, {format_number(least)}, which no model gets below: its "
                f"unit, its reduction, the loss or the rows are others than these{then}",
            )
        ]
    if observed > mean + max(error, 0.05 * width, units.SLACK * mean):
        return [
            Diagnosis(
                "above",
                f"{format_number(observed)} is more than predicting the mean costs, {format_number(mean)}: training "
                f"diverged or has not begun, or its unit or reduction is another{then}",
            )
        ]
    if abs(observed - mean) <= max(error, 0.02 * width):
        return [
            Diagnosis(
                "mean",
                f"{format_number(observed)} is what predicting each column's mean costs: the output does not depend "
                "on the input. Look for dead ReLUs, a saturated layer, a learning rate far too high or too low",
            )
        ]
    if observed - least <= max(error, 0.01 * width):
        return [
            Diagnosis("floor", f"{format_number(observed)} is at the floor: there is nothing left to win by training")
        ]
    return []


def of_output(question: Question, reference_values: list[ReferenceValue]) -> list[Diagnosis]:
    """What the output's activation does to the loss."""
    if question.loss in ("bce", "vae_bce") and question.output != "sigmoid":
        return [
            Diagnosis(
                "output",
                f"{question.loss} takes probabilities, which a {question.output} output is not confined to: "
                "give it a sigmoid, or take the loss on logits",
            )
        ]
    confined = at(reference_values, OUTPUT)
    if confined is None:
        return []
    costs = f"that alone costs {format_number(confined.value - value(reference_values, ENTROPY))}"
    if question.loss == "mse":
        what = "go negative" if question.output == "relu" else "leave its range"
        return [Diagnosis("output", f"the {question.output} output cannot {what}, and targets do: {costs}")]
    applied = "softmax" if question.loss == "cross_entropy" else "sigmoid"
    return [
        Diagnosis("output", f"the loss applies a {applied} itself, to what a {question.output} gives already: {costs}")
    ]


def _of_targets(question: Question, column_statistics: ColumnStatistics) -> list[Diagnosis]:
    found, total = [], column_statistics.rows.size
    if question.loss != "mse" and column_statistics.n_outside:
        low, high = float(column_statistics.low.min()), float(column_statistics.high.max())
        found.append(
            Diagnosis(
                "outside",
                f"{column_statistics.n_outside:,} of {total:,} targets are outside [0, 1], from {low:.4g} to "
                f"{high:.4g}: BCE falls there without end as the logit grows. torch's BCELoss refuses them, "
                "BCEWithLogitsLoss goes below zero",
            )
        )
    if question.loss == "vae_bce" and column_statistics.entropy is not None and column_statistics.n_binary < total:
        found.append(
            Diagnosis(
                "likelihood",
                "BCE is none of values between 0 and 1, for it lacks the normaliser ln C(p) of the "
                f"continuous Bernoulli, at least ln 2 a feature and {column_statistics.features * math.log(2):.1f} a row "
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
            f"{column_statistics.rank} of {column_statistics.features} directions vary: through a code of "
            f"{column_statistics.rank} affine layers bring MSE to 0"
        )
    if repeats:
        found.append(Diagnosis("columns", "; ".join(repeats)))
    if column_statistics.count <= column_statistics.features:
        found.append(
            Diagnosis(
                "few rows",
                f"{column_statistics.count} rows of {column_statistics.features} features lie in {column_statistics.count - 1} "
                "directions: a model can learn them by heart, and these floors say little of other rows",
            )
        )
    return found


def _of_rounding(
    question: Question, column_statistics: ColumnStatistics, reference_values: list[ReferenceValue]
) -> list[Diagnosis]:
    """What the numbers themselves cannot resolve, where training meets it or the observed loss is near it."""
    fraction, near = FRACTION[question.dtype], math.inf if question.observed is None else question.observed
    if question.loss == "mse":
        rounding = rounding_of(some(column_statistics), fraction)
        if near <= 100 * rounding:
            return [
                Diagnosis(
                    "rounding",
                    f"numbers of {question.dtype} as large as these are {math.sqrt(12 * rounding):.1e} "
                    f"apart: rounding alone is an MSE of {rounding:.1e}, and {format_number(near)} is next to it",
                )
            ]
        if rounding > ROUNDED * value(reference_values, MEAN) > 0:
            return [
                Diagnosis(
                    "rounding",
                    f"the rows lie far from 0 for how little they vary: rounding to {question.dtype} "
                    f"alone is an MSE of {rounding:.1e}; subtract each column's mean",
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
                f"the {question.dtype} next to 1 is 1 - {least:.0e}: BCE of probabilities resolves no "
                "less, and its gradient dies there; compute the loss from logits",
            )
        ]
    return []


def rounding_of(values: Double, fraction: int) -> float:
    """The mean square of rounding to `fraction` bits: spacing^2/12 for each value, spacing = 2^(exponent - fraction)."""
    exponents = np.frexp(values[values != 0])[1] - 1
    return float((4.0 ** (exponents - fraction)).sum() / 12 / values.size)
