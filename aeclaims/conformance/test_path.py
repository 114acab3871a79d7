"""Comparison of the backend with the oracle's path: gradients, losses and parameters, from the same start."""

import dataclasses
from collections.abc import Container, Sequence

import numpy as np
import pytest

from aeclaims.conformance.paths import LONG, POPULATION, QUICK, SETUPS
from aeclaims.conformance.stack import Stack, deviations, relative
from aeclaims.errors import ClaimFailed, NotSupported
from aeclaims.experiment import SGD, Adam, Experiment
from aeclaims.judging.claim import ALL, conformance
from aeclaims.judging.judge import Judge
from aeclaims.run import Double

# Epochs after which parameters are judged, besides the last one.
AFTER = (1, 10)
WHY_PATH = (
    "rounding errors, in eps of the dtype, move a sound path at most 16 times as far as they move "
    "the oracle's in float32, and 4 roundings more"
)
WHY_GRADIENT = (
    "one step of SGD at rate 1 moves a parameter by its gradient; rounding errors are bounded as along a path"
)


def setups(
    kind: str,
    statement: str,
    experiments: dict[str, Experiment],
    seeds: int = 4,
    quick: Container[str] = (),
) -> pytest.MarkDecorator:
    """Parametrize a test, so that each set-up is a check."""

    def needs_adam(experiment: Experiment) -> str:
        return "the oracle's path is Adam's" if kind != "gradient" and isinstance(experiment.optimizer, Adam) else ""

    checks = [
        pytest.param(
            experiment,
            id=name,
            marks=conformance(
                f"{kind}: {name}",
                statement=statement,
                source="paths.py",
                seeds=seeds,
                is_quick=name in quick,
                needs_adam=needs_adam(experiment),
                formats=ALL,
            ),
        )
        for name, experiment in experiments.items()
    ]
    return pytest.mark.parametrize("experiment", checks)


@setups("gradient", "gradients are those of the oracle", SETUPS, quick=SETUPS)
def test_gradients_are_the_oracles(experiment: Experiment, stack: Stack, judge: Judge) -> None:
    judge_gradients(stack, judge, experiment)


@setups("path", "losses and parameters after 1, 10 and 200 steps are those of the oracle", SETUPS, quick=QUICK)
def test_the_first_200_steps_are_the_oracles(experiment: Experiment, stack: Stack, judge: Judge) -> None:
    judge_path(stack, judge, experiment)


@setups("crowd", "each of 64 seeds follows the oracle's path", {"64 seeds": POPULATION}, seeds=64, quick=["64 seeds"])
def test_64_seeds_walk_the_oracles_path(experiment: Experiment, stack: Stack, judge: Judge) -> None:
    judge_path(stack, judge, experiment)


@setups("long path", "2,230 steps of minibatches are those of the oracle", LONG, seeds=2)
def test_a_long_path_is_the_oracles(experiment: Experiment, stack: Stack, judge: Judge) -> None:
    judge_path(stack, judge, experiment)


def judge_gradients(stack: Stack, judge: Judge, experiment: Experiment) -> None:
    """Judge the gradient of each layer at the start, on all rows: one step of SGD at rate 1 subtracts it."""
    require_not_oracle(stack)
    once = dataclasses.replace(experiment, epochs=1, batch_size=experiment.n_rows, optimizer=SGD(lr=1.0))
    seen, exact = stack.train(once), stack.oracle_run(once)
    within(
        judge,
        relative(seen.epoch_loss, exact.epoch_loss),
        stack.allowed_losses(once),
        reason=WHY_PATH,
        seeds=stack.seeds,
        what="loss of step 1, relative deviation from the oracle",
    )
    for (name, off), allowed in reversed(
        list(zip(deviations(seen, exact), stack.allowed_parameters(once), strict=True))
    ):
        within(
            judge,
            off,
            allowed,
            reason=WHY_GRADIENT,
            seeds=stack.seeds,
            what=f"gradient of the {name} in step 1, relative to the largest parameter",
        )


