"""exp, log and log1p of lanes are within 3 units in the last place of libm, and handle NaN, infinity, zero and denormals."""

from functools import cache

import numpy as np
import pytest

BOUND = 3  # measured over every float32: 0.94 for exp, 1.97 for log, 2.48 for log1p
EXACT = {"exp": np.exp, "log": np.log, "log1p": np.log1p}


@cache
def over_arrays(name):
    """A compiled function that applies the named function to an array."""
    import numba

    from aeclaims.backends.numba.kernel import vector_math
    from aeclaims.backends.numba.kernel.simd import lanes_of, load, numbers, store

    function = getattr(vector_math, name)

    @numba.njit(error_model="numpy")
    def apply(x, y):
        for at in range(0, x.size, lanes_of(x)):
            store(numbers(y), at, function(load(numbers(x), at)))

    return apply


def apply(name, values, dtype):
    """The arguments, padded to whole vectors, and the results of the function."""
    x = np.asarray(values, dtype)
    x = np.concatenate([x, np.ones(-x.size % 16, dtype)])
    y = np.empty_like(x)
    over_arrays(name)(x, y)
    return x, y


def worst_error(name, x, y):
    """The worst error of finite results, in units in the last place; other results must be equal."""
    wide = np.float64 if x.dtype == np.float32 else np.longdouble
    with np.errstate(all="ignore"):
        exact = EXACT[name](x.astype(wide))
        rounded = exact.astype(x.dtype)
        finite = np.isfinite(rounded)
        np.testing.assert_array_equal(y[~finite], rounded[~finite])
        return np.max(np.abs(y - exact)[finite] / np.spacing(np.abs(rounded[finite])).astype(wide), initial=0)


def float32_by_bits(begin, step):
    """Every `step`-th float32, in the order of its bits."""
    return np.arange(begin, 2**32, step, dtype=np.uint64).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("name", EXACT)
def test_the_error_is_below_3_units_over_the_whole_range_of_float32(name):
    # Each sign and exponent, and one mantissa in 509, which is a prime, so that all low bits occur.
    values = float32_by_bits(0, 509)
    if name == "log1p":
        values = values[np.abs(values) <= 1]
    assert worst_error(name, *apply(name, values, np.float32)) < BOUND


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_the_error_is_below_3_units_at_every_float32(name):
    for begin in range(256):
        values = float32_by_bits(begin, 256)
        if name == "log1p":
            values = values[np.abs(values) <= 1]
        assert worst_error(name, *apply(name, values, np.float32)) < BOUND


@pytest.mark.parametrize("name", EXACT)
def test_the_error_is_below_3_units_over_samples_of_float64(name):
    random, info, size = np.random.default_rng(0), np.finfo(np.float64), 200_000
    arguments = {
        "exp": random.uniform(np.log(info.tiny) + 1, np.log(info.max) - 1, size),
        "log": np.concatenate(
            [np.exp(random.uniform(np.log(info.tiny), np.log(info.max) - 1, size)), random.uniform(0.5, 2, size)]
        ),
        "log1p": np.concatenate([-np.exp(random.uniform(-60, -1e-4, size)), np.exp(random.uniform(-60, 0, size))]),
    }[name]
    assert worst_error(name, *apply(name, arguments, np.float64)) < BOUND


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_at_the_edge(dtype):
    tiny = float(np.finfo(dtype).smallest_subnormal)
    edge = [np.nan, np.inf, -np.inf, 0.0, tiny, 1.0, -1.0, 1e4, -1e4]
    with np.errstate(all="ignore"):
        for name in ("exp", "log"):
            x, y = apply(name, edge, dtype)
            np.testing.assert_allclose(y, EXACT[name](x), rtol=1e-6)
        x, y = apply("log1p", [np.nan, 0.0, tiny, -1.0, 1.0], dtype)
        np.testing.assert_allclose(y, np.log1p(x), rtol=1e-6)
