"""Floors equal the values of theory and of brute force."""

import math

import numpy as np
import pytest
import scipy

from aeclaims import TANH, Adam, Bernoulli, Beta, Experiment, FixedRows, Run, Start, Uniform, affine, mlp
from aeclaims.dtypes import FORMATS
from aeclaims.theory import floors


def rows_of(spec, seeds=(0, 1, 2), n_rows=2000):
    features = spec.features
    return Start(
        Experiment(rows=spec, model=affine(features, features), loss="mse", optimizer=Adam(), epochs=1, n_rows=n_rows),
        seeds,
    ).rows()


def test_entropy_of_known_values():
    x = np.array([[[0.0, 1.0], [0.5, 0.5]]])
    np.testing.assert_allclose(floors.entropy(x), [math.log(2) / 2])
    np.testing.assert_allclose(floors.row_entropy(x), [[0, math.log(2)]])


@pytest.mark.parametrize("bad", [-1e-9, 1.1, math.nan])
def test_entropy_refuses_what_is_no_target_and_says_where(bad):
    x = np.full((2, 3, 2), 0.5)
    x[1, 2, 0] = bad
    with pytest.raises(floors.OutOfRange) as raised:
        floors.entropy(x)
    assert str(raised.value) == (
        f"rows[seed 1, row 2, feature 0] = {bad}: entropy is defined for targets in [0, 1]; "
        "rescale them, or use MSE, which has floor 0"
    )
    with pytest.raises(floors.OutOfRange, match="seed 1, row 2, feature 0"):
        floors.class_floor(x)


@pytest.mark.parametrize(
    "spec", [Uniform(features=2), Bernoulli(0.2, features=2), Beta(0.3, 2, features=2), Beta(4, 4, features=2)]
)
def test_the_expected_entropy_is_what_rows_have(spec):
    seen = floors.entropy(rows_of(spec, seeds=tuple(range(20))))
    # Mean of 20 seeds, five standard errors.
    assert abs(seen.mean() - floors.expected_entropy(spec)) <= 5 * seen.std(ddof=1) / math.sqrt(20) + 1e-12


def test_the_class_floor_of_uniform_rows_is_0_504947_at_slope_5_1994():
    # One feature: minimise E[softplus(z) - x z] with z = w (x - 1/2) over w, by quadrature.
    def expected(w):
        return scipy.integrate.quad(lambda x: np.logaddexp(0, w * (x - 0.5)) - x * w * (x - 0.5), 0, 1)[0]

    best = scipy.optimize.minimize_scalar(expected, bounds=(1, 20), method="bounded", options={"xatol": 1e-9})
    assert best.fun == pytest.approx(0.504947, abs=5e-7)
    assert best.x == pytest.approx(5.1994, abs=5e-4)
    grid = (np.arange(20_000) + 0.5)[None, :, None] / 20_000
    assert floors.class_floor(grid)[0] == pytest.approx(best.fun, abs=1e-7)


def test_the_class_floor_is_where_a_general_minimiser_ends():
    rows = rows_of(Beta(0.7, 1.5, features=3), seeds=(3,), n_rows=200).astype(float)[0]
    design = np.column_stack([rows, np.ones(len(rows))])

    def loss(flat):
        z = design @ flat.reshape(4, 3)
        return np.mean(np.logaddexp(0, z) - rows * z), (design.T @ (scipy.special.expit(z) - rows) / rows.size).ravel()

    found = scipy.optimize.minimize(loss, np.zeros(12), jac=True, method="BFGS", options={"gtol": 1e-10})
    assert floors.class_floor(rows[None])[0] == pytest.approx(found.fun, abs=1e-9)


def test_the_class_floor_of_binary_rows_is_zero_and_of_constant_rows_their_entropy():
    assert floors.class_floor(rows_of(Bernoulli(0.5, features=2))).tolist() == [0, 0, 0]
    constant = np.full((1, 50, 2), 0.3)
    assert floors.class_floor(constant)[0] == pytest.approx(floors.entropy(constant)[0], abs=1e-12)


