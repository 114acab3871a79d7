"""A seed's run does not depend on its population."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aeclaims import train
from tests.properties.test_agreement import assert_same, experiments

SEEDS = st.lists(st.integers(0, 2**32), min_size=2, max_size=6, unique=True)


@pytest.mark.parametrize("backend", ["numba", "oracle"])
@settings(deadline=None)
@given(experiment=experiments(steps=20), seeds=SEEDS)
def test_a_seed_alone_is_itself_in_a_crowd_bit_for_bit(backend, experiment, seeds):
    crowd = train(experiment, seeds=seeds, backend=backend)
    for seed in seeds[:2]:
        alone, part = train(experiment, seeds=[seed], backend=backend), crowd.select((seed,))
        np.testing.assert_array_equal(alone.epoch_loss, part.epoch_loss)
        for a, b in zip(alone.parameters, part.parameters, strict=True):
            np.testing.assert_array_equal(a.weight, b.weight)
            np.testing.assert_array_equal(a.bias, b.bias)


@settings(deadline=None)
@given(experiments(steps=20), st.integers(0, 2**31), st.integers(9, 40), st.sampled_from(["float32", "float64"]))
def test_seeds_side_by_side_in_lanes_are_themselves_alone_bit_for_bit(experiment, first, count, dtype):
    crowd = train(experiment, seeds=range(first, first + count), backend="numba", dtype=dtype)
    for seed in (first, first + count // 2, first + count - 1):
        alone, part = train(experiment, seeds=[seed], backend="numba", dtype=dtype), crowd.select((seed,))
        np.testing.assert_array_equal(alone.epoch_loss, part.epoch_loss)
        for a, b in zip(alone.parameters, part.parameters, strict=True):
            np.testing.assert_array_equal(a.weight, b.weight)
            np.testing.assert_array_equal(a.bias, b.bias)


@settings(deadline=None)
@given(experiments(steps=20), SEEDS)
def test_a_permuted_population_gives_permuted_runs(experiment, seeds):
    forth = train(experiment, seeds=seeds, backend="numba")
    back = train(experiment, seeds=seeds[::-1], backend="numba")
    np.testing.assert_array_equal(forth.epoch_loss, back.epoch_loss[:, ::-1])


@pytest.mark.parametrize("backend", ["torch-eager", "torch-loop"])
@settings(deadline=None, max_examples=15)
@given(experiment=experiments(steps=20), seeds=SEEDS)
def test_on_torch_a_seed_alone_is_itself_in_a_crowd(backend, experiment, seeds):
    # Batched and single products may sum in different orders, so they are equal up to rounding in float64.
    crowd = train(experiment, seeds=seeds, backend=backend, dtype="float64")
    assert_same(train(experiment, seeds=seeds[:1], backend=backend, dtype="float64"), crowd.select((seeds[0],)), 1e-9)
