"""Other reductions and units of a loss, and a test which of them would explain a loss outside its range."""

import math
from collections.abc import Callable
from typing import NamedTuple

from aeclaims.anatomy.records import Question

# Relative distance by which a loss may leave [floor, mean]: it may be rounded to three digits, or be of another split.
SLACK = 0.005


class Reduction(NamedTuple):
    """A way to compute a loss.

    Attributes:
        statement: Description of the reduction or unit.
        convert: Function from that loss to the unit of this project.
    """

    statement: str
    convert: Callable[[float], float]


def reductions(question: Question, features: int, rows: int) -> list[Reduction]:
    """Return the common ways to compute the loss, the most common first."""
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
            Reduction("the root of the squared error (RMSE)", lambda x: x * x),
            *found,
        ]
    return [Reduction("in bits, not nats, a factor of ln 2", lambda x: x * math.log(2)), *found]


def fitting(question: Question, features: int, rows: int, floor: float, mean_cost: float) -> list[str]:
    """Return the reductions that put the observed loss between the floor and the cost of predicting the mean."""
    assert question.observed is not None
    low, high = floor * (1 - SLACK), mean_cost * (1 + SLACK)
    found = [
        (reading.statement, reading.convert(question.observed)) for reading in reductions(question, features, rows)
    ]
    return [
        f"{says} ({value:.4g} in this unit)"
        for says, value in found
        if low <= value <= high and value != question.observed
    ]
