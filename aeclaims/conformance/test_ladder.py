"""The ladder: the same paths on the loop, the population, its compilers and a CUDA graph, each judged by the reference.

The first step of a compiled training, and the first epoch of a captured one, are torch's own: optimizers make their state in it.
What a compiler or a graph does wrong leaves the path from the second on.
"""

import warnings
from dataclasses import replace

import pytest

from aeclaims.backends import LADDER, Lacking, rung
from aeclaims.claim import conformance
from aeclaims.conformance.paths import SETUPS
from aeclaims.conformance.test_path import judge_gradients, judge_path
from aeclaims.judge import ClaimFailed, Judge
from aeclaims.stack import Stack

# A program takes seconds to compile: one set-up for each activation, loss and optimizer.
NAMES = ("affine layers, MSE, Adam", "every activation, widths 3 to 7", "BCE of probabilities", "BCE on logits",
         "SGD with momentum and decay", "gradients that add up", "a short last minibatch", "given rows")
RUNGS = [pytest.param(name, id=name, marks=conformance(f"rung {number}: {name}", where="ladder", is_rung=True,
                                                       says=f"walks the reference's path in {len(NAMES)} set-ups"))
         for number, name in enumerate(LADDER, 1)]


@pytest.mark.parametrize("name", RUNGS)
def test_the_rung_walks_the_references_path(name: str, stack: Stack, judge: Judge) -> None:
    climbed = replace(stack, backend=rung(name, stack.backend.device), known={})
    for setup in NAMES:
        try:
            with warnings.catch_warnings():
                # What cannot be compiled is trained eagerly, with a warning: that would be another rung.
                warnings.filterwarnings("error", "torch could not compile", RuntimeWarning)
                judge_gradients(climbed, judge, SETUPS[setup])
                judge_path(climbed, judge, SETUPS[setup])
        except RuntimeWarning as warning:
            if "InvalidCxxCompiler" in str(warning):  # there is none; one that fails on a program is a rung that does not hold
                raise Lacking(str(warning)) from None
            raise
        except ClaimFailed as failure:
            failure.args = (f"set-up {setup!r}: {failure.args[0]}",)
            raise
