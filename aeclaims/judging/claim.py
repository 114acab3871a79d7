"""What a claim says of itself: its id, its source, its words, and how it is judged."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import pytest

from aeclaims.dtypes import FORMATS
from aeclaims.experiment import Experiment
from aeclaims.judging.judge import ALPHA, Share
from aeclaims.run import Run

Kind = Literal["theorem", "observation"]
Finding = Literal["holds", "holds for a share", "holds where", "does not hold"]
Train = Callable[[Experiment], Run]

FULL, ALL = ("float32", "float64"), tuple(FORMATS)
SOURCE = "Cross Validated question 441750"


@dataclass(frozen=True)
class Claim:
    """One sentence of the answer, or one that goes beyond it.

    where: its place in the source. says: the sentence in our words. kind: a theorem holds for every seed, rounding
    aside; an observation for a stated share. shares: all that its judges use. trains: its long trainings, which are begun
    before it asks for them.
    finding: what became of the sentence when it was tried; the test asserts it, so that "does not hold" fails on the day
    that it holds. nuance: for which share, or where, or what holds instead; in words, the figures are measured.
    configurations: how many set-ups its test draws, which are trained one after the other.
    least_seeds: how many it takes at least, where its judges look at some of them only.
    reference_seeds: what the claim takes on the reference by default, where its judges need no more; few where a
    replica is costly.    source: whose sentence it is.    is_stage: whether it judges a stage of the bisection, not the backend
    under test.    is_quick: whether it is of the quick profile: what finds most faults soonest.
    formats: those in which it can be judged: with products rounded to bfloat16 or float16 only what has bounds of its own is.
    needs_adam: why it is about Adam, so that with an optimizer of the user's own it is not exercised; empty where it is not.
    """

    id: str
    where: str
    says: str
    kind: Kind
    shares: tuple[Share, ...] = ()
    trains: tuple[Experiment, ...] = ()
    finding: Finding = "holds"
    nuance: str = ""
    least_seeds: int = 2
    reference_seeds: int = 256
    configurations: int = 1
    source: str = SOURCE
    is_stage: bool = False
    is_quick: bool = False
    needs_adam: str = ""
    formats: tuple[str, ...] = FULL

    def __post_init__(self) -> None:
        if (self.finding == "holds") == bool(self.nuance):
            raise ValueError(f"claim {self.id}: finding {self.finding!r} with nuance {self.nuance!r}; every finding but "
                             "'holds' says for which share, or where, or what holds instead")

    def fewest_seeds(self, alpha: float = ALPHA) -> int:
        """The least number of seeds with which each of its judges can fail, where the suite errs with `alpha` at most.

        A theorem's judge can with one, but only of two can one replica leak into the other.
        """
        return max(self.least_seeds, *(share.fewest_seeds(alpha) for share in self.shares), 2)


def claim(
    id: str, *, where: str, says: str, kind: Kind, shares: tuple[Share, ...] = (), trains: Iterable[Experiment] = (),
    finding: Finding = "holds", nuance: str = "", least_seeds: int = 2, reference_seeds: int = 256, configurations: int = 1,
    is_quick: bool = False, needs_adam: str = "", formats: tuple[str, ...] = FULL,
) -> pytest.MarkDecorator:
    """Mark a test as the judge of a claim: `pytest -m claims` selects it, and the report carries this record."""
    return pytest.mark.claims(Claim(id, where, says, kind, shares, tuple(trains), finding, nuance, least_seeds, reference_seeds,
                                    configurations, is_quick=is_quick, needs_adam=needs_adam, formats=formats))


def conformance(
    id: str, *, says: str, where: str, seeds: int = 8, trains: Iterable[Experiment] = (), is_stage: bool = False,
    is_quick: bool = False, needs_adam: str = "", formats: tuple[str, ...] = FULL,
) -> pytest.MarkDecorator:
    """Mark a test as a check of the stack itself: `pytest -m conformance` selects it; it is judged and reported as a claim is.

    One that is quick is selected by `pytest -m claims --claims-quick`, too.
    """
    return pytest.mark.conformance(
        Claim(id, where, says, "theorem", trains=tuple(trains), least_seeds=seeds, reference_seeds=seeds, source="conformance",
              is_stage=is_stage, is_quick=is_quick, needs_adam=needs_adam, formats=formats))
