"""Every judge rejects something, and does not call a result held if it could not have rejected it."""

import dataclasses
import math
import re

import numpy as np
import pytest
import scipy

from aeclaims import SGD, Adam, Experiment, Uniform, affine, train
from aeclaims.dtypes import clock_error
from aeclaims.errors import ClaimFailed
from aeclaims.judging.judge import ALPHA, SIDES, Judge, Proportion
from aeclaims.run import Run

SEEDS = tuple(range(100, 140))
WORDS = {"what": "loss above the floor", "reason": "theory says so", "seeds": SEEDS}


def test_every_accepts_what_lies_within_its_bounds():
    judge = Judge()
    judge.all_within(np.linspace(0, 1, 40), at_least=0, at_most=1, **WORDS)
    assert (judge.judged, judge.not_exercised) == (1, [])


@pytest.mark.parametrize("bad", [-1e-9, 1 + 1e-9, math.nan, math.inf, -math.inf])
def test_every_rejects_one_value_out_of_bounds_and_names_its_seed(bad):
    values = np.full(40, 0.5)
    values[7] = bad
    with pytest.raises(ClaimFailed, match="seed 107.*1 of 40 seeds fail") as raised:
        Judge().all_within(values, at_least=0, at_most=1, **WORDS)
    assert raised.value.seed == 107
    assert "theory says so" in str(raised.value)


def test_every_names_the_epoch_and_the_worst_seed():
    values = np.full((5, 40), 0.5)
    values[2, 9], values[3, 8] = 3, 2
    with pytest.raises(ClaimFailed, match="seed 109, epoch 3: 3.*2 of 40"):
        Judge().all_within(values, at_most=1, **WORDS)


def test_every_without_seeds_is_not_exercised_and_without_a_bound_is_an_error():
    judge = Judge()
    judge.all_within([], at_least=0, what="nothing", reason="", seeds=())
    assert judge.judged == 0
    assert judge.not_exercised
    with pytest.raises(ValueError, match="cannot fail"):
        Judge().all_within(np.ones(40), **WORDS)
    with pytest.raises(ValueError, match="for 40 seeds"):
        Judge().all_within(np.ones(39), at_least=0, **WORDS)


def test_share_rejects_too_few_and_too_many_by_the_exact_binomial():
    share = Proportion(at_least=0.5, at_most=0.6)
    lowest = int(scipy.stats.binom.ppf(ALPHA / SIDES, 40, 0.5))
    hits = np.arange(40) < lowest
    Judge().proportion(hits, share, **WORDS)
    with pytest.raises(ClaimFailed, match=f"{lowest - 1} of 40 seeds"):
        Judge().proportion(np.arange(40) < lowest - 1, share, **WORDS)
    highest = int(scipy.stats.binom.isf(ALPHA / SIDES, 40, 0.6))
    Judge().proportion(np.arange(40) < highest, share, **WORDS)
    with pytest.raises(ClaimFailed, match="of 40 seeds"):
        Judge().proportion(np.ones(40, bool), share, **WORDS)


@pytest.mark.parametrize(
    "share", [Proportion(at_least=0.95), Proportion(at_most=0.05), Proportion(0.5, 2 / 3), Proportion(at_least=1.0)]
)
def test_the_fewest_seeds_are_the_fewest_with_which_every_side_can_fail(share):
    def sides_that_can_fail(count):
        seeds, failed = range(count), []
        for hits in (np.zeros(count, bool), np.ones(count, bool)):
            try:
                Judge().proportion(hits, share, what="", reason="", seeds=seeds)
            except ClaimFailed:
                failed.append(bool(hits[0]))
        return failed

    stated = [False] * (share.at_least > 0) + [True] * (share.at_most < 1)
    assert sides_that_can_fail(share.fewest_seeds()) == stated
    if share.fewest_seeds() > 1:
        assert sides_that_can_fail(share.fewest_seeds() - 1) != stated


def test_share_with_too_few_seeds_is_not_exercised():
    judge = Judge()
    judge.proportion(np.ones(3, bool), Proportion(at_least=0.5), what="w", reason="b", seeds=(1, 2, 3))
    assert judge.not_exercised == ["w: with 3 seeds it could not fail; 26 are needed"]
    judge.proportion(np.ones(26, bool), Proportion(at_least=0.5), what="w", reason="b", seeds=range(26))
    assert len(judge.not_exercised) == 1