def judge_path(stack: Stack, judge: Judge, experiment: Experiment, after: tuple[int, ...] = AFTER) -> None:
    """Judge all epoch losses, and parameters after some epochs. A failure names the first step that left the path."""
    require_not_oracle(stack)
    for count in (*(epochs for epochs in after if epochs < experiment.epochs), experiment.epochs):
        part = dataclasses.replace(experiment, epochs=count)
        try:
            judge_part(stack, judge, part)
        except ClaimFailed as failure:
            raise locate_first_deviation(stack, experiment, failure, count) from None


def require_not_oracle(stack: Stack) -> None:
    """Raise NotSupported if the oracle is under test, because it cannot deviate from itself."""
    if stack.is_oracle:
        raise NotSupported("the oracle is not compared with itself")


def within(judge: Judge, off: Double, allowed: Double, *, reason: str, seeds: Sequence[int], what: str) -> None:
    """Judge deviations if any of them has a finite bound; else note that they were not exercised.

    A path has no finite bound if it comes too near to a kink, or if it is rounded too coarsely.
    """
    if np.isinf(allowed).all():
        judge.not_exercised.append(f"{what}: rounding errors leave no useful bound")
        return
    judge.all_within(off, at_most=allowed, reason=reason, seeds=seeds, what=what)


def judge_part(stack: Stack, judge: Judge, experiment: Experiment) -> None:
    """Judge the losses of all epochs, and the parameters after them."""
    seen, exact = stack.train(experiment), stack.oracle_run(experiment)
    off = relative(seen.epoch_loss, exact.epoch_loss)
    judge.measure(
        {
            "loss, share of the allowed deviation": max(
                float((off / stack.allowed_losses(experiment)).max()),
                judge.measured.get("loss, share of the allowed deviation", 0.0),
            )
        }
    )
    within(
        judge,
        off,
        stack.allowed_losses(experiment),
        reason=WHY_PATH,
        seeds=stack.seeds,
        what="relative deviation of epoch losses from the oracle",
    )
    if stack.is_reduced:  # near 0 a rounded gradient may have the other sign, and Adam then takes a full step
        return
    clear = stack.away_from_relu_kinks(experiment)[-1]
    judge.measure({"seeds compared to the end": int(clear.sum())})
    for (name, off), allowed in zip(deviations(seen, exact), stack.allowed_parameters(experiment), strict=True):
        if not clear.any():
            continue
        judge.measure(
            {
                "parameters, share of the allowed deviation": max(
                    float((off / allowed).max()), judge.measured.get("parameters, share of the allowed deviation", 0.0)
                )
            }
        )
        judge.all_within(
            off,
            at_most=allowed,
            reason=WHY_PATH,
            seeds=stack.seeds,
            what=f"{name} after {experiment.epochs} epochs, deviation relative to the largest",
        )


def locate_first_deviation(stack: Stack, experiment: Experiment, failure: ClaimFailed, epochs: int) -> ClaimFailed:
    """Find the first epoch that fails, by halving; returns its failure, with the quantity, the seed and the cause."""
    sound, failing = 0, epochs
    while failing - sound > 1:
        middle = (sound + failing) // 2
        try:
            judge_part(stack, Judge(), dataclasses.replace(experiment, epochs=middle))
            sound = middle
        except ClaimFailed as earlier:
            failing, failure = middle, earlier
    try:
        judge_gradients(stack, Judge(), experiment)
        cause = (
            "gradients at the start are the oracle's, so that it is the optimizer (its step, moments or count of "
            "steps), or code that runs only from the second step on, such as compiled code"
        )
    except ClaimFailed as earlier:
        cause = f"gradients at the start are not the oracle's: {earlier.what}"
    except NotSupported:
        cause = "unknown: gradients are measured with SGD, which the backend lacks"
    unit = "step" if experiment.steps_per_epoch == 1 else f"epoch ({experiment.steps_per_epoch} steps)"
    failure.args = (f"{unit} {failing} is the first to leave the oracle's path: {failure.args[0]}\n  cause:  {cause}",)
    return failure
