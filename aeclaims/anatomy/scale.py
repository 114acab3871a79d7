"""Where the values that matter lie on the scale of a loss: entropy, range of the output, class, bottleneck, the mean."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import scipy

from aeclaims.anatomy.anatomy import BOTTLENECK, CLASS, ENTROPY, MEAN, OBSERVED, OUTPUT, Level, Question
from aeclaims.anatomy.column_statistics import Double, Portrait, chunks, sample
from aeclaims.theory import floors, logistic

# What an output can predict; of losses that read it as a logit, on the scale of probabilities.
RANGES = {"relu": (0.0, math.inf), "tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)}
# A part of the rows, of about that many numbers, is enough for what is no part of the decomposition.
SOME = 2_000_000


def binary_entropy(p: Any) -> Double:
    """H(p) = -p ln p - (1 - p) ln(1 - p), -inf outside [0, 1], where the loss of predicting p has no minimum."""
    return np.asarray(scipy.special.entr(p) + scipy.special.entr(1 - np.asarray(p)))


def some(portrait: Portrait) -> Double:
    """A part of the rows, in double precision: (n, D)."""
    return np.asarray(sample(portrait.rows, max(2, SOME // portrait.features)), np.float64)


def _mean(portrait: Portrait, function: Callable[[Double], Double]) -> float:
    """The mean over all rows of what a floor, (1, n, D) to (1,), is on parts of them."""
    return sum(float(function(part[None])[0]) * len(part) for _, part in chunks(portrait.rows)) / len(portrait.rows)


def output_range(question: Question) -> tuple[float, float]:
    """The least and the largest prediction of the output; of BCE, as a probability."""
    low, high = RANGES.get(question.output or "", (-math.inf, math.inf))
    if question.loss == "mse":
        return low, high
    if question.loss == "bce_logits":
        return float(scipy.special.expit(low)), float(scipy.special.expit(high))
    return 0.0, 1.0


def levels(question: Question, portrait: Portrait) -> tuple[list[Level], list[str]]:
    """The levels in ascending order, and how they were found where that is not by all numbers."""
    found, notes = (_mse if question.loss == "mse" else _bce)(question, portrait)
    if portrait.is_sampled:
        notes.insert(0, f"{len(portrait.rows):,} of {portrait.count:,} rows were looked at, drawn at random; "
                        "± is the standard error of that")
    if question.loss == "vae_bce":
        found = [replace(each, value=each.value * portrait.features, error=each.error * portrait.features) for each in found]
    return placed(question, found), notes


def placed(question: Question, found: list[Level]) -> list[Level]:
    """The levels, with the observed loss among them, in ascending order."""
    if question.observed is not None:
        found.append(Level(OBSERVED, float(question.observed), ""))
    return sorted(found, key=lambda level: level.value)


def _mse(question: Question, portrait: Portrait) -> tuple[list[Level], list[str]]:
    found = [Level(ENTROPY, 0.0, "MSE has none: what is reproduced exactly costs nothing", is_bound=True)]
    notes = []
    low, high = output_range(question)
    if portrait.low.min() < low or portrait.high.max() > high:
        cost = _mean(portrait, lambda part: floors.range_floor(part, "mse", low, high))
        found.append(Level(OUTPUT, cost, f"a {question.output} output stays within [{low:g}, {high:g}]", is_bound=True))
    if question.code is not None and question.code < portrait.features:
        value = float(portrait.spectrum[question.code :].sum() / portrait.features)
        is_exact = question.is_affine and question.output == "identity"
        note = "affine layers end here (Baldi and Hornik 1989)" if is_exact else \
               "exact for affine layers; for nonlinear ones a reference line, not a bound: they can go below"
        error = portrait.error(portrait.row_variance) * value / max(portrait.row_variance.mean(), 1e-300)
        found.append(Level(BOTTLENECK, value, f"through {question.code} of {portrait.features}: {note}", is_exact, error))
        if len(portrait.spectrum_rows) < len(portrait.rows):
            notes.append(f"the bottleneck floor is of {len(portrait.spectrum_rows):,} rows, drawn at random")
    found.append(Level(MEAN, float(portrait.variances.mean()), "each column's mean, whatever the row: the mean variance",
                       error=portrait.error(portrait.row_variance)))
    return found, notes


def _bce(question: Question, portrait: Portrait) -> tuple[list[Level], list[str]]:
    notes: list[str] = []
    mean = Level(MEAN, float(binary_entropy(portrait.means).mean()), "each column's mean, whatever the row")
    if portrait.entropy is None:
        return [Level(ENTROPY, -math.inf, "BCE has no floor where a target is outside [0, 1]", is_bound=True), mean], notes
    entropy, error = float(portrait.entropy.mean()), portrait.error(portrait.entropy)
    found = [Level(ENTROPY, entropy, "BCE(x, p) = H(x) + KL(x || p): irreducible, whatever the model", True, error), mean]
    low, high = output_range(question)
    if low > 0 or high < 1:
        cost = _mean(portrait, lambda part: floors.range_floor(part, "bce", low, high))
        found.append(Level(OUTPUT, cost, f"a {question.output} output read as a logit gives probabilities "
                           f"from {low:.4g} to {high:.4g}", True, error))
        return found, notes
    found.append(_class(question, portrait, entropy, error, notes))
    if question.code is not None and question.code < portrait.features:
        found.append(_bottleneck(question.code, portrait, entropy, error, notes))
    return found, notes


def _class(question: Question, portrait: Portrait, entropy: float, error: float, notes: list[str]) -> Level:
    excess = logistic.excess(portrait.rows)
    is_restricted = excess.n_columns < portrait.features
    note = "affine layers and a sigmoid get no lower; nonlinear ones can"
    if is_restricted:
        note = "affine layers and a sigmoid reach this, or a little less; nonlinear ones go lower"
    if excess.n_features < portrait.features or excess.n_rows < portrait.count or is_restricted:
        columns = f", on themselves and {excess.n_columns - 1} principal components" if is_restricted else ""
        notes.append(f"class floor: {excess.n_features} of {portrait.features} features{columns}, over {excess.n_rows:,} rows")
    return Level(CLASS, entropy + excess.mean, note, question.is_affine and not is_restricted, math.hypot(error, excess.error))


def _bottleneck(code: int, portrait: Portrait, entropy: float, error: float, notes: list[str]) -> Level:
    used = min(code, logistic.MOST_COLUMNS)
    excess = logistic.excess(portrait.rows, used)
    notes.append(f"bottleneck floor: by the {excess.n_columns} leading principal components, for {excess.n_features} of "
                 f"{portrait.features} features, over {excess.n_rows:,} rows")
    return Level(BOTTLENECK, entropy + excess.mean, f"affine layers and a sigmoid reach this through {code} of "
                 f"{portrait.features}, or less, down to the class floor", error=math.hypot(error, excess.error))