@pytest.mark.parametrize(
    ("share", "claimed", "sign"), [(Proportion(at_least=0.95), 0.95, -1), (Proportion(at_most=0.3), 0.3, 1)]
)
def test_a_share_is_noticed_nine_times_in_ten_where_the_judge_says_so(share, claimed, sign):
    size = 60
    fails = [hits for hits in range(size + 1) if _is_rejected(np.arange(size) < hits, share)]
    noticed = float(re.search(r"a true share of (\S+) or", share.minimum_detectable(size)).group(1))
    assert (noticed - claimed) * sign > 0
    assert sum(scipy.stats.binom.pmf(fails, size, noticed)) == pytest.approx(
        0.9, abs=0.01
    )  # it is shown with three digits
    assert share.minimum_detectable(2) == share.minimum_detectable(0) == "nothing: too few seeds"


def test_what_a_share_notices_is_told_of_each_stated_side_from_the_fewest_seeds_on():
    # With 26 seeds, only a count of 0 or 26 fails. Its probability is 0.9 for a share of 1 - 0.9^(1/26), or of 0.9^(1/26).
    least, most = Proportion(at_least=0.5), Proportion(at_most=0.5)
    assert (least.fewest_seeds(), most.fewest_seeds()) == (26, 26)
    assert least.minimum_detectable(26) == "a true share of 0.00404 or less, 90% of times"
    assert most.minimum_detectable(26) == "a true share of 0.996 or more, 90% of times"
    assert Proportion(at_least=1.0).minimum_detectable(1) == "a true share of 0.1 or less, 90% of times"
    assert (
        Proportion(0.5, 0.5).minimum_detectable(26, alpha=6e-2)
        == "a true share of 0.0966 or less, or of 0.903 or more, 90% of times"
    )
    assert (least.sides, most.sides, Proportion(0.5, 0.5).sides) == (1, 1, 2)


def _is_rejected(hits, share):
    try:
        Judge().proportion(hits, share, what="", reason="", seeds=range(len(hits)))
    except ClaimFailed:
        return True
    return False


def test_every_says_which_shift_of_one_value_it_would_have_noticed():
    judge = Judge()
    judge.all_within([0.25, 0.5], at_least=0, at_most=[1, 2], seeds=(0, 1), what="both", reason="")
    judge.all_within([0.0, 3.0], at_least=0, seeds=(0, 1), what="one", reason="")
    judge.all_within([0.5, math.inf], at_least=0.25, seeds=(0, 1), what="not at infinity", reason="")
    judge.all_within([], at_least=0, seeds=(), what="none", reason="")
    assert [s.notices for s in judge.statements] == [
        "one value by 0.25 lower or by 0.75 higher",
        "one value by anything lower",
        "one value by 0.25 lower",
        "",
    ]


def test_share_takes_one_bool_for_each_seed():
    with pytest.raises(ValueError, match="one bool"):
        Judge().proportion(np.ones(40), Proportion(at_least=0.5), **WORDS)
    with pytest.raises(ValueError, match="cannot fail"):
        Proportion()


@pytest.fixture(scope="module")
def run():
    return train(
        Experiment(rows=Uniform(features=2), model=affine(2, 2), loss="mse", optimizer=Adam(), epochs=6, n_rows=64),
        seeds=range(3),
        backend="numba",
    )


def changed(run, epoch, seed, factor):
    loss = run.epoch_loss.copy()
    loss[epoch, seed] *= factor
    return Run(run.start, loss, run.parameters)


def test_agreement_rejects_one_epoch_of_one_seed(run):
    Judge().agrees(changed(run, 4, 2, 1 + 1e-6), run, reason="b", roundings=100)
    with pytest.raises(ClaimFailed, match="seed 2, epoch 5"):
        Judge().agrees(changed(run, 4, 2, 1 + 1e-4), run, reason="b", roundings=100)
    with pytest.raises(ClaimFailed, match="seed 1"):
        Judge().agrees(changed(run, 0, 1, math.nan), run, reason="b", roundings=100)
    with pytest.raises(ClaimFailed, match="seed 1"):
        Judge().agrees(run, changed(run, 0, 1, math.nan), reason="b", roundings=100)


def test_agreement_says_nothing_of_a_run_with_itself_nor_where_nothing_is_compared(run):
    judge = Judge()
    judge.agrees(run, run, reason="b", roundings=0)
    assert judge.judged == 0
    judge.agrees(changed(run, 0, 0, 2), run, reason="b", roundings=1, above=1e9)
    assert judge.judged == 0
    assert judge.not_exercised


