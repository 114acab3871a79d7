"""What a claim says of itself: its id, its source, its words, and how it is judged."""

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

    source: its place in the answer, or the module of a check's set-ups.    statement: the sentence in our words.
    kind: a theorem holds for each seed, rounding aside; an observation for a stated proportion of seeds.
    proportions: those that its judges use.    trains: its long trainings, which start before it asks for them.
    finding: the expected outcome. A claim that is expected not to hold fails if it starts to hold.
    caveat: the proportion or condition of the finding, in words; the figures are measured.
    configurations: the number of set-ups that its test draws and trains one after the other.
    least_seeds: the fewest seeds that it takes, if its judges look at some of them only.
    reference_seeds: the seeds that it takes on numba by default, if its judges need no more; few if a replica is costly.
    origin: the author of the sentence.    is_stage: whether it judges a stage of the bisection, not the backend under test.
    is_quick: whether the quick profile has it.
    formats: those in which it can be judged; if products are rounded to bfloat16 or float16, it needs bounds of its own.
    needs_adam: the reason why a custom optimizer leaves it not exercised; empty if it does not.
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
                f"claim {self.id}: finding {self.finding!r} with caveat {self.caveat!r}; every finding but "
                "'holds' says for which share, or where, or what holds instead"
            )

    def fewest_seeds(self, alpha: float = ALPHA) -> int:
        """The least number of seeds with which each of its judges can fail, where the suite errs with `alpha` at most.

        A theorem's judge can with one, but only of two can one replica leak into the other.
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
    """Mark a test as the judge of a claim: `pytest -m claims` selects it, and the report carries this record."""
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
    """Mark a test as a check of the stack itself: `pytest -m conformance` selects it; it is judged and reported as a claim is.

    One that is quick is selected by `pytest -m claims --claims-quick`, too.
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
