"""Summary of an anatomy in a sentence, and possible changes with the floor that each would give."""

import math

import numpy as np

from aeclaims.anatomy.column_statistics import ColumnStatistics
from aeclaims.anatomy.records import (
    BOTTLENECK,
    CLASS,
    ENTROPY,
    MEAN,
    OUTPUT,
    Advice,
    Question,
    ReferenceValue,
    at,
    floor,
    format_number,
    value,
)
from aeclaims.anatomy.scale import binary_entropy, some
from aeclaims.anatomy.units import SLACK
from aeclaims.theory import floors

# A floor below this fraction of the mean's cost is no reason to change a loss.
NEGLIGIBLE = 1e-3


def advise(
    question: Question, column_statistics: ColumnStatistics, reference_values: list[ReferenceValue]
) -> list[Advice]:
    """Return the changes that would lower the floor, each with the floor that it would give."""
    return (_of_mse if question.loss == "mse" else _of_bce)(question, column_statistics, reference_values)


def _of_mse(
    question: Question, column_statistics: ColumnStatistics, reference_values: list[ReferenceValue]
) -> list[Advice]:
    found, mean = [], value(reference_values, MEAN)
    if (
        question.bottleneck is not None
        and at(reference_values, BOTTLENECK) is not None
        and value(reference_values, BOTTLENECK) > NEGLIGIBLE * mean
    ):
        lost = column_statistics.spectrum.sum() - column_statistics.spectrum.cumsum()
        near = int(np.argmax(lost <= 0.01 * column_statistics.spectrum.sum())) + 1
        if question.bottleneck < near < column_statistics.rank:
            floor_near = float(lost[near - 1]) / column_statistics.features
            found.append(Advice(f"bottleneck: {near}, which keeps 99 % of the variance (affine)", floor_near))
        found.append(Advice(f"bottleneck: {column_statistics.rank}, the rank of the rows (affine)", 0.0))
    if at(reference_values, OUTPUT) is not None:
        found.append(Advice("output: identity, which reaches every target", 0.0))
    if column_statistics.n_binary == column_statistics.rows.size:
        found.append(
            Advice(
                "loss: BCE on logits, which fits targets that are 0 or 1",
                0.0,
                float(binary_entropy(column_statistics.means).mean()),
            )
        )
    return found


def _of_bce(
    question: Question, column_statistics: ColumnStatistics, reference_values: list[ReferenceValue]
) -> list[Advice]:
    scale = column_statistics.features if question.loss == "vae_bce" else 1
    mse = Advice("loss: MSE, which has no entropy", 0.0, float(column_statistics.variances.mean()) * scale)
    if column_statistics.entropy is None:
        return [_rescaled(column_statistics, scale), mse]
    entropy, mean = value(reference_values, ENTROPY), value(reference_values, MEAN)
    found = []
    if at(reference_values, OUTPUT) is not None:
        found.append(Advice("output: no activation, because the loss applies the sigmoid", entropy, mean))
    if entropy <= NEGLIGIBLE * mean:
        return found
    is_one = some(column_statistics) > 0.5
    found += [
        Advice("report: the loss minus the entropy, KL(x || p)", 0.0, mean - entropy),
        mse,
        Advice(
            "targets: 0 and 1, if they stand for no and yes",
            0.0,
            float(binary_entropy(is_one.mean(axis=0)).mean()) * scale,
        ),
    ]
    if question.loss == "vae_bce":
        least = (
            -math.inf
            if column_statistics.n_binary
            else float(floors.continuous_bernoulli(some(column_statistics)[:100]).mean()) * scale
        )
        found.append(
            Advice(
                "loss: continuous Bernoulli, BCE minus ln C(p)",
                least,
                float(floors.continuous_bernoulli(column_statistics.means).mean()) * scale,
            )
        )
    return found


def _rescaled(column_statistics: ColumnStatistics, scale: int) -> Advice:
    low, high, values = float(column_statistics.low.min()), float(column_statistics.high.max()), some(column_statistics)
    if low >= 0 and 1 < high <= 255 and (values == np.floor(values)).all():
        shift, size, says = 0.0, 255.0, "targets: bytes divided by 255"
    else:
        shift, size, says = low, (high - low) or 1.0, f"targets: scaled to [0, 1], from [{low:.4g}, {high:.4g}]"
    scaled = ((values - shift) / size).clip(0, 1)
    return Advice(
        says, float(floors.entropy(scaled[None])[0]) * scale, float(binary_entropy(scaled.mean(axis=0)).mean()) * scale
    )


def sentence(question: Question, reference_values: list[ReferenceValue]) -> str:
    """Sum up the anatomy in a sentence."""
    least, mean, observed = floor(reference_values), value(reference_values, MEAN), question.observed
    if math.isinf(value(reference_values, ENTROPY)):
        return "This loss has no floor on these targets, so its value does not measure the reconstruction."
    if observed is None:
        return (
            f"{_out_of_reach(reference_values)} Training can gain at most {format_number(mean - least)}: the cost of "
            f"predicting the mean, {format_number(mean)}, minus the floor."
        )
    if mean <= least or not least * (1 - SLACK) <= observed <= least + 1.05 * (mean - least):
        return (
            f"Your loss, {format_number(observed)}, is outside the expected range: from the floor, {format_number(least)}, "
            f"to the cost of predicting the mean, {format_number(mean)}."
        )
    won = (mean - observed) / (mean - least)
    return (
        f"In your loss of {format_number(observed)}, {'; '.join(_parts(reference_values, observed))}. Training has gained "
        f"{_percent(max(won, 0))} of the distance from the mean predictor to the floor."
    )


def _out_of_reach(reference_values: list[ReferenceValue]) -> str:
    entropy, least = value(reference_values, ENTROPY), floor(reference_values)
    holds = next(level.name for level in reference_values if level.is_bound and level.value == least)
    owns = f", of which {format_number(entropy)} is the entropy of the targets" if entropy > 0 else ""
    if holds == ENTROPY and entropy > 0:
        return (
            f"Zero is out of reach: {format_number(entropy)} is the entropy of the targets, which even a perfect prediction "
            "pays."
        )
    return {
        ENTROPY: "The loss and the rows allow zero.",
        OUTPUT: f"No weights bring the loss below {format_number(least)}{owns}: the output cannot leave its range.",
        CLASS: f"No affine model brings the loss below {format_number(least)}{owns}.",
        BOTTLENECK: f"No affine model brings the loss below {format_number(least)}, which is lost in the bottleneck.",
    }[holds]


def _parts(reference_values: list[ReferenceValue], observed: float) -> list[str]:
    entropy, least = value(reference_values, ENTROPY), floor(reference_values)
    left, parts = max(observed - least, 0.0), []
    if entropy > 0:
        parts.append(
            f"{format_number(entropy)} ({_percent(entropy / observed)}) is the entropy of the targets, which even a perfect "
            "prediction pays"
        )
    if least > entropy:
        holds = next(level.name for level in reference_values if level.is_bound and level.value == least)
        parts.append(f"{format_number(least - entropy)} is out of reach of this model ({holds})")
    return [*parts, f"{format_number(left)} ({_percent(left / observed if observed else 0)}) is left for training"]


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
