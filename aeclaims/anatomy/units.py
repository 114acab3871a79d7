"""Losses that are off by a factor: other reductions and other units, and which of them would put a loss on its scale."""

import math
from collections.abc import Callable
from typing import NamedTuple

from aeclaims.anatomy.anatomy import Question

# How far outside [floor, mean] a loss may lie and still be on the scale: rounded to three digits, or of another split.
SLACK = 0.005


class Reduction(NamedTuple):
    """A way in which a loss may have been computed. convert: from that loss to the project's unit."""

    statement: str
    convert: Callable[[float], float]


def reductions(question: Question, features: int, rows: int) -> list[Reduction]:
    """The ways in which losses are computed, the commonest first."""
    batch, each = question.batch_size, "classes" if question.loss == "cross_entropy" else "features"
    if question.loss in ("vae_bce", "cross_entropy"):
        found = [
            Reduction(f"a mean over the {features:,} {each}, not a sum", lambda x: x * features),
            Reduction(f"summed over minibatches of {batch:,} rows, not averaged", lambda x: x / batch),
        ]
    else:
        found = [
            Reduction(f"summed over the {features:,} features, not averaged", lambda x: x / features),
            Reduction(f"summed over minibatches of {batch:,} rows, not averaged", lambda x: x / batch),
            Reduction(f"summed over {features:,} features and {batch:,} rows", lambda x: x / features / batch),
            Reduction(f"divided by the {features:,} features twice", lambda x: x * features),
        ]
    found += [
        Reduction(f"divided by the {batch:,} rows of a minibatch twice", lambda x: x * batch),
        Reduction(f"summed over all {rows:,} rows", lambda x: x / rows),
    ]
    if question.loss == "mse":
        return [
            Reduction("half of the squared error", lambda x: 2 * x),
            Reduction("the root of it (RMSE)", lambda x: x * x),
            *found,
        ]
    return [Reduction("in bits, not nats (a factor of ln 2)", lambda x: x * math.log(2)), *found]


def fitting(question: Question, features: int, rows: int, floor: float, mean_cost: float) -> list[str]:
    """The readings under which the observed loss lies between the floor and what predicting the mean costs."""
    assert question.observed is not None
    low, high = floor * (1 - SLACK), mean_cost * (1 + SLACK)
    found = [
        (reading.statement, reading.convert(question.observed)) for reading in reductions(question, features, rows)
    ]
    return [
        f"{says}: then it is {value:.4g}"
        for says, value in found
        if low <= value <= high and value != question.observed
    ]
