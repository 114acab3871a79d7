"""Every conformance check has a fault that makes it fail, and its message names the place of the fault.

The faults are changes in the text of the backend of docs/write-a-backend.md.
"""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from aeclaims import Backend, FixedRows
from aeclaims.backends import get
from aeclaims.conformance import test_path, test_population
from aeclaims.conformance.paths import POPULATION, SETUPS
from aeclaims.conformance.stack import Stack
from aeclaims.errors import ClaimFailed
from aeclaims.judging.judge import Judge

PAGE = Path(__file__).parents[2] / "docs" / "write-a-backend.md"
(SOURCE,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
SGD = SETUPS["SGD"]
SHORT = dataclasses.replace(SGD, n_rows=110, epochs=20)


def stack(*changes, dtype="float64", seeds=range(8), **record):
    """The page's backend with changes, which are pairs of old and new text."""
    source = SOURCE
    for before, after in changes:
        assert source.count(before) == 1, before
        source = source.replace(before, after)
    found = {}
    exec(compile(source, "my_backend.py", "exec"), found)
    return Stack(Backend("mine", found["train"], **record), dtype, tuple(seeds))


CHECKS = {
    "gradients": lambda given: test_path.judge_gradients(given, Judge(), SGD),
    "path": lambda given: test_path.judge_path(given, Judge(), SGD),
    "minibatches": lambda given: test_path.judge_path(given, Judge(), SHORT),
    "crowd": lambda given: test_path.judge_path(given, Judge(), POPULATION),
    "alone": lambda given: test_population.test_a_seed_alone_is_that_seed_in_a_crowd(SGD, given, Judge()),
    "order": lambda given: test_population.test_seeds_in_another_order_give_the_same_runs_in_that_order(
        SGD, given, Judge()
    ),
    "independence": lambda given: test_population.test_changing_one_replica_leaves_the_others_bit_for_bit(
        SGD, given, Judge()
    ),
    "repeated": lambda given: test_population.test_two_trainings_from_one_start_are_equal(SGD, given, Judge()),
    "memory": lambda given: test_population.test_parameters_in_strided_memory_train_as_contiguous_ones(
        SGD, given, Judge()
    ),
}
BIAS, WEIGHT = (
    "            bias -= rate * slope.sum(axis=1)\n",
    "            weight -= rate * (slope.swapaxes(1, 2) @ inputs)\n",
)
LAST, FIRST = "if weight is layers[-1][0]", "if weight is layers[0][0]"
STEP = "            slope = 2 * error / error[0].size\n"

LAST_BIAS = (BIAS, f"            bias -= rate * slope.sum(axis=1) * (0.99 {LAST} else 1)\n")

FAULTS = [
    ("gradients", [LAST_BIAS],
     "gradient of the bias of layer 2 in step 1"),
    ("gradients", [(WEIGHT, f"            weight -= rate * (slope.swapaxes(1, 2) @ inputs) * (1.001 {FIRST} else 1)\n")],
     "gradient of the weight of layer 1 in step 1"),
    ("gradients", [("(error**2).mean(axis=(1, 2))", "(error**2).sum(axis=2).mean(axis=1)")], "loss of step 1"),
    ("path", [(BIAS, f"            bias -= rate * slope.sum(axis=1) * (epoch < 30 or {LAST[3:]})\n")],
     "step 31 is the first to leave the oracle's path: bias of layer 1 after 31 epochs"),
    ("path", [("rate = rows", "rate = 1.0001 * rows")], "step 1 is the first to leave the oracle's path"),
    ("path", [("losses.append((error**2)", "losses.append((1 + 1e-6 * (epoch == 77)) * (error**2)")],
     "step 78 is the first to leave the oracle's path: relative deviation of epoch losses"),
    ("minibatches", [("range(0, len(order), ", "range(0, len(order) - experiment.batch_size + 1, ")],
     "epoch .3 steps. 1 is the first"),
    ("minibatches", [("start.order(epoch)", "start.order(0)")], "epoch .3 steps. 2 is the first"),
    ("crowd", [(STEP, STEP + "            slope[16:17] *= 1.01\n")], "seed 16"),
    ("alone", [(STEP, STEP + "            slope = slope + 1e-3 * slope.mean(axis=0)\n")], "alone and among others"),
    ("order", [(STEP, STEP + "            slope[0] *= 1.001\n")], "in another order"),
    ("independence", [(STEP, STEP + "            slope = slope + 1e-15 * np.roll(slope, 1, axis=0)\n")],
     "with another replica in place"),
    ("repeated", [(STEP, STEP + "            slope = slope * (1 + 1e-12 * np.random.default_rng().random())\n")],
     "the second time"),
    ("memory", [("weight.copy()", "np.ravel(weight, order='K').reshape(weight.shape)")], "with parameters in strided memory"),
]  # fmt: skip


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_check_holds_on_the_pages_backend(check, dtype):
    CHECKS[check](stack(dtype=dtype, seeds=range(64 if check == "crowd" else 8)))


@pytest.mark.parametrize(("check", "changes", "said"), FAULTS, ids=[f"{check}: {said}" for check, _, said in FAULTS])
def test_the_fault_makes_the_check_fail_and_is_placed(check, changes, said):
    with pytest.raises(ClaimFailed, match=said):
        CHECKS[check](stack(*changes, seeds=range(64 if check == "crowd" else 8)))


def test_every_check_has_a_fault():
    assert {check for check, _, _ in FAULTS} == set(CHECKS)


def test_a_fault_of_one_replica_names_its_seed():
    one = [(STEP, STEP + "            slope[[seed == 5 for seed in start.seeds]] *= 1.01\n")]
    with pytest.raises(ClaimFailed, match="seed 5") as failed:
        CHECKS["gradients"](stack(*one))
    assert failed.value.seed == 5


def test_a_fault_of_the_optimizers_moments_is_told_from_one_of_gradients(monkeypatch):
    from aeclaims.backends.torch import parts as torch_parts

    stock = torch_parts.optimizer

    def faulty(experiment, parameters, *own, **settings):
        optimizer = stock(experiment, parameters, *own, **settings)
        for group in optimizer.param_groups:
            group.update({"betas": (0.9, 0.99)} if "betas" in group else {})
        return optimizer

    monkeypatch.setattr(torch_parts, "optimizer", faulty)
    with pytest.raises(ClaimFailed, match="step 3 is the first to leave") as failed:
        test_path.judge_path(
            Stack(get("torch-eager"), "float32", tuple(range(8))), Judge(), SETUPS["affine layers, MSE, Adam"]
        )
    assert "cause:  gradients at the start are the oracle's, so that it is the optimizer" in str(failed.value)
    with pytest.raises(ClaimFailed) as failed:
        test_path.judge_path(stack(LAST_BIAS), Judge(), SGD)
    assert "cause:  gradients at the start are not the oracle's: gradient of the bias of layer 2" in str(failed.value)


def test_a_fault_of_the_numba_kernel_is_found(monkeypatch):
    from aeclaims.backends.numba import population as numba_population

    stock, numba = numba_population._optimizer, Stack(get("numba"), "float32", tuple(range(8)))

    def faster(experiment):
        kind, settings = stock(experiment)
        settings[0] *= 1.001
        return kind, settings

    test_path.judge_path(numba, Judge(), SGD)
    monkeypatch.setattr(numba_population, "_optimizer", faster)
    numba.known.clear()
    with pytest.raises(ClaimFailed, match="step 1 is the first to leave the oracle's path"):
        test_path.judge_path(numba, Judge(), SGD)


def test_what_is_not_deterministic_is_compared_up_to_rounding():
    noise = [(STEP, STEP + "            slope = slope * (1 + 1e-16 * np.random.default_rng().integers(0, 3))\n")]
    CHECKS["repeated"](stack(*noise, is_deterministic=False))
    with pytest.raises(ClaimFailed, match="the second time"):
        CHECKS["repeated"](
            stack(
                (STEP, STEP + "            slope *= 1 + 1e-6 * np.random.default_rng().random()\n"),
                is_deterministic=False,
            )
        )


def test_a_tolerance_grants_as_many_times_the_rounding_errors():
    from aeclaims import Tolerance

    plain, granted = stack(), stack(tolerances={"float64": Tolerance(3, "measured so")})
    np.testing.assert_allclose(granted.allowed_losses(SGD), 3 * plain.allowed_losses(SGD))
    np.testing.assert_allclose(
        stack(tolerances={"float32": Tolerance(3, "so")}).allowed_losses(SGD), plain.allowed_losses(SGD)
    )


def test_bounds_are_as_tight_as_rounding_allows():
    losses = stack().allowed_losses(SGD)
    assert (losses[49] < 1e-9).all()  # 50 steps of float64
    assert losses[0].max() < 1e-13
    assert stack(dtype="float32").allowed_losses(SGD)[0].max() < 1e-4


def test_replicas_near_a_kink_are_not_compared_further():
    experiment = SETUPS["ReLU"]
    clear = stack(dtype="float32").away_from_relu_kinks(experiment)
    assert clear[0].all()
    assert clear.shape == (200, 8)
    assert 0 < clear[-1].sum() < 8
    assert not (np.diff(clear.astype(int), axis=0) > 0).any()
    assert np.isinf(stack(dtype="float32").allowed_losses(experiment)[-1]).sum() > 0
    assert stack().away_from_relu_kinks(SGD).all()


def test_given_rows_of_a_setup_are_the_same_numbers_in_every_dtype():
    for experiment in SETUPS.values():
        if isinstance(experiment.rows, FixedRows):
            rows = experiment.rows.array
            assert (rows.astype(np.float32) == rows).all()
