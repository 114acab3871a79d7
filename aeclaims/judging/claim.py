"""The record of a claim: its id, source and statement, and how it is judged."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import pytest

from aeclaims.dtypes import FORMATS
from aeclaims.experiment import Experiment
from aeclaims.judging.judge import ALPHA, Proportion
from aeclaims.run import Run

Kind = Literal["theorem", "observation"]
Finding = Literal["holds", "holds for a share", "holds where", "does not hold"]
Train = Callable[[Experiment], Run]

FULL, ALL = ("float32", "float64"), tuple(FORMATS)
ORIGIN = "Cross Validated question 441750"


@dataclass(frozen=True)
class Claim:
    """One sentence of the answer, or one that goes beyond it.

    Attributes:
        id: Short name, unique among claims and checks.
        source: Place in the answer, or the module of a check's set-ups.
        statement: The sentence in our words.
        kind: "theorem" if it holds for each seed, up to rounding; "observation" if it holds for a stated proportion of seeds.
        proportions: Proportions that its judges use.
        trains: Long trainings, which start before the test asks for them.
        finding: Expected outcome. A claim that is expected not to hold fails if it starts to hold.
        caveat: Proportion or condition of the finding, in words; the figures are measured. Empty if the claim holds.
        least_seeds: Fewest seeds that it takes, if its judges look at some of them only.
        reference_seeds: Seeds that it takes on numba by default, if its judges need no more; few if a replica is costly.
        configurations: Number of set-ups that its test draws and trains one after the other.
        origin: Author of the sentence.
        is_stage: Whether it judges a stage of the bisection, not the backend under test.
        is_quick: Whether the quick profile includes it.
        needs_adam: Reason why a custom optimizer leaves the claim not exercised; empty if it does not.
        formats: Formats in which it can be judged. If products are rounded to bfloat16 or float16, it needs bounds of its own.
    """

    id: str
    source: str
    statement: str
    kind: Kind
    proportions: tuple[Proportion, ...] = ()
    trains: tuple[Experiment, ...] = ()
    finding: Finding = "holds"
    caveat: str = ""
    least_seeds: int = 2
    reference_seeds: int = 256
    configurations: int = 1
    origin: str = ORIGIN
    is_stage: bool = False
    is_quick: bool = False
    needs_adam: str = ""
    formats: tuple[str, ...] = FULL

    def __post_init__(self) -> None:
        if (self.finding == "holds") == bool(self.caveat):
            raise ValueError(
                f"claim {self.id}: finding {self.finding!r} with caveat {self.caveat!r}; 'holds' takes no caveat, and "
                "every other finding needs one: the share, the condition, or the outcome instead"
            )

    def fewest_seeds(self, alpha: float = ALPHA) -> int:
        """Return the least number of seeds with which each of its judges can fail.

        A theorem's judge can fail with one seed, but one replica can leak into another only if there are two.

        Args:
            alpha: Largest error rate of the whole suite.
        """
        return max(self.least_seeds, *(proportion.fewest_seeds(alpha) for proportion in self.proportions), 2)


def claim(
    id: str,
    *,
    source: str,
    statement: str,
    kind: Kind,
    proportions: tuple[Proportion, ...] = (),
    trains: Iterable[Experiment] = (),
    finding: Finding = "holds",
    caveat: str = "",
    least_seeds: int = 2,
    reference_seeds: int = 256,
    configurations: int = 1,
    is_quick: bool = False,
    needs_adam: str = "",
    formats: tuple[str, ...] = FULL,
) -> pytest.MarkDecorator:
    """Mark a test as the judge of a claim.

    `pytest -m claims` selects the test, and the report contains this record. `Claim` describes the arguments.
    """
    return pytest.mark.claims(
        Claim(
            id,
            source,
            statement,
            kind,
            proportions,
            tuple(trains),
            finding,
            caveat,
            least_seeds,
            reference_seeds,
            configurations,
            is_quick=is_quick,
            needs_adam=needs_adam,
            formats=formats,
        )
    )


def conformance(
    id: str,
    *,
    statement: str,
    source: str,
    seeds: int = 8,
    trains: Iterable[Experiment] = (),
    is_stage: bool = False,
    is_quick: bool = False,
    needs_adam: str = "",
    formats: tuple[str, ...] = FULL,
) -> pytest.MarkDecorator:
    """Mark a test as a check of the stack itself, which is judged and reported in the same way as a claim.

    `pytest -m conformance` selects the test. If `is_quick` is set, `pytest -m claims --claims-quick` selects it, too.
    `Claim` describes the arguments.
    """
    return pytest.mark.conformance(
        Claim(
            id,
            source,
            statement,
            "theorem",
            trains=tuple(trains),
            least_seeds=seeds,
            reference_seeds=seeds,
            origin="conformance",
            is_stage=is_stage,
            is_quick=is_quick,
            needs_adam=needs_adam,
            formats=formats,
        )
    )
