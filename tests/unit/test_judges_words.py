"""The messages of judges that reject, and the facts that they keep for the report."""

import math

import numpy as np
import pytest
import scipy

from aeclaims.errors import ClaimFailed
from aeclaims.judging.judge import Judge, Proportion

SEEDS = tuple(range(100, 140))
WORDS = {"what": "loss above the floor", "reason": "theory says so", "seeds": SEEDS}


def text_of(judging):
    with pytest.raises(ClaimFailed) as raised:
        judging()
    assert raised.traceback[-1].ishidden(raised)  # pytest shows the line that calls the judge, not the judge's code
    return str(raised.value), raised.value.seed


def test_a_theorems_failure_stands_alone():
    values = np.array([[1.0, 2, 3], [-math.inf, 4.5, 0], [math.nan, 0.25, 9]])
    low, high = np.array([[0.0], [1], [0.5]]), np.array([4.0, 4, 8])
    assert text_of(
        lambda: Judge().all_within(values, what="w", reason="b", seeds=(7, 8, 9), at_least=low, at_most=high)
    ) == (
        "w\n  theory: b\n  seen:   seed 7, epoch 3: nan, bounds [0.5, 4]; 3 of 3 seeds fail\n"
        "  all:    min 0, median 2, max 9, 2 not finite",
        7,
    )
    assert text_of(lambda: Judge().all_within(values[:2, 1:], what="w", reason="b", seeds=(8, 9), at_least=0.125)) == (
        "w\n  theory: b\n  seen:   seed 9, epoch 2: 0, bounds [0.125, inf]; 1 of 2 seeds fail\n"
        "  all:    min 0, median 2.5, max 4.5",
        9,
    )
    assert text_of(lambda: Judge().all_within([math.nan], what="w", reason="b", seeds=(3,), at_most=1)) == (
        "w\n  theory: b\n  seen:   seed 3: nan, bounds [-inf, 1]; 1 of 1 seeds fail\n  all:    no finite value, 1 not finite",
        3,
    )


def test_the_worst_seed_is_the_one_farthest_beyond_its_own_bound():
    values, high = np.array([5.0, 13, 20]), np.array([1.0, 8, 16])
    assert text_of(lambda: Judge().all_within(values, what="w", reason="b", seeds=(1, 2, 3), at_most=high))[1] == 2
    assert text_of(lambda: Judge().all_within(-values, what="w", reason="b", seeds=(1, 2, 3), at_least=-high))[1] == 2
    # Infinity is within infinite bounds.
    assert (
        text_of(lambda: Judge().all_within([math.inf, -1, 1], what="w", reason="b", seeds=(1, 2, 3), at_least=0))[1]
        == 2
    )
    assert (
        text_of(lambda: Judge().all_within([-math.inf, 1, 3], what="w", reason="b", seeds=(1, 2, 3), at_most=2))[1] == 3
    )


def test_an_observations_failure_stands_alone_and_its_seed_is_one_that_is_as_it_should_not_be():
    hits = np.arange(40) % 10 == 3
    few, many = scipy.stats.binom.cdf(4, 40, 0.9), scipy.stats.binom.sf(35, 40, 0.25)
    assert text_of(lambda: Judge().proportion(hits, Proportion(at_least=0.9), **WORDS)) == (
        "loss above the floor\n  theory: theory says so\n"
        "  seen:   4 of 40 seeds (0.100), claimed at least 0.9; if the claim were true, so extreme a count would have probability "
        f"{few:.1e}, below 1.7e-08\n  all:    min 0, median 0, max 1",
        SEEDS[0],
    )
    said, seed = text_of(lambda: Judge(alpha=6e-7).proportion(~hits, Proportion(at_least=0.125, at_most=0.25), **WORDS))
    assert (
        "36 of 40 seeds (0.900), claimed at least 0.125 and at most 0.25; if the claim were true, so extreme a count would "
        "have probability " in said
    )
    assert f"{many:.1e}, below 1.0e-08" in said
    assert seed == SEEDS[0]
    assert text_of(lambda: Judge().proportion(hits, Proportion(at_most=1e-4), **WORDS))[1] == SEEDS[3]


