"""A seed is the same replica everywhere: alone or in a population, in float32 or float64."""

import dataclasses

import numpy as np
import pytest

from aeclaims import Adam, Bernoulli, Beta, Experiment, FixedRows, InvalidExperiment, Redundant, Start, Uniform, affine
from aeclaims.start import checked

BASE = Experiment(
    rows=Uniform(features=3), model=affine(3, 2, 3), loss="mse", optimizer=Adam(), epochs=2, n_rows=100, batch_size=10
)
SPECS = [
    Uniform(features=3),
    Bernoulli(0.3, features=3),
    Beta(0.5, 2, features=3),
    Redundant(2, features=3),
    FixedRows(np.linspace(0, 1, 300).reshape(100, 3)),
]


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
    np.testing.assert_array_equal(
        order[1] if crowd.has_shared_rows else order, own_order[0] if alone.has_shared_rows else own_order
    )


@pytest.mark.parametrize("rows", SPECS[:-1], ids=lambda spec: type(spec).__name__)
def test_a_float64_start_is_the_float32_start_in_double_precision(rows):
    experiment = dataclasses.replace(BASE, rows=rows)
    single, double = Start(experiment, (1, 2)), Start(experiment, (1, 2), np.dtype(np.float64))
    np.testing.assert_array_equal(single.rows().astype(np.float64), double.rows())
    for a, b in zip(single.parameters(), double.parameters(), strict=True):
        np.testing.assert_array_equal(a.weight.astype(np.float64), b.weight)


def test_an_order_visits_every_row_once_and_anew_in_each_epoch():
    start = Start(BASE, (1, 2))
    assert sorted(start.order(0)) == list(range(100))
    assert not np.array_equal(start.order(0), start.order(1))


@pytest.mark.parametrize(
    ("rows", "shape"), [(SPECS[0], (100,)), (SPECS[-1], (2, 100))], ids=["own rows", "shared rows"]
)
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
    # If these numbers change, every published figure for a seed changes.
    start = Start(BASE, (0,))
    np.testing.assert_allclose(
        start.rows()[0, 0], [0.802237868309021, 0.9429374933242798, 0.005482971668243408], rtol=0, atol=0
    )
    np.testing.assert_allclose(
        start.parameters()[0].bias[0], [-0.5485524535179138, -0.08879668265581131], rtol=0, atol=0
    )
    assert start.order(0)[:4].tolist() == [64, 97, 36, 56]
    assert start.order(1)[:4].tolist() == [26, 54, 69, 63]
    shared = Start(dataclasses.replace(BASE, rows=SPECS[-1]), (0, 3)).order(0)
    assert shared[:, :4].tolist() == [[64, 97, 36, 56], [97, 92, 74, 7]]


@pytest.mark.parametrize(("rows", "first"), [
    (SPECS[1], [0, 0, 0, 1, 0, 0]),
    (SPECS[2], [0.4722078740596771, 0.05692583695054054, 0.07558519393205643]),
    (SPECS[3], [2.1309709548950195, 3.4456377029418945, 2.1309709548950195, -0.009256488643586636]),
])  # fmt: skip
def test_the_rows_of_seed_0_are_what_they_were(rows, first):
    drawn = Start(dataclasses.replace(BASE, rows=rows), (0,)).rows()
    assert drawn.dtype == np.float32
    np.testing.assert_allclose(drawn.ravel()[: len(first)], first, rtol=0, atol=0)


@pytest.mark.parametrize(("initialisation", "second"), [
    ("pytorch", [-0.007165806833654642, 0.4574891924858093, 0.13788552582263947]),
    ("glorot", [-1.0408051013946533, -0.16847987473011017, 0]),
])  # fmt: skip
def test_the_second_layer_of_seed_0_is_what_it_was(initialisation, second):
    layer = Start(dataclasses.replace(BASE, initialisation=initialisation), (0,)).parameters()[1]
    np.testing.assert_allclose([*layer.weight.ravel()[:2], layer.bias[0, 0]], second, rtol=0, atol=0)
    assert (layer.weight.dtype, layer.bias.dtype) == (np.float32, np.float32)


def test_a_start_holds_a_tuple_of_seeds_and_a_dtype_whatever_it_was_given():
    start = Start(BASE, range(2, 4), "float64")
    assert (start.seeds, start.dtype) == ((2, 3), np.dtype(np.float64))
    assert isinstance(start.dtype, np.dtype)


def test_initial_parameters_are_the_callers_own():
    start = Start(BASE, (0, 1))
    start.parameters()[0].weight[:] = 7
    assert (np.abs(start.parameters()[0].weight) < 1).all()


@pytest.mark.parametrize("rows", SPECS, ids=lambda spec: type(spec).__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_are_of_the_dtype_and_cannot_be_written_to(rows, dtype):
    drawn = Start(dataclasses.replace(BASE, rows=rows), (0, 1), np.dtype(dtype)).rows()
    assert drawn.dtype == dtype
    assert drawn.shape[1:] == (100, 3)
    with pytest.raises(ValueError, match="read-only"):
        drawn[0, 0, 0] = 1


@pytest.mark.parametrize("rows", [SPECS[0], SPECS[-1]], ids=["own rows", "shared rows"])
@pytest.mark.parametrize("batch_size", [10, 100, 1000])
def test_an_order_is_of_the_type_that_the_compiled_loop_takes(rows, batch_size):
    order = Start(dataclasses.replace(BASE, rows=rows, batch_size=batch_size), (1, 2)).order(0)
    assert order.dtype == np.uint32
    assert sorted(order.reshape(-1, 100)[0]) == list(range(100))


@pytest.mark.parametrize(("dtype", "stored", "products"), [
    ("float32", "float32", ""), ("float64", "float64", ""),
    ("float16", "float32", "float16"), ("bfloat16", "float32", "bfloat16"),
])  # fmt: skip
def test_a_reduced_format_is_that_of_products_and_all_else_stays_float32(dtype, stored, products):
    start = checked(BASE, [3, 4], dtype)
    assert (start.dtype.name, start.products, start.format.name) == (stored, products, dtype)
    assert (start.experiment, start.seeds) == (BASE, (3, 4))


@pytest.mark.parametrize(("call", "sentence"), [
    (lambda: Start(BASE, ()), "seeds = (): give at least one seed, such as range(64)"),
    (lambda: Start(BASE, 7), "seeds = 7: give whole numbers, such as range(64)"),
    (lambda: Start(BASE, (0, -1)), "seeds = -1: a seed is a whole number of at least 0"),
    (lambda: Start(BASE, (1, 2, 1)), "seeds = 1: this seed repeats: give each seed once"),
    (lambda: Start(BASE, (0,), "int8"), "dtype = 'int8': give one of float64, float32, bfloat16, float16"),
    (lambda: Start(BASE, (0,), "float99"), "dtype = 'float99': give one of float64, float32, bfloat16, float16"),
    (lambda: Start(BASE, (0,), products="float8"), "products = 'float8': give one of bfloat16, float16, or leave it empty"),
])  # fmt: skip
def test_a_start_that_cannot_be_is_refused_in_one_sentence(call, sentence):
    with pytest.raises(InvalidExperiment) as raised:
        call()
    assert str(raised.value) == sentence