def test_a_backends_tolerance_widens_the_agreement_and_nothing_else(run):
    other = train(run.experiment, seeds=range(3), backend="numba")
    off = dataclasses.replace(other, epoch_loss=other.epoch_loss * (1 + 30 * np.finfo(np.float32).eps))
    with pytest.raises(ClaimFailed):
        Judge().agrees(off, run, roundings=10, reason="the same start")
    Judge(granted=4).agrees(off, run, roundings=10, reason="the same start")
    with pytest.raises(ClaimFailed):
        Judge(granted=4).all_within([2.0], at_most=1, seeds=[0], what="two", reason="one is the bound")


def test_what_is_adams_is_left_out_once_and_noted_where_another_optimizer_trains():
    assert Judge().is_adams("450 epochs")
    judge = Judge(optimizer="mine:Own")
    assert not judge.is_adams("450 epochs")
    assert not judge.is_adams("450 epochs")
    assert (judge.left_out, judge.not_exercised) == (["450 epochs"], [])
    assert not judge.is_adams("how near", is_the_claim=True)
    assert judge.not_exercised == ["mine:Own trains in Adam's place: how near"]


@pytest.mark.parametrize(("optimizer", "is_compared"), [(Adam(), False), (SGD(lr=0.1), True)])
def test_agreement_is_asked_of_sgd_only_where_another_optimizer_trains(optimizer, is_compared):
    experiment = Experiment(
        rows=Uniform(features=2), model=affine(2, 2), loss="mse", optimizer=optimizer, epochs=2, n_rows=30
    )
    run = train(experiment, seeds=SEEDS[:2], backend="numba")
    judge = Judge(optimizer="mine:Own")
    judge.agrees(changed(run, 0, 0, 1), run, reason="b", roundings=100)
    assert bool(judge.judged) == is_compared
    assert judge.left_out == ["agreement with the reference, which trains Adam"] * (not is_compared)


def test_agreement_is_asked_for_in_the_first_epochs_and_above_a_loss_only(run):
    late, judge = changed(run, 4, 2, 2), Judge()
    judge.agrees(late, run, reason="b", roundings=1, epochs=4)
    judge.agrees(late, run, reason="b", roundings=1, above=float(run.epoch_loss[4, 2]))
    assert (judge.judged, judge.measured) == (2, {"worst deviation from the reference": 0.0})
    with pytest.raises(ClaimFailed) as raised:
        judge.agrees(late, run, reason="theory", roundings=8, epochs=5)
    assert raised.value.what == "relative deviation of epoch losses from the reference"
    allowed = (
        8 * np.finfo(np.float32).eps + clock_error(run.experiment.optimizer, run.start.dtype, run.epoch_loss[:5])[4, 2]
    )
    assert (raised.value.reason, raised.value.evidence) == (
        "theory",
        f"seed 2, epoch 5: 1, bounds [-inf, {allowed:.9g}]; 1 of 3 seeds fail",
    )
    judge.agrees(changed(run, 0, 0, 1 + 2e-7), run, reason="b", roundings=8)
    assert judge.measured == {"worst deviation from the reference": 1.0}
    judge.agrees(run, changed(run, 0, 0, 1), reason="b", roundings=1, above=10)
    assert judge.not_exercised == ["agreement with the reference: its loss is nowhere above 10"]


def test_agreement_of_most_seeds_lets_half_of_them_leave_and_no_nan(run):
    def off(*seeds, factor=1 + 1e-3):
        changed = run.epoch_loss.copy()
        changed[3, list(seeds)] *= factor
        return Run(run.start, changed, run.parameters)

    judge = Judge()
    judge.agrees(off(1), run, reason="b", roundings=100, of_most=True)
    assert judge.judged == 1
    with pytest.raises(ClaimFailed, match="most seeds"):
        judge.agrees(off(0, 1), run, reason="b", roundings=100, of_most=True)
    with pytest.raises(ClaimFailed, match="seed 1"):
        judge.agrees(off(1), run, reason="b", roundings=100)
    for factor in (np.nan, np.inf):
        diverged = off(1)
        diverged.epoch_loss[4, 1] *= factor
        with pytest.raises(ClaimFailed, match="seed 1"):
            judge.agrees(diverged, run, reason="b", roundings=100, of_most=True)
