"""Judges: functions that take numbers and a bound, and say held, failed or not exercised, with the evidence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from aeclaims.dtypes import clock_error
from aeclaims.experiment import Adam
from aeclaims.run import Double, Run

# --claims-alpha: a suite whose every claim is true to the letter fails with at most this probability over the draw of the
# seeds. The seeds of a default run are fixed, so that a stack that passes once passes always.
ALPHA = 1e-6
# It is split: each stated side of a share gets a 60th, each p-value, which costs no seeds, a 1,000th. The suite has 55 of the
# one and 37 of the other: a test adds them up.
SIDES, P_VALUES = 60, 1000
# How surely the shifts are noticed that a share's judge says it notices.
POWER = 0.9
# Of the interval reported with a share (Clopper and Pearson, exact); the verdict is the test's, not the interval's.
CONFIDENCE = 0.99
AGREEMENT = "agreement with the reference, which trains Adam"


class Verdict(StrEnum):
    """What became of a claim."""

    HELD = "held"
    FAILED = "failed"
    EXPECTED_FAILURE = "expected failure"
    NOT_EXERCISED = "not exercised"


class ClaimFailed(AssertionError):
    """A judge's rejection, with its evidence; raised, never asserted, so that `python -O` cannot disarm it."""

    def __init__(self, *, what: str, reason: str, evidence: str, spread: str, seed: int) -> None:
        self.what, self.reason, self.evidence, self.spread, self.seed = what, reason, evidence, spread, seed
        super().__init__(f"{what}\n  theory: {reason}\n  seen:   {evidence}\n  all:    {spread}")


@dataclass(frozen=True)
class Proportion:
    """The share of all seeds of which something is claimed: at least, or at most, or between.

    Judged by the exact binomial test, each side apart.
    """

    at_least: float = 0.0
    at_most: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.at_least <= self.at_most <= 1 or (self.at_least, self.at_most) == (0, 1):
            raise ValueError(
                f"Proportion(at_least={self.at_least}, at_most={self.at_most}) cannot fail: "
                "give shares in [0, 1], one of them short of that"
            )

    @property
    def sides(self) -> int:
        """How many are stated: one, or both."""
        return (self.at_least > 0) + (self.at_most < 1)

    def fewest_seeds(self, alpha: float = ALPHA) -> int:
        """The least number of seeds with which each stated side can fail, where the suite errs with `alpha` at most.

        `at_least` fails soonest where no seed has it, which has probability (1 - at_least)^S; `at_most` where all have.
        """
        bases = [base for base in (1 - self.at_least, self.at_most) if base < 1]
        return max(1 if base == 0 else math.ceil(math.log(alpha / SIDES) / math.log(base)) for base in bases)

    def minimum_detectable(self, size: int, alpha: float = ALPHA) -> str:
        """The true shares nearest to those claimed that `size` seeds tell from them, nine times in ten."""
        found = []
        if (fails := _most_that_fail(size, self.at_least, alpha / SIDES)) >= 0:
            found.append(f"{scipy.special.bdtri(fails, size, POWER):.3g} or less")
        if (fails := _most_that_fail(size, 1 - self.at_most, alpha / SIDES)) >= 0:
            found.append(f"{1 - scipy.special.bdtri(fails, size, POWER):.3g} or more")
        return f"a true share of {', or of '.join(found)}, {POWER:.0%} of times" if found else "nothing: too few seeds"

    def __str__(self) -> str:
        least, most = f"at least {self.at_least:.4g}", f"at most {self.at_most:.4g}"
        return " and ".join([least] * (self.at_least > 0) + [most] * (self.at_most < 1))


def _most_that_fail(size: int, share: float, alpha: float) -> int:
    """The most hits of `size` that a share of at least that has with a probability below alpha; -1 where not even none."""
    return int(np.searchsorted(scipy.special.bdtr(np.arange(size + 1), size, share), alpha)) - 1


@dataclass(frozen=True)
class Statement:
    """One thing that a claim was judged by: what, within which bound, why that bound, and the least shift that it notices."""

    what: str
    bound: str
    reason: str
    notices: str


