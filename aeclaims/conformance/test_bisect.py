"""The bisection: the oracle judges the same set-ups on each stage of the stack. Compiled loops compile the whole step."""

from dataclasses import replace

import pytest

from aeclaims.conformance.loops import judge_loop
from aeclaims.conformance.paths import SETUPS
from aeclaims.conformance.stack import Stack
from aeclaims.conformance.stages import STAGES
from aeclaims.conformance.test_path import judge_gradients, judge_path
from aeclaims.errors import ClaimFailed
from aeclaims.judging.claim import conformance
from aeclaims.judging.judge import Judge

# A program takes seconds to compile, so there is one set-up for each activation, loss and optimizer.
NAMES = (
    "every activation, widths 3 to 7",
    "a wide layer",
    "BCE of probabilities",
    "BCE on logits",
    "SGD with momentum and decay",
    "gradients that add up",
    "a short last minibatch",
    "given rows",
)
MARKED = [
    pytest.param(
        name,
        id=name,
        marks=conformance(
            f"stage {number}: {name}",
            source="bisection",
            is_stage=True,
            seeds=2,
            statement=f"follows the oracle's path in {len(NAMES)} set-ups",
        ),
    )
    for number, name in enumerate(STAGES, 1)
]


@pytest.mark.parametrize("name", MARKED)
def test_the_stage_walks_the_oracles_path(name: str, stack: Stack, judge: Judge) -> None:
    stage = STAGES[name]
    staged = replace(stack, backend=stage.on(stack.backend.device, stack.compilation), known={})
    if stage.compilation is not None and stage.is_loop:  # each seed compiles its own step
        staged = replace(staged, seeds=stack.seeds[:1])
    for setup in NAMES:
        try:
            if stage.is_loop:
                judge_loop(staged, judge, SETUPS[setup], stage.settings(stack.compilation))
            else:
                judge_gradients(staged, judge, SETUPS[setup])
                judge_path(staged, judge, SETUPS[setup], after=())
        except ClaimFailed as failure:
            failure.args = (f"set-up {setup!r}: {failure.args[0]}",)
            raise
