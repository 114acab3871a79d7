"""What a claim says of itself: its id, its source, its words, and how it is judged."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pytest

from aeclaims.experiment import Experiment
from aeclaims.judge import Share
from aeclaims.run import Run

Kind = Literal["theorem", "observation"]
Train = Callable[[Experiment], Run]

SOURCE = "Cross Validated question 441750"


@dataclass(frozen=True)
class Claim:
    """One sentence of the answer, or one that goes beyond it.

    where: its place in the source. says: the sentence in our words. kind: a theorem holds for every seed, rounding
    aside; an observation for a stated share. shares: all that its judges use. is_costly: a replica costs so much that
    the reference, too, takes no more seeds than it needs.
    """

    id: str
    where: str
    says: str
    kind: Kind
    shares: tuple[Share, ...] = ()
    is_costly: bool = False

    @property
    def fewest_seeds(self) -> int:
        """The least number of seeds with which each of its judges can fail.

        A theorem's judge can with one, but only of two can one replica leak into the other.
        """
        return max(2, *(share.fewest_seeds for share in self.shares)) if self.shares else 2


def claim(
    id: str, *, where: str, says: str, kind: Kind, shares: tuple[Share, ...] = (), is_costly: bool = False,
) -> pytest.MarkDecorator:
    """Mark a test as the judge of a claim: `pytest -m claims` selects it, and the report carries this record."""
    return pytest.mark.claims(Claim(id, where, says, kind, shares, is_costly))