@dataclass
class Judge:
    """Judges one claim: raises ClaimFailed on the first rejection, and notes what could not be exercised.

    granted: how many times the usual rounding errors the backend's record grants it, with its evidence.
    optimizer: the user's own, which trains in Adam's place. What is said of Adam is then left out, and noted.
    alpha: with which the whole suite errs at most.    spent: what of it this claim has had so far.
    """

    granted: float = 1.0
    optimizer: str = ""
    alpha: float = ALPHA
    spent: float = 0.0
    left_out: list[str] = field(default_factory=list)
    measured: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    floor: float | None = None
    reason: list[str] = field(default_factory=list)
    not_exercised: list[str] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    judged: int = 0

    def measure(self, *, floor: float | None = None, **numbers: float) -> None:
        """Keep numbers for the report; `floor` is the one that the claim is about."""
        self.measured |= {name: float(value) for name, value in numbers.items()}
        if floor is not None:
            self.floor = float(floor)

    def p_value(self) -> float:
        """The error rate of one p-value, or of a bound that chance may leave with such a probability; it is then spent."""
        rate = self.alpha / P_VALUES
        self.spent += rate
        return rate

    def all_within(
        self,
        values: npt.ArrayLike,
        *,
        what: str,
        reason: str,
        seeds: Sequence[int],
        at_least: npt.ArrayLike = -math.inf,
        at_most: npt.ArrayLike = math.inf,
    ) -> None:
        """A theorem: every value lies within its bounds. NaN does not.

        values: (S,), or (E, S) for each epoch. at_least, at_most: of any shape that broadcasts to it, slack included.
        """
        numbers, low, high = np.asarray(values, np.float64), np.asarray(at_least), np.asarray(at_most)
        if np.isneginf(low).all() and np.isposinf(high).all():
            raise ValueError(f"{what}: give at_least or at_most; a judge without a bound cannot fail")
        if numbers.shape[-1:] != (len(seeds),):
            raise ValueError(f"{what}: values of shape {numbers.shape} for {len(seeds)} seeds")
        if self._is_empty(numbers.size, Statement(what, _bounds(low, high), reason, _margins(numbers, low, high))):
            return
        inside = (numbers >= low) & (numbers <= high)
        if not inside.all():
            with np.errstate(invalid="ignore"):  # infinity less infinity, of a value that lies within
                beyond = np.nan_to_num(np.maximum(low - numbers, numbers - high), nan=np.inf)
            beyond = np.where(inside, -np.inf, beyond)
            *epoch, seed = (int(i) for i in np.unravel_index(beyond.argmax(), numbers.shape))
            at = (*epoch, seed)
            where = f"seed {seeds[seed]}" + (f", epoch {epoch[0] + 1}" if epoch else "")
            failing = len(seeds) - int(inside.reshape(-1, len(seeds)).all(axis=0).sum())
            self._fail(
                what,
                reason,
                f"{where}: {_number(numbers[at])}, bounds "
                f"[{_number(np.broadcast_to(low, numbers.shape)[at])}, "
                f"{_number(np.broadcast_to(high, numbers.shape)[at])}]; {failing} of {len(seeds)} seeds fail",
                numbers,
                seeds[seed],
            )

    def proportion(
        self,
        hits: npt.ArrayLike,
        share: Proportion,
        *,
        what: str,
        reason: str,
        seeds: Sequence[int],
        name: str = "share",
    ) -> None:
        """An observation: the share of seeds with `hits` (S,) is as claimed, by the exact binomial test.

        Under a share p, at most k of S hits have probability P(X <= k), X ~ Binomial(S, p): `at_least` fails where that
        is below alpha at p = at_least, `at_most` where P(X >= k) is at p = at_most.
        """

        hit = np.asarray(hits)
        if hit.dtype != bool or hit.shape != (len(seeds),):
            raise ValueError(
                f"{what}: hits of type {hit.dtype} and shape {hit.shape}; one bool for each seed is needed"
            )
        count, size, alpha = int(hit.sum()), hit.size, self.alpha / SIDES
        if self._is_empty(
            size, Statement(what, f"{share} of seeds", reason, share.minimum_detectable(size, self.alpha))
        ):
            return
        self.spent += share.sides * alpha
        self.measure(**{name: count / size})
        interval = scipy.stats.binomtest(count, size).proportion_ci(CONFIDENCE)
        self.intervals[name] = (float(interval.low), float(interval.high))
        if size < (needed := share.fewest_seeds(self.alpha)):
            self.not_exercised.append(f"{what}: with {size} seeds it could not fail; {needed} are needed")
        too_few = scipy.special.bdtr(count, size, share.at_least)  # P(X <= count)
        too_many = scipy.special.bdtrc(count - 1, size, share.at_most)  # P(X >= count)
        for chance, wrong in ((too_few, ~hit), (too_many, hit)):  # 1 of a side that is not stated
            if not chance >= alpha:
                worst = seeds[int(np.flatnonzero(wrong)[0])]
                self._fail(
                    what,
                    reason,
                    f"{count} of {size} seeds ({count / size:.3f}), claimed {share}; were that so, "
                    f"the chance of it would be {chance:.1e}, below {alpha:.1e}",
                    hit.astype(float),
                    worst,
                )

    def agrees(
        self,
        run: Run,
        reference: Run,
        *,
        reason: str,
        roundings: float,
        epochs: int | None = None,
        above: float = 0.0,
    ) -> None:
        """A backend against the reference, from the same start: each epoch loss, seed by seed.

        |loss - reference| <= (roundings * granted * eps + clock) * reference, eps of the training's format, in the first `epochs`
        (all, where None), as long as the reference's loss is above `above`; clock is `clock_error`. Says nothing if the run is
        the reference's own, or if a custom optimizer trained it: the reference trains Adam.
        """
        if run is reference or (isinstance(run.experiment.optimizer, Adam) and not self.is_adams(AGREEMENT)):
            return
        seen, expected = run.epoch_loss[:epochs], reference.epoch_loss[:epochs]
        is_compared = ~(expected <= above)  # NaN in the reference is compared, and fails
        if not is_compared.any():
            self.not_exercised.append(f"agreement with the reference: its loss is nowhere above {above:g}")
            return
        deviation = np.where(is_compared, np.abs(seen - expected) / expected, 0.0)
        self.measure(worst_deviation=max(float(deviation.max()), self.measured.get("worst_deviation", 0.0)))
        clock = clock_error(run.experiment.optimizer, run.start.dtype, expected)
        allowed = roundings * self.granted * run.start.format.eps + clock
        self.all_within(
            deviation,
            at_most=allowed,
            reason=reason,
            seeds=run.seeds,
            what="relative deviation of epoch losses from the reference",
        )

    def is_adams(self, what: str, *, is_the_claim: bool = False) -> bool:
        """Whether Adam trains, so that what is said of Adam's rates can be judged; where it does not, that is left out.

        is_the_claim: the claim says just that; without it, it is not exercised. What else it judges can still fail.
        """
        if self.optimizer:
            noted = f"{self.optimizer} trains in Adam's place: {what}" if is_the_claim else what
            notes = self.not_exercised if is_the_claim else self.left_out
            notes += [noted] * (noted not in notes)
        return not self.optimizer

    def _is_empty(self, size: int, statement: Statement) -> bool:
        if statement.reason not in self.reason:
            self.reason.append(statement.reason)
        if statement.what not in [known.what for known in self.statements]:
            self.statements.append(statement)
        if size == 0:
            self.not_exercised.append(f"{statement.what}: no seed was given")
            return True
        self.judged += 1
        return False

    def _fail(self, what: str, reason: str, evidence: str, values: Double, seed: int) -> None:
        __tracebackhide__ = True
        finite = values[np.isfinite(values)]
        spread = (
            "no finite value"
            if not finite.size
            else "min {:.6g}, median {:.6g}, max {:.6g}".format(*np.quantile(finite, [0, 0.5, 1]))
        )
        missing = "" if finite.size == values.size else f", {values.size - finite.size} not finite"
        raise ClaimFailed(what=what, reason=reason, evidence=evidence, spread=spread + missing, seed=seed)


def _bounds(low: npt.NDArray[Any], high: npt.NDArray[Any]) -> str:
    sides = []
    for name, side in (("at least", low), ("at most", high)):
        if np.isfinite(side).any():
            least, most = (f"{float(value):.4g}" for value in (side.min(), side.max()))
            sides.append(f"{name} {least}" + f" to {most}" * (least != most))
    return ", ".join([*sides, "every seed"])


def _margins(numbers: Double, low: npt.NDArray[Any], high: npt.NDArray[Any]) -> str:
    """The least shifts of one value that would have been a failure."""
    if not numbers.size:
        return ""
    sides = []
    with np.errstate(invalid="ignore"):
        distances = {"lower": numbers - low, "higher": high - numbers}
    for name, distance in distances.items():
        if np.isfinite(distance).any():
            least = float(np.nanmin(distance))
            sides.append(f"by {f'{least:.2g}' if least else 'anything'} {name}")
    return "one value " + " or ".join(sides)


def _number(value: Any) -> str:
    return f"{float(value):.9g}"
