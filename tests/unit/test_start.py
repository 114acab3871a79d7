"""A seed is the same replica everywhere: alone or in a crowd, in float32 or float64."""

import dataclasses

import numpy as np
import pytest

from aeclaims import Adam, Bernoulli, Beta, Experiment, Given, Redundant, Start, Uniform, affine

BASE = Experiment(rows=Uniform(features=3), model=affine(3, 2, 3), loss="mse", optimizer=Adam(), epochs=2, n_rows=100,
                  batch_size=10)
SPECS = [Uniform(features=3), Bernoulli(0.3, features=3), Beta(0.5, 2, features=3), Redundant(2, features=3),
         Given(np.linspace(0, 1, 300).reshape(100, 3))]


@pytest.mark.parametrize("rows", SPECS, ids=lambda spec: type(spec).__name__)
def test_a_seed_draws_the_same_alone_and_in_a_crowd(rows):
    experiment = dataclasses.replace(BASE, rows=rows)
    crowd, alone = Start(experiment, (9, 4, 7)), Start(experiment, (4,))
    own = 0 if crowd.has_shared_rows else 1
    np.testing.assert_array_equal(crowd.rows()[own], alone.rows()[0])
    for together, single in zip(crowd.parameters(), alone.parameters(), strict=True):
        np.testing.assert_array_equal(together.weight[1], single.weight[0])
        np.testing.assert_array_equal(together.bias[1], single.bias[0])
    order, own_order = crowd.order(1), alone.order(1)
    np.testing.assert_array_equal(order[1] if crowd.has_shared_rows else order,
                                  own_order[0] if alone.has_shared_rows else own_order)


def test_a_float64_start_is_the_float32_start_in_double_precision():
    single, double = Start(BASE, (1, 2)), Start(BASE, (1, 2), np.dtype(np.float64))
    np.testing.assert_array_equal(single.rows().astype(np.float64), double.rows())
    for a, b in zip(single.parameters(), double.parameters(), strict=True):
        np.testing.assert_array_equal(a.weight.astype(np.float64), b.weight)


def test_an_order_visits_every_row_once_and_anew_in_each_epoch():
    start = Start(BASE, (1, 2))
    assert sorted(start.order(0)) == list(range(100))
    assert not np.array_equal(start.order(0), start.order(1))


@pytest.mark.parametrize(("rows", "shape"), [(SPECS[0], (100,)), (SPECS[-1], (2, 100))], ids=["own rows", "shared rows"])
def test_a_minibatch_of_all_rows_holds_them_in_order(rows, shape):
    order = Start(dataclasses.replace(BASE, rows=rows, batch_size=100), (1, 2)).order(1)
    np.testing.assert_array_equal(order, np.broadcast_to(np.arange(100), shape))


def test_seeds_that_share_rows_visit_them_in_orders_of_their_own():
    order = Start(dataclasses.replace(BASE, rows=SPECS[-1]), (1, 2)).order(0)
    assert order.shape == (2, 100)
    assert not np.array_equal(order[0], order[1])


def test_seeds_differ_and_rows_do_not_change_with_the_model():
    start = Start(BASE, (1, 2))
    assert not np.array_equal(start.rows()[0], start.rows()[1])
    other = Start(dataclasses.replace(BASE, model=affine(3, 3, 3), optimizer=Adam(lr=1)), (1, 2))
    np.testing.assert_array_equal(start.rows(), other.rows())


def test_the_initialisations_have_their_bounds():
    wide = dataclasses.replace(BASE, model=affine(3, 400, 3))
    weight, bias = Start(wide, (0,)).parameters()[0]
    assert 0.99 / np.sqrt(3) < np.abs(weight).max() <= np.float32(1 / np.sqrt(3))
    assert 0.95 / np.sqrt(3) < np.abs(bias).max() <= np.float32(1 / np.sqrt(3))
    weight, bias = Start(dataclasses.replace(wide, initialisation="glorot"), (0,)).parameters()[0]
    assert 0.99 * np.sqrt(6 / 403) < np.abs(weight).max() <= np.float32(np.sqrt(6 / 403))
    assert not bias.any()


def test_redundant_rows_have_their_rank_and_repeat_their_columns():
    rows = Start(dataclasses.replace(BASE, rows=Redundant(2, features=3)), (5,)).rows()[0]
    assert np.linalg.matrix_rank(rows) == 2
    np.testing.assert_array_equal(rows[:, 0], rows[:, 2])


def test_the_start_of_seed_0_is_what_it_was():
    # A change of these numbers changes every figure that was ever published for a seed.
    start = Start(BASE, (0,))
    np.testing.assert_allclose(start.rows()[0, 0], [0.802237868309021, 0.9429374933242798, 0.005482971668243408], rtol=0, atol=0)
    np.testing.assert_allclose(start.parameters()[0].bias[0], [-0.5485524535179138, -0.08879668265581131], rtol=0, atol=0)
    assert start.order(0)[:4].tolist() == [64, 97, 36, 56]


def test_initial_parameters_are_the_callers_own():
    start = Start(BASE, (0, 1))
    start.parameters()[0].weight[:] = 7
    assert (np.abs(start.parameters()[0].weight) < 1).all()
