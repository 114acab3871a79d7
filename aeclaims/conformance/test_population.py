"""Independence of replicas: a run depends on its start, but not on other replicas or on the memory layout."""

import numpy as np
import pytest

from aeclaims.conformance.paths import SETUPS
from aeclaims.conformance.stack import Stack, deviations, relative
from aeclaims.experiment import Experiment
from aeclaims.judging.claim import ALL, conformance
from aeclaims.judging.judge import Judge
from aeclaims.run import Run
from aeclaims.start import Array, LayerParameters, Parameters, Start

POPULATIONS = {
    name: SETUPS[name]
    for name in (
        "tanh and sigmoid, widths 3 to 7",
        "a short last minibatch",
        "given rows",
        "BCE of probabilities, bits",
        "SGD",
    )
}
# --claims-quick checks this one: each replica has its own order, and the last minibatch is short.
QUICK = "given rows"
WHY_ALONE = "a seed is the same replica alone and among others; sums in another order differ by rounding errors, as along a path"
WHY_BITS = "replicas share nothing: a change of one leaves the others equal to the last bit"


def populations(kind: str, statement: str) -> pytest.MarkDecorator:
    """Parametrize a test, so that each population is a check."""
    return pytest.mark.parametrize(
        "experiment",
        [
            pytest.param(
                experiment,
                id=name,
                marks=conformance(
                    f"{kind}: {name}",
                    statement=statement,
                    source="paths.py",
                    seeds=4,
                    is_quick=name == QUICK,
                    formats=ALL,
                ),
            )
            for name, experiment in POPULATIONS.items()
        ],
    )


@populations("alone", "a seed gives the same run alone and among others")
def test_a_seed_alone_is_that_seed_in_a_crowd(experiment: Experiment, stack: Stack, judge: Judge) -> None:
    population = stack.train(experiment)
    for seed in (stack.seeds[0], stack.seeds[-1]):
        judge_same(stack, judge, stack.train(experiment, (seed,)), population.select((seed,)), "alone and among others")


@populations("order", "seeds in another order give the same runs in that order")
def test_seeds_in_another_order_give_the_same_runs_in_that_order(
    experiment: Experiment, stack: Stack, judge: Judge
) -> None:
    reversed_order = stack.train(experiment, stack.seeds[::-1])
    judge_same(stack, judge, reversed_order.select(stack.seeds), stack.train(experiment), "in another order")


@populations("independence", "a change of one replica leaves all others equal, bit for bit")
def test_changing_one_replica_leaves_the_others_bit_for_bit(experiment: Experiment, stack: Stack, judge: Judge) -> None:
    run = stack.train(experiment)
    other_seed = max(stack.seeds) + 1
    for place in (0, len(stack.seeds) - 1):
        others = tuple(other_seed if at == place else seed for at, seed in enumerate(stack.seeds))
        kept = tuple(seed for seed in stack.seeds if seed in others)
        if kept:
            judge_bits(
                stack,
                judge,
                stack.train(experiment, others).select(kept),
                run.select(kept),
                WHY_BITS,
                f"with another replica in place {place}",
            )


@populations("repeated", "two trainings from one start are equal")
def test_two_trainings_from_one_start_are_equal(experiment: Experiment, stack: Stack, judge: Judge) -> None:
    again = stack.train_from(stack.start(experiment))
    judge_bits(
        stack,
        judge,
        again,
        stack.train(experiment),
        "all random numbers come from the start, and the backend's record says that it is deterministic",
        "the second time",
    )


class Strided(Start):
    """A start with non-contiguous parameters: transposed, and with gaps."""

    def parameters(self) -> Parameters:
        """Return the same numbers, in other places of memory."""

        def non_contiguous(values: Array) -> Array:
            room = np.zeros((*values.shape[::-1], 2), values.dtype)
            view = room[..., 0].T
            view[:] = values
            return view

        return tuple(
            LayerParameters(non_contiguous(weight), non_contiguous(bias)) for weight, bias in super().parameters()
        )


@populations("memory", "non-contiguous parameters train as contiguous ones do")
def test_parameters_in_strided_memory_train_as_contiguous_ones(
    experiment: Experiment, stack: Stack, judge: Judge
) -> None:
    run = stack.train_from(Strided(**vars(stack.start(experiment))))
    judge_same(stack, judge, run, stack.train(experiment), "with parameters in strided memory")


def judge_same(stack: Stack, judge: Judge, one: Run, other: Run, how: str) -> None:
    """Judge that two runs of the same seeds are equal up to rounding errors."""
    experiment = one.experiment
    allowed = 2 * stack.allowed_losses(experiment).max(axis=1, keepdims=True)
    judge.all_within(
        relative(one.epoch_loss, other.epoch_loss),
        at_most=allowed,
        reason=WHY_ALONE,
        seeds=one.seeds,
        what=f"relative deviation of epoch losses {how}",
    )
    if stack.is_reduced:  # see judge_part of test_path.py
        return
    for (name, off), granted in zip(deviations(one, other), stack.allowed_parameters(experiment), strict=True):
        judge.all_within(off, at_most=2 * granted.max(), reason=WHY_ALONE, seeds=one.seeds, what=f"{name} {how}")


def judge_bits(stack: Stack, judge: Judge, one: Run, other: Run, reason: str, how: str) -> None:
    """Judge that two runs of the same seeds are equal to the last bit.

    If the backend is not deterministic, they may differ by rounding errors.
    """
    if not stack.backend.is_deterministic:
        judge_same(stack, judge, one, other, how)
        return
    judge.all_within(
        (one.epoch_loss != other.epoch_loss).astype(float),
        at_most=0.0,
        reason=reason,
        seeds=one.seeds,
        what=f"epoch losses that differ {how}",
    )
    for number, (ours, theirs) in enumerate(zip(one.parameters, other.parameters, strict=True), 1):
        for name, a, b in zip(("weight", "bias"), ours, theirs, strict=True):
            differ = (a != b).reshape(len(a), -1).any(axis=1).astype(float)
            judge.all_within(
                differ, at_most=0.0, reason=reason, seeds=one.seeds, what=f"{name} of layer {number} that differs {how}"
            )
