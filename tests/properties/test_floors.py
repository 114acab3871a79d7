"""Floors hold for any rows and any parameters."""

import numpy as np
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aeclaims.theory import floors

UNIT = st.floats(0, 1, allow_subnormal=False)
ROWS = st.tuples(st.integers(1, 12), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float64, (1, *shape), elements=UNIT)
)
# With distinct values, the Hessian has no direction in which no row differs.
NUMBERS = st.floats(-30, 30, allow_subnormal=False)


def log_loss(logits, targets):
    return float(np.mean(np.logaddexp(0, logits) - targets * logits))


@settings(deadline=None)
@given(ROWS, st.data())
def test_no_prediction_gets_below_the_entropy(rows, data):
    logits = data.draw(arrays(np.float64, rows.shape, elements=NUMBERS))
    assert log_loss(logits, rows) >= floors.entropy(rows)[0] - 1e-12


@settings(deadline=None)
@given(ROWS)
def test_a_prediction_that_is_the_row_costs_its_entropy(rows):
    inside = np.clip(rows, 1e-9, 1 - 1e-9)
    assert abs(log_loss(scipy.special.logit(inside), inside) - floors.entropy(inside)[0]) < 1e-8


@settings(deadline=None)
@given(ROWS, st.data())
def test_no_affine_model_with_a_sigmoid_gets_below_the_class_floor(rows, data):
    features = rows.shape[2]
    weight = data.draw(arrays(np.float64, (features, features), elements=NUMBERS))
    bias = data.draw(arrays(np.float64, (features,), elements=NUMBERS))
    floor = floors.class_floor(rows)[0]
    assert log_loss(rows[0] @ weight.T + bias, rows[0]) >= floor - 1e-9
    assert floor >= floors.entropy(rows)[0] - 1e-9


@settings(deadline=None)
@given(ROWS, st.integers(1, 4), st.data())
def test_no_affine_autoencoder_gets_below_the_bottleneck_floor(rows, code, data):
    features = rows.shape[2]
    encoder = data.draw(arrays(np.float64, (features, code), elements=st.floats(-3, 3)))
    # The best decoder for that encoder, with a bias: least squares.
    codes = np.column_stack([rows[0] @ encoder, np.ones(rows.shape[1])])
    decoder = np.linalg.lstsq(codes, rows[0], rcond=None)[0]
    floor = floors.bottleneck_floor(rows, code)[0]
    assert np.mean((codes @ decoder - rows[0]) ** 2) >= floor - 1e-12


@settings(deadline=None)
@given(ROWS, st.integers(1, 4), st.permutations(range(4)))
def test_floors_do_not_depend_on_the_order_of_the_features(rows, code, order):
    order = [feature for feature in order if feature < rows.shape[2]]
    turned = rows[:, :, order]
    assert np.isclose(floors.entropy(rows), floors.entropy(turned), atol=1e-12).all()
    assert np.isclose(floors.class_floor(rows), floors.class_floor(turned), atol=1e-8).all()
    assert np.isclose(floors.bottleneck_floor(rows, code), floors.bottleneck_floor(turned, code), atol=1e-12).all()


@settings(deadline=None)
@given(ROWS, st.integers(1, 4), UNIT)
def test_a_constant_column_changes_a_bottleneck_floor_only_by_its_share(rows, code, constant):
    features = rows.shape[2]
    wider = np.concatenate([rows, np.full((*rows.shape[:2], 1), constant)], axis=2)
    expected = floors.bottleneck_floor(rows, code) * features / (features + 1)
    assert np.isclose(floors.bottleneck_floor(wider, code), expected, atol=1e-12).all()
