"""The anatomy in a sentence of plain words, and what to change, each with the floor that it would give."""

import math

import numpy as np

from aeclaims.anatomy.anatomy import BOTTLENECK, CLASS, ENTROPY, MEAN, OUTPUT, Advice, Level, Question, at, figure, floor, value
from aeclaims.anatomy.column_statistics import Portrait
from aeclaims.anatomy.scale import binary_entropy, some
from aeclaims.anatomy.units import SLACK
from aeclaims.theory import floors

# Less than this share of what the mean costs is nothing that anybody would change a loss for.
NEGLIGIBLE = 1e-3


def advise(question: Question, portrait: Portrait, levels: list[Level]) -> list[Advice]:
    """What would lower the floor, each with the floor that it would give."""
    return (_of_mse if question.loss == "mse" else _of_bce)(question, portrait, levels)


def _of_mse(question: Question, portrait: Portrait, levels: list[Level]) -> list[Advice]:
    found, mean = [], value(levels, MEAN)
    if question.code is not None and at(levels, BOTTLENECK) is not None and value(levels, BOTTLENECK) > NEGLIGIBLE * mean:
        lost = portrait.spectrum.sum() - portrait.spectrum.cumsum()
        near = int(np.argmax(lost <= 0.01 * portrait.spectrum.sum())) + 1
        if question.code < near < portrait.rank:
            floor_near = float(lost[near - 1]) / portrait.features
            found.append(Advice(f"code: {near}, which keeps 99 % of the variance (affine)", floor_near))
        found.append(Advice(f"code: {portrait.rank}, the rank of the rows (affine)", 0.0))
    if at(levels, OUTPUT) is not None:
        found.append(Advice("output: identity, which reaches every target", 0.0))
    if portrait.n_binary == portrait.rows.size:
        found.append(Advice("loss: BCE on logits, which fits targets that are 0 or 1", 0.0,
                            float(binary_entropy(portrait.means).mean())))
    return found


def _of_bce(question: Question, portrait: Portrait, levels: list[Level]) -> list[Advice]:
    scale = portrait.features if question.loss == "vae_bce" else 1
    mse = Advice("loss: MSE, which has no entropy", 0.0, float(portrait.variances.mean()) * scale)
    if portrait.entropy is None:
        return [_rescaled(portrait, scale), mse]
    entropy, mean = value(levels, ENTROPY), value(levels, MEAN)
    found = []
    if at(levels, OUTPUT) is not None:
        found.append(Advice("output: none, the loss applies the sigmoid itself", entropy, mean))
    if entropy <= NEGLIGIBLE * mean:
        return found
    is_one = some(portrait) > 0.5
    found += [Advice("report: the loss less the entropy, KL(x || p)", 0.0, mean - entropy), mse,
              Advice("targets: 0 and 1, where they stand for no and yes", 0.0,
                     float(binary_entropy(is_one.mean(axis=0)).mean()) * scale)]
    if question.loss == "vae_bce":
        least = -math.inf if portrait.n_binary else float(floors.continuous_bernoulli(some(portrait)[:100]).mean()) * scale
        found.append(Advice("loss: continuous Bernoulli, BCE less ln C(p)", least,
                            float(floors.continuous_bernoulli(portrait.means).mean()) * scale))
    return found


def _rescaled(portrait: Portrait, scale: int) -> Advice:
    low, high, values = float(portrait.low.min()), float(portrait.high.max()), some(portrait)
    if low >= 0 and 1 < high <= 255 and (values == np.floor(values)).all():
        shift, size, says = 0.0, 255.0, "targets: divided by 255, as bytes are"
    else:
        shift, size, says = low, (high - low) or 1.0, f"targets: scaled to [0, 1], from [{low:.4g}, {high:.4g}]"
    scaled = ((values - shift) / size).clip(0, 1)
    return Advice(says, float(floors.entropy(scaled[None])[0]) * scale, float(binary_entropy(scaled.mean(axis=0)).mean()) * scale)


def sentence(question: Question, levels: list[Level]) -> str:
    """The anatomy in plain words."""
    least, mean, observed = floor(levels), value(levels, MEAN), question.observed
    if math.isinf(value(levels, ENTROPY)):
        return "This loss has no floor on these targets: no value of it says how good a reconstruction is."
    if observed is None:
        return (f"{_out_of_reach(levels)} Training can win {figure(mean - least)} at the most: what predicting the mean costs, "
                f"{figure(mean)}, less the floor.")
    if mean <= least or not least * (1 - SLACK) <= observed <= least + 1.05 * (mean - least):
        return (f"This loss lies between its floor, {figure(least)}, and what predicting the mean costs, {figure(mean)}; "
                f"yours, {figure(observed)}, does not.")
    won = (mean - observed) / (mean - least)
    return (f"Of your {figure(observed)}, {'; '.join(_parts(levels, observed))}. Of what a model can win over predicting the "
            f"mean, {_percent(max(won, 0))} is won.")


def _out_of_reach(levels: list[Level]) -> str:
    entropy, least = value(levels, ENTROPY), floor(levels)
    holds = next(level.name for level in levels if level.is_bound and level.value == least)
    owns = f", of which {figure(entropy)} is the targets' own entropy" if entropy > 0 else ""
    if holds == ENTROPY and entropy > 0:
        return (f"Zero is out of reach: {figure(entropy)} is the targets' own entropy, which a perfect prediction pays as "
                "well.")
    return {ENTROPY: "Nothing in the loss and the rows keeps it from zero.",
            OUTPUT: f"No weights bring it below {figure(least)}{owns}: the output cannot leave its range.",
            CLASS: f"No affine model brings it below {figure(least)}{owns}.",
            BOTTLENECK: f"No affine model brings it below {figure(least)}: that is lost in the code."}[holds]


def _parts(levels: list[Level], observed: float) -> list[str]:
    entropy, least = value(levels, ENTROPY), floor(levels)
    left, parts = max(observed - least, 0.0), []
    if entropy > 0:
        parts.append(f"{figure(entropy)} ({_percent(entropy / observed)}) is the targets' own entropy, which a perfect "
                     "prediction pays as well")
    if least > entropy:
        holds = next(level.name for level in levels if level.is_bound and level.value == least)
        parts.append(f"{figure(least - entropy)} is out of reach of this model ({holds})")
    return [*parts, f"{figure(left)} ({_percent(left / observed if observed else 0)}) is left for training"]


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
