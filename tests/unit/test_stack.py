"""The reference of conformance: the oracle's path, computed once, and its distance from kinks."""

import dataclasses
from itertools import islice

import numpy as np
import pytest

from aeclaims import RELU, TANH, Backend, Model, Start, mlp
from aeclaims.backends import get, oracle
from aeclaims.conformance import test_path
from aeclaims.conformance.paths import SETUPS
from aeclaims.conformance.stack import OraclePath, Stack, least_margins
from aeclaims.errors import NotSupported
from aeclaims.judging.judge import Judge
from aeclaims.start import LayerParameters

SEEDS = (4, 1)
DOUBLE = np.dtype("float64")


def of(epochs, setup):
    return dataclasses.replace(SETUPS[setup], epochs=epochs)


@pytest.mark.parametrize("setup", ["tanh", "a short last minibatch", "given rows"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_path_is_the_oracles_run_however_far_it_was_walked_before(setup, dtype):
    path = OraclePath(Start(of(1, setup), SEEDS, np.dtype(dtype)))
    for epochs in (10, 3, 20, 20, 1):
        start = Start(of(epochs, setup), SEEDS, np.dtype(dtype))
        walked, run = path.run(epochs), oracle.train(start)
        assert walked.start == start
        np.testing.assert_array_equal(walked.epoch_loss, run.epoch_loss)
        for a, b in zip(walked.parameters, run.parameters, strict=True):
            np.testing.assert_array_equal(a.weight, b.weight)
            np.testing.assert_array_equal(a.bias, b.bias)


def test_the_truth_and_the_growth_of_rounding_errors_are_the_oracles():
    stack = Stack(get("numba"), "float32", SEEDS)
    for found, dtype in (
        (stack.oracle_run(of(9, "tanh")), "float64"),
        (stack._walked(of(9, "tanh"), SEEDS, "float32"), "float32"),
    ):
        exact = oracle.train(Start(of(9, "tanh"), SEEDS, np.dtype(dtype)))
        np.testing.assert_array_equal(found.epoch_loss, exact.epoch_loss)
        np.testing.assert_array_equal(found.parameters[1].weight, exact.parameters[1].weight)


@pytest.mark.parametrize(("dtype", "backend", "count_type"), [
    ("float32", Backend("mine", get("numba").train, counts_on_device=True), np.float32),
    ("float64", Backend("mine", get("numba").train, counts_on_device=True), int),
    ("float32", get("numba"), int),
])  # fmt: skip
def test_rounding_grows_by_bias_corrections_in_float32_if_the_backend_rounds_them(dtype, backend, count_type):
    experiment = of(50, "affine layers, MSE, Adam")
    walked = Stack(backend, dtype, SEEDS)._walked(experiment, SEEDS, dtype)
    start = Start(experiment, SEEDS, np.dtype(dtype))
    by_type = {
        kind: np.array([step.loss for step in islice(oracle.steps(start, kind), 50)]) for kind in (int, np.float32)
    }
    np.testing.assert_array_equal(walked.epoch_loss, by_type[count_type])
    assert (by_type[int] != by_type[np.float32]).any()


def test_a_margin_is_the_input_of_a_unit_beside_what_is_added_up():
    # The rows are 0.6 and 0.2. Unit 1 has the input 0.6 - 0.4 - 0.5, and the sum of sizes is 1.5. Unit 2 has 0.2 + 0 and 0.2.
    first = LayerParameters(np.array([[[1.0, -2.0], [0.0, 1.0]]]), np.array([[-0.5, 0.0]]))
    parameters = (first, LayerParameters(np.ones((1, 2, 2)), np.array([[-0.18, 0.0]])))
    rows = np.array([[[0.6, 0.2]]])
    np.testing.assert_allclose(least_margins(mlp(2, 2, 2, hidden=RELU), parameters, rows), [0.3 / 1.5])
    np.testing.assert_array_equal(least_margins(mlp(2, 2, 2, hidden=TANH), parameters, rows), [np.inf])
    # Output 1 has the input 0 + 0.2 - 0.18, and the sum of sizes is 0.38.
    np.testing.assert_allclose(least_margins(Model((2, 2, 2), (RELU, RELU)), parameters, rows), [0.02 / 0.38])


def test_margins_along_the_path_are_those_of_its_parameters_at_each_step():
    experiment = of(30, "every activation, widths 3 to 7")
    start = Start(experiment, SEEDS, DOUBLE)
    margins = OraclePath(start).margins(30)
    assert margins.shape == (30, 2)
    np.testing.assert_array_equal(margins[0], least_margins(experiment.model, start.parameters(), start.rows()))
    for epochs in (1, 12, 29):
        run = oracle.train(Start(dataclasses.replace(experiment, epochs=epochs), SEEDS, DOUBLE))
        np.testing.assert_array_equal(margins[epochs], least_margins(experiment.model, run.parameters, start.rows()))


def test_margins_of_an_epoch_are_the_least_of_its_minibatches():
    experiment = dataclasses.replace(of(4, "ReLU"), n_rows=11, batch_size=4)
    start, model = Start(experiment, SEEDS, DOUBLE), experiment.model
    steps = oracle.steps(start)
    for margins in OraclePath(start).margins(4):
        own = [least_margins(model, step.before, step.batch) for step in islice(steps, 3)]
        np.testing.assert_array_equal(margins, np.min(own, axis=0))


def test_a_stack_with_an_optimizer_of_its_own_walks_a_path_of_its_own():
    experiment = of(6, "ReLU")
    with_oracle = Stack(get("numba"), "float64", SEEDS)
    own = Stack(Backend("mine", get("numba").train, optimizer="mine:Own"), "float64", SEEDS)
    run = get("numba").train(own.start(experiment))
    np.testing.assert_array_equal(own.oracle_run(experiment).epoch_loss, run.epoch_loss)
    np.testing.assert_array_equal(own.away_from_relu_kinks(experiment), with_oracle.away_from_relu_kinks(experiment))
    np.testing.assert_allclose(
        own._own_margins(experiment), OraclePath(with_oracle.start(experiment)).margins(6), rtol=1e-9
    )
    # This backend has no float32, so the growth of rounding errors is not known.
    lacking = Stack(
        Backend("mine", get("numba").train, optimizer="mine:Own", unsupported={"float32": "why"}), "float64", SEEDS
    )
    with pytest.raises(NotSupported, match="the growth of rounding errors is not known, because mine has no float32"):
        lacking.allowed_losses(experiment)


@pytest.mark.parametrize("judged", [test_path.judge_gradients, test_path.judge_path])
def test_the_oracle_is_not_compared_with_itself(judged):
    judge = Judge()
    with pytest.raises(NotSupported, match="the oracle is not compared with itself"):
        judged(Stack(get("oracle"), "float32", SEEDS), judge, SETUPS["SGD"])
    judged(Stack(get("numba"), "float32", SEEDS), judge, SETUPS["SGD"])
    assert judge.judged
    # A backend that only has the oracle's name is not excused.
    assert not Stack(Backend("oracle", get("numba").train), "float32", SEEDS).is_oracle