def test_the_bottleneck_floor_is_the_sum_of_the_small_eigenvalues():
    rows = rows_of(Beta(2, 1, features=4))
    for code in (1, 2, 3, 4, 5):
        for seed, own in enumerate(rows.astype(float)):
            eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(own.T, bias=True)))
            assert floors.bottleneck_floor(rows, code)[seed] == pytest.approx(
                eigenvalues[: max(0, 4 - code)].sum() / 4, abs=1e-12
            )
    with pytest.raises(ValueError, match="bottleneck = 0"):
        floors.bottleneck_floor(rows, 0)


@pytest.mark.parametrize("is_shared", [False, True])
def test_an_epochs_floor_weighs_rows_as_the_epoch_loss_does(is_shared):
    rows = FixedRows(np.random.default_rng(1).random((50, 2))) if is_shared else Uniform(features=2)
    start = Start(
        Experiment(rows=rows, model=affine(2, 2), loss="mse", optimizer=Adam(), epochs=3, n_rows=50, batch_size=16),
        (4, 5),
    )
    seen = floors.epoch_entropy(start)
    own = floors.row_entropy(start.rows())
    for epoch in range(3):
        for seed in range(2):
            order = start.order(epoch)[seed] if is_shared else start.order(epoch)
            values = own[0 if is_shared else seed][order]
            minibatches = [values[begin : begin + 16].mean() for begin in range(0, 50, 16)]
            assert seen[epoch, seed] == pytest.approx(np.mean(minibatches), abs=1e-14)
    with pytest.raises(ValueError, match="read-only"):  # it is cached for the next caller
        seen[0] = 0


@pytest.mark.parametrize("mean", [0.01, 0.2, 0.45, 0.49999, 0.5, 0.500001, 0.7, 0.999])
def test_the_continuous_bernoulli_is_torchs(mean):
    import torch

    def cost(logit):
        law = torch.distributions.ContinuousBernoulli(
            logits=torch.tensor(logit, dtype=torch.float64), validate_args=False
        )
        return -law.log_prob(torch.tensor(mean, dtype=torch.float64)).item()

    best = scipy.optimize.minimize_scalar(cost, bounds=(-30, 30), method="bounded", options={"xatol": 1e-9}).fun
    if 0.05 < mean < 0.95:  # torch clamps its probabilities beyond
        assert float(floors.continuous_bernoulli(mean)) == pytest.approx(best, abs=1e-8)
    # The best constant is the density's mean. The floor is its differential entropy, by quadrature, at most 0 on [0, 1].
    assert float(floors.continuous_bernoulli(mean)) <= 1e-12
    assert floors.continuous_bernoulli([[1 - mean], [mean]]) == pytest.approx(
        np.full((2, 1), floors.continuous_bernoulli(mean))
    )
    assert floors.continuous_bernoulli([0.0, 1.0]).tolist() == [-math.inf, -math.inf]


def test_a_spectrum_of_fewer_rows_than_features_is_that_of_the_covariance():
    rows = np.random.default_rng(3).random((1, 5, 12))
    expected = np.linalg.eigvalsh(np.cov(rows[0].T, bias=True))[::-1].clip(0)
    np.testing.assert_allclose(floors.spectrum(rows)[0], expected, atol=1e-12)


def test_no_eigenvalue_of_a_spectrum_is_below_zero():
    rows = np.random.default_rng(0).random((8, 50, 1)) * np.arange(
        1, 5
    )  # of rank 1, so three of four eigenvalues are rounding errors
    found = floors.spectrum(rows)
    assert (found >= 0).all()
    assert (found[:, 1:] < 1e-12).all()


