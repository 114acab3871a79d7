"""The oracle is right: its gradients match differences of losses, its optimizers match their papers, and it fits one page."""

import ast
import dataclasses
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from aeclaims import (
    IDENTITY,
    RELU,
    SGD,
    SIGMOID,
    TANH,
    Adam,
    Experiment,
    FixedRows,
    Model,
    Start,
    Uniform,
    UnknownBackend,
    affine,
    leaky_relu,
    train,
)
from aeclaims.backends import oracle
from aeclaims.conformance.paths import SETUPS
from aeclaims.conformance.stack import least_margins
from aeclaims.start import LayerParameters

DOUBLE, SINGLE = np.dtype("float64"), np.dtype("float32")
SEEDS = (3, 0, 5)
SOURCE = Path(oracle.__file__).read_text()

ACTIVATIONS = [IDENTITY, RELU, leaky_relu(0.1), TANH, SIGMOID]
# Each activation in hidden layers, and each as an output that the loss accepts.
CASES = [
    (hidden, output, loss)
    for hidden in ACTIVATIONS
    for loss in ("mse", "bce", "bce_logits")
    for output in ACTIVATIONS
    if loss == "mse" or (output == SIGMOID) == (loss == "bce")
]


def changed(parameters, layer, part, index, by):
    """The parameters, with one number of every seed changed."""
    copies = [LayerParameters(weight.copy(), bias.copy()) for weight, bias in parameters]
    copies[layer][part][(slice(None), *index)] += by
    return tuple(copies)


