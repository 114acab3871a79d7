"""A run names the epoch that reaches a bound, and evaluates its final parameters independently of the backend."""

import numpy as np
import pytest

from aeclaims import (
    IDENTITY,
    RELU,
    SIGMOID,
    TANH,
    Adam,
    Experiment,
    FixedRows,
    InvalidRun,
    LayerParameters,
    Model,
    Run,
    Start,
    Uniform,
    affine,
    leaky_relu,
    mlp,
    train,
)

EXPERIMENT = Experiment(rows=Uniform(features=2), model=affine(2, 2), loss="mse", optimizer=Adam(), epochs=4, n_rows=50)


def on(rows, model, loss="mse"):
    return Experiment(rows=rows, model=model, loss=loss, optimizer=Adam(), epochs=4)


def run_of(losses, experiment=EXPERIMENT, parameters=None):
    start = Start(experiment, tuple(range(np.shape(losses)[1])))
    return Run(start, np.array(losses, float), parameters or start.parameters())


def test_reached_is_the_first_epoch_from_1_below_the_bound_and_0_if_none():
    run = run_of([[3.0, 3, 1, np.nan], [2, 3, 3, 3], [0.5, 1, 3, np.nan], [0.7, 3, 3, np.nan]])
    assert run.first_epoch_below(1.0).tolist() == [3, 0, 0, 0]
    assert run.first_epoch_below(1.5).tolist() == [3, 3, 1, 0]
    assert run.first_epoch_below(np.nan).tolist() == [0, 0, 0, 0]


def test_the_final_loss_is_the_loss_of_the_final_parameters_on_all_rows():
    identity = (LayerParameters(np.stack([np.eye(2), 2 * np.eye(2)]), np.zeros((2, 2))),)
    run = run_of(np.ones((4, 2)), parameters=identity)
    rows = run.start.rows().astype(float)
    np.testing.assert_allclose(run.final_loss, [0, (rows[1] ** 2).mean()], rtol=1e-12)


def test_the_final_loss_of_bce_is_the_same_from_probabilities_and_from_logits():
    base = Experiment(
        rows=Uniform(features=2), model=affine(2, 2, output=SIGMOID), loss="bce", optimizer=Adam(), epochs=4, n_rows=50
    )
    run = run_of(np.ones((4, 3)), experiment=base)
    x, p = run.start.rows().astype(float), run.reconstruct(run.start.rows())
    expected = -(x * np.log(p) + (1 - x) * np.log(1 - p)).mean(axis=(1, 2))
    np.testing.assert_allclose(run.final_loss, expected, rtol=1e-12)


def test_reconstruct_takes_rows_for_all_seeds_or_for_each():
    rows = np.random.default_rng(0).random((5, 3))
    run = run_of(np.ones((4, 2)), experiment=on(FixedRows(rows), mlp(3, 4, 3, hidden=RELU)))
    (w1, b1), (w2, b2) = (tuple(array[1].astype(float) for array in layer) for layer in run.parameters)
    expected = np.maximum(rows @ w1.T + b1, 0) @ w2.T + b2
    np.testing.assert_allclose(run.reconstruct(rows)[1], expected, rtol=1e-12)
    np.testing.assert_allclose(run.reconstruct(np.stack([rows, rows]))[1], expected, rtol=1e-12)
    np.testing.assert_allclose(run.reconstruct(rows[None])[1], expected, rtol=1e-12)
    with pytest.raises(ValueError, match=r"^rows have shape \(5, 2\); give \(N, 3\), or that for each seed$"):
        run.reconstruct(np.zeros((5, 2)))
    with pytest.raises(ValueError, match=r"give \(N, 3\)"):
        run.reconstruct(np.zeros((1, 2, 5, 3)))
    with pytest.raises(ValueError, match=r"^rows have shape \(7, 5, 3\); the first axis must be 1 or the 2 seeds$"):
        run.reconstruct(np.zeros((7, 5, 3)))
    with pytest.raises(ValueError, match="3 seeds"):
        run_of(np.ones((4, 3))).reconstruct(np.zeros((2, 5, 2)))


def test_every_activation_is_applied_where_it_stands():
    kinds = (leaky_relu(0.25), RELU, TANH, SIGMOID, IDENTITY)
    weights = [np.full((1, 1, 1), weight) for weight in (-2.0, -3.0, 0.7, -1.5, 4.0)]
    run = run_of(
        np.ones((4, 1)),
        experiment=on(Uniform(features=1), Model((1,) * 6, kinds)),
        parameters=tuple(LayerParameters(weight, np.full((1, 1), 0.1)) for weight in weights),
    )
    x = np.linspace(-1, 1, 9)
    first = 0.1 - 2 * x
    squashed = np.tanh(0.1 + 0.7 * np.maximum(0.1 - 3 * np.where(first > 0, first, first / 4), 0))
    expected = 0.1 + 4 / (1 + np.exp(1.5 * squashed - 0.1))
    np.testing.assert_allclose(run.reconstruct(x[:, None])[0, :, 0], expected, rtol=1e-12)


