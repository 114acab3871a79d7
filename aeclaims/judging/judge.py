"""Judges: methods that compare numbers with a bound, and decide held, failed or not exercised, with the evidence."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from aeclaims.dtypes import clock_error
from aeclaims.errors import ClaimFailed
from aeclaims.experiment import Adam
from aeclaims.run import Double, Run

# --claims-alpha: if every claim is true to the letter, the suite fails with at most this probability over the draw of the
# seeds. The seeds of a default run are fixed: if a stack passes once, it always passes.
ALPHA = 1e-6
# Alpha is split. Each stated side of a share gets a 60th. Each p-value gets a 1,000th, since it costs no seeds.
# The suite has 55 sides and 37 p-values; a test adds them up.
SIDES, P_VALUES = 60, 1000
# Probability with which a share's judge notices the shift that it reports as detectable.
POWER = 0.9
# Confidence of the interval reported with a share (Clopper and Pearson, exact). The test decides, not the interval.
CONFIDENCE = 0.99
AGREEMENT = "agreement with the reference, which trains Adam"
DEVIATION = "worst deviation from the reference"


class Verdict(StrEnum):
    """The outcome of a claim."""

    HELD = "held"
    FAILED = "failed"
    EXPECTED_FAILURE = "expected failure"
    NOT_EXERCISED = "not exercised"


@dataclass(frozen=True)
class Proportion:
    """A claimed share of all seeds: at least, at most, or between two bounds.

    The exact binomial test judges each side separately.

    Attributes:
        at_least: Lower bound of the share; 0 if that side is not stated.
        at_most: Upper bound of the share; 1 if that side is not stated.
    """

    at_least: float = 0.0
    at_most: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.at_least <= self.at_most <= 1 or (self.at_least, self.at_most) == (0, 1):
            raise ValueError(
                f"Proportion(at_least={self.at_least}, at_most={self.at_most}) cannot fail: "
                "give shares in [0, 1], and at_least above 0 or at_most below 1"
            )

    @property
    def sides(self) -> int:
        """Number of stated sides: one or two."""
        return (self.at_least > 0) + (self.at_most < 1)

    def fewest_seeds(self, alpha: float = ALPHA) -> int:
        """Return the least number of seeds with which each stated side can fail.

        `at_least` fails soonest if no seed is a hit, which has probability (1 - at_least)^S. `at_most` fails soonest if
        all S seeds are hits, which has probability at_most^S.

        Args:
            alpha: Largest error rate of the whole suite.
        """
        bases = [base for base in (1 - self.at_least, self.at_most) if base < 1]
        return max(1 if base == 0 else math.ceil(math.log(alpha / SIDES) / math.log(base)) for base in bases)

    def minimum_detectable(self, size: int, alpha: float = ALPHA) -> str:
        """Describe the nearest true shares that `size` seeds distinguish from the claimed ones, nine times in ten."""
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
    """Return the largest k with P(X <= k) below alpha for X ~ Binomial(size, share); -1 if even P(X = 0) is not below it."""
    return int(np.searchsorted(scipy.special.bdtr(np.arange(size + 1), size, share), alpha)) - 1


@dataclass(frozen=True)
class Statement:
    """One criterion of a claim.

    Attributes:
        what: Quantity that was judged.
        bound: Bound on the quantity, in words.
        reason: Theory behind the bound.
        notices: Least shift of the quantity that would have failed.
    """

    what: str
    bound: str
    reason: str
    notices: str


@dataclass
class Judge:
    """Judge of one claim: it raises ClaimFailed on the first rejection, and notes the criteria it could not exercise.

    Attributes:
        granted: Multiple of the usual rounding errors that the backend's record grants, with its evidence.
        optimizer: Your custom optimizer, which trains in Adam's place. If it is set, statements about Adam are left out
            and noted.
        alpha: Largest error rate of the whole suite.
        spent: Part of alpha that this claim has used so far.
        left_out: Statements about Adam that were left out.
        measured: Numbers for the report, by name.
        intervals: Confidence intervals of shares, by name.
        floor: Floor of the loss that the claim is about.
        reason: Theories behind the bounds, each once.
        not_exercised: Criteria that could not fail, each with the cause.
        statements: Criteria that were judged, each once.
        judged: Number of criteria that were judged.
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

    def measure(self, numbers: Mapping[str, float] | None = None, *, floor: float | None = None) -> None:
        """Keep numbers for the report.

        Args:
            numbers: Numbers by label, such as "median epoch below 0.1"; a second call replaces numbers of the same label.
            floor: Floor of the loss that the claim is about.
        """
        self.measured |= {label: float(value) for label, value in (numbers or {}).items()}
        if floor is not None:
            self.floor = float(floor)

    def p_value(self) -> float:
        """Spend and return the error rate of one p-value, or of one bound that chance exceeds with that probability."""
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
        """Judge a theorem: every value lies within its bounds. NaN is a failure.

        Args:
            values: Shape (S,), or (E, S) with one row for each epoch.
            what: Name of the quantity, for the report.
            reason: Theory behind the bound, for the report.
            seeds: The S seeds of the values.
            at_least: Lower bounds, slack included; any shape that broadcasts to that of the values.
            at_most: Upper bounds, in the same form.

        Raises:
            ClaimFailed: If a value is outside its bounds or NaN; names the worst seed and epoch.
            ValueError: If there is no finite bound, or if the values do not match the seeds.
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
            with np.errstate(invalid="ignore"):  # infinity minus infinity, for a value within its bounds
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
        label: str = "share",
    ) -> None:
        """Judge an observation by the exact binomial test: the share of hits among the seeds is the claimed one.

        Let k of S seeds be hits, and X ~ Binomial(S, p). `at_least` fails if `P(X <= k)` is below alpha / SIDES at
        p = at_least. `at_most` fails if `P(X >= k)` is below alpha / SIDES at p = at_most.

        Args:
            hits: One bool for each seed, shape (S,).
            share: Claimed share.
            what: Name of the hit, for the report.
            reason: Theory behind the share, for the report.
            seeds: The S seeds of the hits.
            label: Label of the measured share in the report.

        Raises:
            ClaimFailed: If a side fails; names one seed on the wrong side.
            ValueError: If hits are not bools, or do not match the seeds.
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
        self.measure({label: count / size})
        interval = scipy.stats.binomtest(count, size).proportion_ci(CONFIDENCE)
        self.intervals[label] = (float(interval.low), float(interval.high))
        if size < (needed := share.fewest_seeds(self.alpha)):
            self.not_exercised.append(f"{what}: with {size} seeds it could not fail; {needed} are needed")
        too_few = scipy.special.bdtr(count, size, share.at_least)  # P(X <= count)
        too_many = scipy.special.bdtrc(count - 1, size, share.at_most)  # P(X >= count)
        for chance, wrong in ((too_few, ~hit), (too_many, hit)):  # chance is 1 if a side is not stated
            if not chance >= alpha:
                worst = seeds[int(np.flatnonzero(wrong)[0])]
                self._fail(
                    what,
                    reason,
                    f"{count} of {size} seeds ({count / size:.3f}), claimed {share}; if the claim "
                    f"were true, so extreme a count would have probability {chance:.1e}, below {alpha:.1e}",
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
        of_most: bool = False,
    ) -> None:
        """Judge each epoch loss of a backend against the reference from the same start, seed by seed.

        |loss - reference| <= (roundings * granted * eps + clock) * reference, with eps of the training's format, and clock
        from `clock_error`. Nothing is judged if the run is the reference's, or if a custom optimizer trained it in Adam's
        place: the reference trains Adam.

        Args:
            run: Run of the backend.
            reference: Run of the reference.
            reason: Theory behind the bound, for the report.
            roundings: Largest deviation, in units of eps.
            epochs: Number of first epochs to compare; all if None.
            above: Least reference loss at which losses are compared.
            of_most: Whether up to half of the seeds may deviate more. A saddle amplifies the rounding errors of single seeds
                on any stack; a fault of a long training shows in most of them.

        Raises:
            ClaimFailed: If a loss deviates more; names the worst seed and epoch.
        """
        if run is reference or (isinstance(run.experiment.optimizer, Adam) and not self.is_adams(AGREEMENT)):
            return
        seen, expected = run.epoch_loss[:epochs], reference.epoch_loss[:epochs]
        is_compared = ~(expected <= above)  # NaN in the reference is compared, and fails
        if not is_compared.any():
            self.not_exercised.append(f"agreement with the reference: its loss is nowhere above {above:g}")
            return
        deviation = np.where(is_compared, np.abs(seen - expected) / expected, 0.0)
        self.measure({DEVIATION: max(float(deviation.max()), self.measured.get(DEVIATION, 0.0))})
        clock = clock_error(run.experiment.optimizer, run.start.dtype, expected)
        allowed = roundings * self.granted * run.start.format.eps + clock
        # A replica that diverged is not among them, and fails.
        leaving = (deviation > allowed).any(axis=0) & np.isfinite(deviation).all(axis=0)
        if of_most and 2 * leaving.sum() <= leaving.size:
            deviation = np.where(leaving, 0.0, deviation)
        self.all_within(
            deviation,
            at_most=allowed,
            reason=reason,
            seeds=run.seeds,
            what="relative deviation of epoch losses from the reference" + ", most seeds" * of_most,
        )

    def is_adams(self, what: str, *, is_the_claim: bool = False) -> bool:
        """Return whether Adam trains; if it does not, note that the statement about Adam is left out.

        Args:
            what: The statement about Adam.
            is_the_claim: Whether this statement is the claim itself. If so, the claim is not exercised if Adam does not
                train; its other criteria can still fail.
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
    """Describe the least shifts of one value that would have failed."""
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