@pytest.mark.parametrize(
    ("hidden", "output", "loss"), CASES, ids=[f"{h.kind}, {o.kind}, {loss}" for h, o, loss in CASES]
)
def test_gradients_are_central_differences_of_the_loss(hidden, output, loss):
    experiment = Experiment(
        rows=Uniform(features=3),
        model=Model((3, 4, 2, 3), (hidden, hidden, output)),
        loss=loss,
        optimizer=Adam(),
        epochs=1,
        n_rows=5,
    )
    start = Start(experiment, SEEDS, DOUBLE)
    parameters, x, h = start.parameters(), start.rows(), 1e-6
    assert (
        least_margins(experiment.model, parameters, x) > 10 * h
    ).all()  # no unit crosses its kink within a difference
    _, gradients = oracle.differentiate(experiment, parameters, x)
    for place, gradient in enumerate(gradients):
        assert gradient.shape == parameters[place // 2][place % 2].shape
        for index in np.ndindex(gradient.shape[1:]):
            above, below = (
                oracle.differentiate(experiment, changed(parameters, place // 2, place % 2, index, by), x)[0]
                for by in (h, -h)
            )
            # A difference has an error of h^2 f'''/6, and of the loss's rounding over h.
            np.testing.assert_allclose((above - below) / (2 * h), gradient[(slice(None), *index)], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("loss", "module"),
    [("mse", torch.nn.MSELoss()), ("bce", torch.nn.BCELoss()), ("bce_logits", torch.nn.BCEWithLogitsLoss())],
)
def test_losses_and_their_derivatives_are_torchs_at_the_edges_too(loss, module):
    numbers = (
        [0.0, 1e-300, 1e-13, 0.3, 1 - 1e-13, 1.0] if loss == "bce" else [-800.0, -40.0, -1.0, 0.0, 0.5, 40.0, 800.0]
    )
    value, derivative = oracle.LOSSES[loss]
    for x in (0.0, 0.25, 1.0):
        for y in numbers:
            output = torch.tensor([y], dtype=torch.float64, requires_grad=True)
            theirs = module(output, torch.tensor([x], dtype=torch.float64))
            theirs.backward()
            with np.errstate(divide="ignore", over="ignore"):
                ours = value(np.array([x]), np.array([y])), derivative(np.array([x]), np.array([y]))
            np.testing.assert_allclose(ours[0], [theirs.item()], rtol=1e-12, atol=1e-15)
            # torch divides its gradient by at least 1e-12, and stores this number in float32.
            np.testing.assert_allclose(ours[1], output.grad.numpy(), rtol=1e-8, atol=1e-15)


def test_at_zero_relu_has_no_gradient_and_leaky_relu_has_its_slope():
    zero = np.zeros(1)
    assert oracle.ACTIVATIONS["relu"][1](zero, 0.0) == 0
    assert oracle.ACTIVATIONS["leaky_relu"][1](zero, 0.25) == 0.25


def test_two_steps_of_adam_are_those_worked_out_by_hand():
    # t = 1: m = 0.05, v = 0.0025, corrected 0.5 and 0.25: 1 - 0.1 * 0.5 / 0.51.
    # t = 2: m = 0.045 - 0.1 and v = 0.002475 + 0.01. Corrected, they are -0.055 / 0.19 and 0.012475 / 0.0199, with the root 0.7917603.
    adam = Adam(lr=0.1, betas=(0.9, 0.99), eps=0.01)
    theta, m, v = oracle.update(adam, 1, np.array([1.0]), np.array([0.5]), np.zeros(1), np.zeros(1))
    np.testing.assert_allclose([theta, m, v], [[0.901960784314], [0.05], [0.0025]], rtol=1e-11)
    theta, m, v = oracle.update(adam, 2, theta, np.array([-1.0]), m, v)
    np.testing.assert_allclose([theta, m, v], [[0.938065549408], [-0.055], [0.012475]], rtol=1e-11)


def test_a_step_counted_in_float32_rounds_the_bias_corrections_to_float32():
    adam, arrays = Adam(lr=0.1), [np.array([value], np.float32) for value in (1.0, 0.5, 0.25, 0.125)]
    theta, m, v = oracle.update(adam, np.float32(7), *arrays)
    rounded = np.float32(1) - np.float32(0.9) ** np.float32(7), np.float32(1) - np.float32(0.999) ** np.float32(7)
    np.testing.assert_array_equal(theta, arrays[0] - 0.1 * (m / rounded[0]) / (np.sqrt(v / rounded[1]) + 1e-8))
    assert abs(float(rounded[1]) / (1 - 0.999**7) - 1) > 1e-6  # beside 1, 0.007 has a relative error of 1e-5
    assert theta.dtype == SINGLE


def test_adams_weight_decay_is_added_to_the_gradient():
    # The gradient is 0.5 + 0.1 * 1 = 0.6: m corrected is 0.6, v corrected 0.36.
    adam = Adam(lr=0.1, betas=(0.9, 0.99), eps=0.01, weight_decay=0.1)
    theta, _, _ = oracle.update(adam, 1, np.array([1.0]), np.array([0.5]), np.zeros(1), np.zeros(1))
    np.testing.assert_allclose(theta, [1 - 0.06 / 0.61], rtol=1e-14)


def test_a_step_of_sgd_is_that_worked_out_by_hand():
    # The gradient is 0.5 + 0.1 * 1 = 0.6, the velocity 0.9 * 2 + 0.6 = 2.4, the step 0.1 * 2.4.
    theta, m, _ = oracle.update(
        SGD(lr=0.1, momentum=0.9, weight_decay=0.1), 7, np.array([1.0]), np.array([0.5]), np.array([2.0]), np.zeros(1)
    )
    np.testing.assert_allclose([theta, m], [[0.76], [2.4]], rtol=1e-14)


@pytest.mark.parametrize("setup", SETUPS)
def test_the_oracle_agrees_with_numba_in_float64(setup):
    ours, theirs = (
        train(SETUPS[setup], seeds=SEEDS, backend=backend, dtype="float64") for backend in ("oracle", "numba")
    )
    # Rounding errors are 3e-13 for losses, on normal rows of rank 1 that come near 0, and 5e-14 for parameters.
    np.testing.assert_allclose(ours.epoch_loss, theirs.epoch_loss, rtol=3e-12)
    for a, b in zip(ours.parameters, theirs.parameters, strict=True):
        np.testing.assert_allclose(a.weight, b.weight, rtol=0, atol=5e-13)
        np.testing.assert_allclose(a.bias, b.bias, rtol=0, atol=5e-13)


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("setup", SETUPS)
def test_a_seed_alone_is_that_seed_in_a_crowd_bit_for_bit(setup, dtype):
    experiment = dataclasses.replace(SETUPS[setup], epochs=20)
    crowd, alone = (oracle.train(Start(experiment, seeds, dtype)) for seeds in (SEEDS, SEEDS[1:2]))
    np.testing.assert_array_equal(alone.epoch_loss[:, 0], crowd.epoch_loss[:, 1])
    for a, b in zip(alone.parameters, crowd.parameters, strict=True):
        np.testing.assert_array_equal(a.weight[0], b.weight[1])
        np.testing.assert_array_equal(a.bias[0], b.bias[1])


def test_in_float32_all_numbers_of_a_step_are_float32_whatever_the_optimizers_numbers_are():
    for optimizer in (
        Adam(lr=np.float64(0.1), betas=(np.float64(0.9), 0.99), eps=np.float64(1e-8)),
        SGD(lr=np.float64(0.1)),
    ):
        for setup in ("every activation, widths 3 to 7", "BCE of probabilities", "BCE on logits", "given rows"):
            start = Start(dataclasses.replace(SETUPS[setup], optimizer=optimizer), SEEDS, SINGLE)
            (step,) = islice(oracle.steps(start), 1)
            arrays = [step.batch, step.loss, *(values for layer in step.after for values in layer)]
            assert {values.dtype for values in arrays} == {SINGLE}


def test_steps_follow_each_other_through_the_epochs_and_leave_what_they_yielded():
    experiment = SETUPS["a short last minibatch"]
    start = Start(experiment, SEEDS, DOUBLE)
    walked = list(islice(oracle.steps(start), 7))
    assert [step.batch.shape[1] for step in walked] == [48, 48, 14, 48, 48, 14, 48]
    for one, following in pairwise(walked):
        assert following.before is one.after
    for before, initial in zip(walked[0].before, start.parameters(), strict=True):
        np.testing.assert_array_equal(before.weight, initial.weight)
    np.testing.assert_array_equal(
        np.concatenate([step.batch for step in walked[3:6]], axis=1), start.rows()[:, start.order(1)]
    )


def test_a_step_shows_the_gradients_and_moments_it_was_taken_with():
    for setup in ("gradients that add up", "SGD with momentum and decay", "Adam with decay"):
        experiment = SETUPS[setup]
        before = [
            [np.zeros_like(values) for layer in Start(experiment, SEEDS, DOUBLE).parameters() for values in layer]
        ] * 3
        for t, step in enumerate(islice(oracle.steps(Start(experiment, SEEDS, DOUBLE)), 3), 1):
            gradients = oracle.differentiate(experiment, step.before, step.batch)[1]
            if not experiment.zero_grad:
                gradients = [earlier + new for earlier, new in zip(before[0], gradients, strict=True)]
            flat = [values for layer in step.before for values in layer]
            after = [
                oracle.update(experiment.optimizer, t, *each) for each in zip(flat, gradients, *before[1:], strict=True)
            ]
            expected = [gradients, *zip(*after, strict=True)]
            shown = [step.gradients, [values for layer in step.after for values in layer], step.m, step.v]
            for ours, theirs in zip(shown, expected, strict=True):
                for a, b in zip(ours, theirs, strict=True):
                    np.testing.assert_array_equal(a, b)
            before = [step.gradients, step.m, step.v]


def test_an_epochs_loss_is_the_plain_mean_of_its_minibatches_losses_in_float64():
    experiment = dataclasses.replace(SETUPS["a short last minibatch"], epochs=2)
    start = Start(experiment, SEEDS, SINGLE)
    losses = np.array([step.loss for step in islice(oracle.steps(start), 6)]).astype(np.float64)
    np.testing.assert_allclose(
        oracle.train(start).epoch_loss, losses.reshape(2, 3, len(SEEDS)).mean(axis=1), rtol=1e-15
    )


def test_seeds_that_share_rows_take_them_in_orders_of_their_own():
    rows = np.arange(12.0).reshape(6, 2)
    experiment = Experiment(
        rows=FixedRows(rows), model=affine(2, 2), loss="mse", optimizer=SGD(lr=1e-3), epochs=1, batch_size=4
    )
    start = Start(experiment, SEEDS, DOUBLE)
    walked = list(islice(oracle.steps(start), 2))
    for seed, order in enumerate(start.order(0)):
        np.testing.assert_array_equal(np.concatenate([step.batch[seed] for step in walked]), rows[order])


def test_a_replica_that_diverges_shows_it_in_its_losses_without_a_warning():
    experiment = Experiment(
        rows=Uniform(features=2), model=affine(2, 2), loss="mse", optimizer=SGD(lr=1e200), epochs=5, n_rows=4
    )
    losses = oracle.train(Start(experiment, SEEDS, DOUBLE)).epoch_loss
    assert np.isfinite(losses[0]).all()
    assert not np.isfinite(losses[-1]).any()


def test_the_oracle_refuses_what_it_cannot_do():
    with pytest.raises(UnknownBackend, match=r"dtype 'bfloat16': oracle on cpu has float32 and float64 only"):
        train(SETUPS["SGD"], seeds=[0], backend="oracle", dtype="bfloat16")
    with pytest.raises(UnknownBackend, match=r"device 'cuda': oracle runs on the CPU only"):
        train(SETUPS["SGD"], seeds=[0], backend="oracle", device="cuda")


def test_the_oracle_fits_on_a_page_and_shares_no_arithmetic_with_other_backends():
    assert len(SOURCE.splitlines()) <= 120
    imported = {node.module for node in ast.walk(ast.parse(SOURCE)) if isinstance(node, ast.ImportFrom)}
    assert {module for module in imported if module.startswith("aeclaims")} == {
        "aeclaims.experiment",
        "aeclaims.runtime.progress",
        "aeclaims.run",
        "aeclaims.start",
    }
    assert [node.names[0].name for node in ast.walk(ast.parse(SOURCE)) if isinstance(node, ast.Import)] == ["numpy"]
