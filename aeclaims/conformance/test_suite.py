"""The suite's arithmetic on this machine, on numbers that are counted by hand: epochs to a bound, judges, floors."""

import math
from collections.abc import Callable

import numpy as np

from aeclaims.conformance.direct import number
from aeclaims.errors import ClaimFailed
from aeclaims.experiment import Adam, Experiment, Uniform, affine
from aeclaims.judging.claim import conformance
from aeclaims.judging.judge import SIDES, Judge, Proportion
from aeclaims.run import Run
from aeclaims.start import Start
from aeclaims.theory import floors

EXPERIMENT = Experiment(
    rows=Uniform(features=2), model=affine(2, 2), loss="bce_logits", optimizer=Adam(), epochs=4, n_rows=3, batch_size=2
)
START = Start(EXPERIMENT, (0, 1, 2, 3))


@conformance(
    "epochs to a bound",
    statement="the first epoch below the bound; a loss on the bound is not below it, nor is NaN",
    source="suite",
    seeds=1,
    is_quick=True,
)
def test_epochs_to_a_bound_are_those_of_the_first_loss_below_it(judge: Judge) -> None:
    losses = np.array([[2, 0.5, np.nan, 0.25], [1, 0.5, np.nan, 1], [0.25, 0.5, np.nan, 1], [0.125, np.inf, np.nan, 1]])
    run = Run(START, losses, START.parameters())
    for bound, expected in ((0.5, (3, 0, 0, 1)), (0.25, (4, 0, 0, 0)), (4.0, (1, 1, 0, 1))):
        for seed, (found, epoch) in enumerate(zip(run.first_epoch_below(bound), expected, strict=True)):
            number(
                judge,
                float(found),
                at_least=epoch,
                at_most=epoch,
                what=f"first epoch below {bound:g} of replica {seed}",
                reason="counted by hand",
            )


@conformance(
    "judges",
    statement="judges reject NaN, values out of bounds, and shares that chance does not explain, and nothing else",
    source="suite",
    seeds=1,
    is_quick=True,
)
def test_judges_reject_what_they_must_and_nothing_else(judge: Judge) -> None:
    def share(count: int, share: Proportion) -> Callable[[Judge], None]:
        return lambda own: own.proportion(np.arange(40) < count, share, what="", reason="", seeds=range(40))

    def every(value: float) -> Callable[[Judge], None]:
        return lambda own: own.all_within([0.0, value], at_least=-1.0, at_most=1.0, what="", reason="", seeds=(0, 1))

    cases = {
        "NaN": (every(math.nan), True),
        "infinity": (every(math.inf), True),
        "2 of at most 1": (every(2), True),
        "1 of at most 1": (every(1), False),
        "-1 of at least -1": (every(-1), False),
        "-2 of at least -1": (every(-2), True),
    }
    for at in (0.25, 0.5):
        # P(X >= k) for X ~ Binomial(40, p), from its terms; `least` is the first k with a P below the judge's error rate.
        tails = np.cumsum([math.comb(40, k) * at**k * (1 - at) ** (40 - k) for k in range(40, -1, -1)])[::-1]
        least = int(np.flatnonzero(tails < Judge().alpha / SIDES)[0])
        for is_most, bound in ((True, Proportion(at_most=at)), (False, Proportion(at_least=1 - at))):
            for count, is_rejected in ((least - 1, False), (least, True)):
                own = count if is_most else 40 - count
                cases[f"{own} of 40, {bound}"] = share(own, bound), is_rejected
    for name, (judged, is_rejected) in cases.items():
        number(
            judge,
            float(_rejects(judged)),
            at_least=is_rejected,
            at_most=is_rejected,
            what=f"whether a judge rejects {name}",
            reason="it follows from the definition, or from the terms of the binomial distribution",
        )


def _rejects(judged: Callable[[Judge], None]) -> bool:
    try:
        judged(Judge())
    except ClaimFailed:
        return True
    return False


@conformance(
    "floors",
    statement="floors of rows equal those that are computed by hand",
    source="suite",
    seeds=1,
    is_quick=True,
)
def test_floors_are_those_of_the_very_rows(judge: Judge) -> None:
    rows = START.rows().astype(np.float64)
    entropy = -(rows * np.log(rows) + (1 - rows) * np.log(1 - rows)).mean(axis=2)
    # Minibatches of two rows and of one row, which weighs as much as the other two together.
    orders = [START.order(epoch) for epoch in range(EXPERIMENT.epochs)]
    by_epoch = [(entropy[:, order[:2]].mean(axis=1) + entropy[:, order[2]]) / 2 for order in orders]
    lost = [np.linalg.eigvalsh(np.cov(own.T, bias=True))[0] / 2 for own in rows]
    found = {
        "entropy": (floors.entropy(START.rows()), entropy.mean(axis=1)),
        "entropy of epochs": (floors.epoch_entropy(START), by_epoch),
        "bottleneck floor": (floors.bottleneck_floor(START.rows(), 1), lost),
    }
    for name, (seen, expected) in found.items():
        number(
            judge,
            float(np.abs(seen - np.asarray(expected)).max()),
            at_most=1e-12,
            what=f"error of the {name}",
            reason="the same formula, written out",
        )