def test_a_run_of_the_wrong_shape_is_refused():
    start = Start(EXPERIMENT, (0, 1))
    with pytest.raises(InvalidRun, match=r"\(4, 2\)"):
        Run(start, np.ones((2, 4)), start.parameters())
    with pytest.raises(InvalidRun, match="parameters have shapes"):
        Run(start, np.ones((4, 2)), ())


def test_only_keeps_the_seeds_asked_for():
    run = train(EXPERIMENT, seeds=[5, 6, 7], backend="numba")
    part = run.select((7, 5))
    alone = train(EXPERIMENT, seeds=[7, 5], backend="numba")
    assert part.seeds == (7, 5)
    np.testing.assert_array_equal(part.epoch_loss, alone.epoch_loss)
    np.testing.assert_array_equal(part.final_loss, alone.final_loss)


def test_the_final_loss_of_a_diverged_replica_is_not_finite_and_warns_of_nothing():
    start = Start(EXPERIMENT, (0,))
    infinite = tuple(LayerParameters(np.full_like(w, np.inf), np.full_like(b, -np.inf)) for w, b in start.parameters())
    assert not np.isfinite(Run(start, np.full((EXPERIMENT.epochs, 1), np.nan), infinite).final_loss).any()


def test_a_run_holds_float64_losses_and_named_layers_whatever_a_backend_returned():
    start = Start(EXPERIMENT, (0, 1))
    run = Run(start, [[0.1, 1], [2, 3], [4, 5], [6, 7]], [tuple(layer) for layer in start.parameters()])
    assert (run.epoch_loss.dtype, run.epoch_loss[3].tolist()) == (np.float64, [6, 7])
    assert isinstance(run.parameters, tuple)
    np.testing.assert_array_equal(run.parameters[0].weight, start.parameters()[0].weight)
    assert Run(start, np.ones((4, 2), np.float32), start.parameters()).epoch_loss.dtype == np.float64


def test_the_final_loss_on_shared_rows_is_that_of_each_seed():
    rows = np.array([[0.25, 1], [0.5, 0.75], [0.125, 0]])
    scaled = (LayerParameters(np.stack([np.eye(2), 3 * np.eye(2), np.zeros((2, 2))]), np.zeros((3, 2))),)
    run = run_of(np.ones((4, 3)), experiment=on(FixedRows(rows), affine(2, 2)), parameters=scaled)
    np.testing.assert_allclose(run.final_loss, np.array([0, 4, 1]) * (rows**2).mean(), rtol=1e-12)


@pytest.mark.parametrize(("loss", "size"), [("mse", 1e200), ("mse", 1e308), ("bce_logits", np.inf)])
def test_the_final_loss_of_what_has_blown_up_is_not_finite_and_warns_of_nothing(loss, size):
    # Squares overflow, and products too; a logit is infinite for a target of 0.
    experiment = on(FixedRows(np.array([[0, 0.25], [0.5, 1]])), affine(2, 2), loss)
    blown = (LayerParameters(np.full((1, 2, 2), size), np.full((1, 2), size)),)
    assert not np.isfinite(run_of(np.ones((4, 1)), experiment=experiment, parameters=blown).final_loss).any()


@pytest.mark.parametrize(("losses", "message"), [
    (np.ones((4, 2), complex), "epoch_loss has dtype complex128; real numbers are expected"),
    (np.ones((4, 2), object), "epoch_loss has dtype object"),
    (np.full((4, 2), "1"), "epoch_loss has dtype <U1"),
    ([[1.0, 2.0], [3.0]], "epoch_loss is no array of numbers: ValueError"),
])  # fmt: skip
def test_losses_that_are_no_real_numbers_are_refused(losses, message):
    start = Start(EXPERIMENT, (0, 1))
    with pytest.raises(InvalidRun, match=message):
        Run(start, losses, start.parameters())


@pytest.mark.parametrize(("change", "message"), [
    (lambda w, b: (w.astype(complex), b), "the weight of layer 1 has dtype complex128"),
    (lambda w, b: (w, b.astype(object)), "the bias of layer 1 has dtype object"),
    (lambda w, b: (w, b, b), r"layer 1 of parameters is no pair \(weight, bias\)"),
    (lambda w, b: w, "layer 1 of parameters is no pair"),
])  # fmt: skip
def test_parameters_that_are_no_pairs_of_real_numbers_are_refused(change, message):
    start = Start(EXPERIMENT, (0, 1))
    with pytest.raises(InvalidRun, match=message):
        Run(start, np.ones((4, 2)), tuple(change(*layer) for layer in start.parameters()))


def test_parameters_that_are_no_layers_are_refused():
    with pytest.raises(InvalidRun, match="parameters is a float; a tuple of .weight, bias. is expected"):
        Run(Start(EXPERIMENT, (0, 1)), np.ones((4, 2)), 1.0)
