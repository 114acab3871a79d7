"""The reference equals torch in float64, step by step, though its code is independent."""

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aeclaims import (
    IDENTITY,
    RELU,
    SGD,
    SIGMOID,
    TANH,
    Adam,
    Bernoulli,
    Beta,
    Experiment,
    Model,
    Redundant,
    Uniform,
    leaky_relu,
    train,
)
from aeclaims.theory import floors

ACTIVATIONS = st.sampled_from([IDENTITY, RELU, TANH, SIGMOID, leaky_relu(0.1), leaky_relu(0.5)])


@st.composite
def experiments(draw, steps=50):
    """Any experiment of the vocabulary, with about `steps` steps, in one epoch or more."""
    features = draw(st.integers(1, 5))
    hidden = draw(st.lists(st.integers(1, 7), max_size=3))
    loss = draw(st.sampled_from(["mse", "bce", "bce_logits"]))
    output = {"bce": SIGMOID, "bce_logits": IDENTITY}.get(loss) or draw(ACTIVATIONS)
    kinds = [Uniform(features=features), Bernoulli(0.3, features=features), Beta(0.5, 2, features=features)]
    rows = draw(st.sampled_from([*kinds, *[Redundant(1, features=features)] * (loss == "mse")]))
    decay = draw(st.sampled_from([0.0, 1e-2]))
    optimizer = draw(
        st.sampled_from(
            [
                Adam(lr=1e-2, weight_decay=decay),
                Adam(lr=1e-3, betas=(0.8, 0.99), eps=1e-6),
                SGD(lr=0.05, weight_decay=decay),
                SGD(lr=0.05, momentum=0.9, weight_decay=decay),
            ]
        )
    )
    n_rows, batch_size = draw(st.integers(1, 60)), draw(st.integers(1, 40))
    per_epoch = -(-n_rows // batch_size)
    activations = (*(draw(ACTIVATIONS) for _ in hidden), output)
    return Experiment(
        rows=rows, model=Model((features, *hidden, features), activations), loss=loss, optimizer=optimizer,
        epochs=max(1, steps // per_epoch), n_rows=n_rows, batch_size=batch_size,
        initialisation=draw(st.sampled_from(["pytorch", "glorot"])), zero_grad=draw(st.booleans()),
    )  # fmt: skip


# The rounding floor: a probability next to 1 has an error of eps/2, and so has a BCE computed from it, however small. 6.5
# eps were measured, at a loss of 6e-7. exp, the quotient and 50 steps can add a few roundings each.
RESOLUTION = 32 * np.finfo(np.float64).eps


# If gradients accumulate or a step is large, a training can blow up, and then rounding errors grow like the loss. A loss of
# 1e168, or one of 166 on its way there, agreed in 8 digits only. Paths are compared until a loss has grown tenfold.
BLOWN_UP = 10


def is_bounded(run):
    """Whether the losses up to each epoch are below BLOWN_UP times the first one, shape (E, S)."""
    return np.logical_and.accumulate(run.epoch_loss < BLOWN_UP * np.maximum(1, run.epoch_loss[0]), axis=0)


def assert_same(one, other, tolerance):
    bounded = is_bounded(one)
    np.testing.assert_array_equal(bounded, is_bounded(other))
    np.testing.assert_allclose(one.epoch_loss[bounded], other.epoch_loss[bounded], rtol=tolerance, atol=RESOLUTION)
    survived = bounded[-1]
    for ours, theirs in zip(one.parameters, other.parameters, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            a, b = a[survived], b[survived]
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1e-3, np.abs(b).max(initial=0)))


@settings(deadline=None)
@given(experiments(), st.integers(0, 2**31))
def test_the_reference_equals_torch_in_float64_over_50_steps(experiment, seed):
    seeds = (seed, seed + 1)
    assert_same(
        train(experiment, seeds=seeds, backend="numba", dtype="float64"),
        train(experiment, seeds=seeds, backend="torch-eager", dtype="float64"),
        1e-9,
    )


@settings(deadline=None)
@given(experiments(), st.integers(0, 2**31))
def test_the_oracle_equals_numba_in_float64_over_50_steps(experiment, seed):
    seeds = (seed, seed + 1)
    assert_same(
        train(experiment, seeds=seeds, backend="oracle", dtype="float64"),
        train(experiment, seeds=seeds, backend="numba", dtype="float64"),
        1e-9,
    )


@settings(deadline=None, max_examples=10)
@given(experiments(steps=10), st.integers(0, 2**31))
def test_the_loop_equals_the_population_in_float64(experiment, seed):
    seeds = (seed, seed + 1)
    assert_same(
        train(experiment, seeds=seeds, backend="torch-loop", dtype="float64"),
        train(experiment, seeds=seeds, backend="torch-eager", dtype="float64"),
        1e-9,
    )


@settings(deadline=None)
@given(experiments(steps=1), st.integers(0, 2**31))
def test_the_first_loss_in_float32_is_that_in_float64(experiment, seed):
    # Later losses may differ: momentum and accumulated gradients amplify rounding errors.
    experiment = dataclasses.replace(experiment, epochs=1, batch_size=experiment.n_rows)
    single = train(experiment, seeds=[seed], backend="numba")
    double = train(experiment, seeds=[seed], backend="numba", dtype="float64")
    np.testing.assert_allclose(single.epoch_loss, double.epoch_loss, rtol=0, atol=floors.rounding(np.float32))