def test_a_share_is_kept_with_its_interval_and_what_it_spent():
    judge = Judge(alpha=6e-3)
    judge.proportion(np.arange(40) < 15, Proportion(0.25, 0.5), label="late", **WORDS)
    assert judge.measured == {"late": 0.375}
    # Clopper and Pearson: for these shares, the probability of 15 hits or more, or of 15 or fewer, is 0.005.
    low, high = judge.intervals["late"]
    assert scipy.stats.binom.sf(14, 40, low) == pytest.approx(0.005)
    assert scipy.stats.binom.cdf(15, 40, high) == pytest.approx(0.005)
    assert judge.spent == pytest.approx(2e-4)
    assert judge.statements[0].notices == Proportion(0.25, 0.5).minimum_detectable(40, 6e-3)
    judge.proportion(np.arange(40) < 15, Proportion(at_most=0.5), **WORDS)
    assert judge.measured == {"late": 0.375, "share": 0.375}
    assert judge.spent == pytest.approx(3e-4)
    assert judge.p_value() == pytest.approx(6e-6)
    assert judge.spent == pytest.approx(3.06e-4)
    assert (judge.judged, judge.not_exercised) == (2, [])


def test_what_was_stated_is_kept_once_with_its_bounds():
    judge = Judge()
    judge.all_within([0.5, 0.75], at_least=[0, 0.25], at_most=1, what="one", reason="b", seeds=(0, 1))
    judge.all_within([0.5, 0.75], at_most=7, what="one", reason="c", seeds=(0, 1))
    judge.all_within([0.5], at_least=-math.inf, at_most=2, what="two", reason="c", seeds=(0,))
    judge.proportion([True] * 40, Proportion(at_least=0.5), what="three", reason="b", seeds=range(40))
    judge.proportion([False] * 40, Proportion(at_most=0.5), what="four", reason="b", seeds=range(40))
    assert [(said.what, said.bound, said.reason) for said in judge.statements] == [
        ("one", "at least 0 to 0.25, at most 1, every seed", "b"),
        ("two", "at most 2, every seed", "c"),
        ("three", "at least 0.5 of seeds", "b"),
        ("four", "at most 0.5 of seeds", "b"),
    ]
    assert judge.reason == ["b", "c"]
    assert judge.judged == 5


def test_what_is_measured_is_kept_as_numbers_and_the_floor_apart():
    judge = Judge()
    judge.measure({"least": np.float64(2), "most": 3}, floor=np.float32(0.5))
    judge.measure({"least": 1})
    assert (judge.floor, judge.measured) == (0.5, {"least": 1.0, "most": 3.0})
    assert [type(value) for value in (judge.floor, *judge.measured.values())] == [float, float, float]


def test_without_seeds_a_judge_says_so():
    judge = Judge()
    judge.all_within([], at_least=0, what="nothing", reason="", seeds=())
    judge.proportion(np.zeros(0, bool), Proportion(at_least=0.5), what="none", reason="", seeds=())
    assert judge.not_exercised == ["nothing: no seed was given", "none: no seed was given"]
    assert (judge.judged, judge.measured, judge.spent) == (0, {}, 0)


def test_a_judge_of_something_else_than_a_value_for_each_seed_says_what_it_was_given():
    with pytest.raises(ValueError, match=r"^w: values of shape \(40, 2\) for 40 seeds$"):
        Judge().all_within(np.ones((40, 2)), at_least=0, what="w", reason="", seeds=SEEDS)
    with pytest.raises(ValueError, match=r"^w: hits of type bool and shape \(39,\); one bool for each seed is needed$"):
        Judge().proportion(np.ones(39, bool), Proportion(at_least=0.5), what="w", reason="", seeds=SEEDS)


@pytest.mark.parametrize("sides", [(0.6, 0.5), (-0.1, 0.5), (0.5, 1.1), (0, 1)])
def test_a_share_that_cannot_fail_is_refused(sides):
    with pytest.raises(
        ValueError, match=f"^Proportion\\(at_least={sides[0]}, at_most={sides[1]}\\) cannot fail: give shares in"
    ):
        Proportion(*sides)