@pytest.mark.parametrize(
    ("classes", "smoothing"), [(3, 0.9), (10, 0.0), (5, 0.5), (4, 1.0), (2, 0.5), (2, 0.6), (20, 0.88)]
)
def test_the_floor_of_two_softmaxes_is_what_a_minimiser_finds(classes, smoothing):
    target = np.full(classes, smoothing / classes)
    target[0] += 1 - smoothing

    def loss(logits):
        z = scipy.special.softmax(logits)
        return scipy.special.logsumexp(z) - target @ z

    found = min(scipy.optimize.minimize(loss, start).fun for start in (np.eye(classes)[0], 40 * np.eye(classes)[0]))
    assert floors.softmax_twice_floor(classes, smoothing) == pytest.approx(found, abs=1e-8)
    assert floors.softmax_twice_floor(10) == pytest.approx(1.4612, abs=5e-5)


@pytest.mark.parametrize(
    ("loss", "low", "high"), [("mse", 0.25, math.inf), ("mse", -1, 0.5), ("bce", 0.5, 0.7311), ("bce", 0.1, 0.6)]
)
def test_the_range_floor_is_the_least_that_a_prediction_within_the_range_costs(loss, low, high):
    rows = np.random.default_rng(5).random((2, 6, 3))
    rows[0, 0] = 0, 1, 0.3
    predicted = np.linspace(low, min(high, 2), 100_001)[:, None, None]
    for seed, x in enumerate(rows):
        costs = (x - predicted) ** 2 if loss == "mse" else -x * np.log(predicted) - (1 - x) * np.log(1 - predicted)
        assert floors.range_floor(rows, loss, low, high)[seed] == pytest.approx(costs.min(axis=0).mean(), abs=1e-8)


def test_the_entropy_over_classes_is_that_of_each_rows_own_distribution():
    targets = np.array([[[1.0, 0, 0, 0], [0.5, 0.5, 0, 0]], [[0.25, 0.25, 0.25, 0.25], [0, 0, 0, 1]]])
    np.testing.assert_allclose(floors.row_class_entropy(targets), [[0, math.log(2)], [math.log(4), 0]])


@pytest.mark.parametrize(("classes", "smoothing"), [(1000, 0.1), (5, 0.5), (3, 0.0)])
def test_the_smoothing_floor_is_the_entropy_of_a_smoothed_label(classes, smoothing):
    target = np.full(classes, smoothing / classes)
    target[0] += 1 - smoothing
    assert floors.smoothing_floor(classes, smoothing) == pytest.approx(scipy.stats.entropy(target), rel=1e-12)


def test_rounding_is_32_unit_round_offs_of_the_loss():
    assert floors.rounding(np.float32) == 32 * 2.0**-24
    assert floors.rounding(np.float64, 3.0) == 3 * 32 * 2.0**-53


def test_what_roundings_come_to_adds_up_over_operands_and_results_layer_by_layer():
    start = Start(
        Experiment(
            rows=Uniform(features=2),
            model=mlp(2, 3, 2, hidden=TANH),
            loss="mse",
            optimizer=Adam(),
            epochs=1,
            n_rows=7,
        ),
        (4, 9),
        products="float16",
    )

    def variance(value):
        return float(FORMATS["float16"].spacing(np.float64(value))) ** 2 / 12

    for seed, found in enumerate(floors.rounding_mse(Run(start, np.zeros((1, 2)), start.parameters()))):
        spreads = []
        for row in start.rows()[seed].astype(float):
            inputs = [(x, variance(x)) for x in row]
            for (weight, bias), is_last in zip(start.parameters(), (False, True), strict=True):
                outputs = []
                for w, b in zip(weight[seed].astype(float), bias[seed].astype(float), strict=True):
                    z = b + sum(x * own for (x, _), own in zip(inputs, w, strict=True))
                    spread = (
                        variance(b)
                        + variance(z)
                        + sum(v * own**2 + x**2 * variance(own) for (x, v), own in zip(inputs, w, strict=True))
                    )
                    outputs.append((z if is_last else math.tanh(z), spread))
                inputs = outputs
            spreads += [spread for _, spread in inputs]
        assert found == pytest.approx(np.mean(spreads), rel=1e-12)
