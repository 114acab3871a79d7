"""exp, log and log1p are within 4 units of the last place of libm, and pass NaN, infinity, zero and denormals on."""

import numba
import numpy as np
import pytest

from aeclaims.backends import vector_math

FUNCTIONS = {"exp": vector_math.exp, "log": vector_math.log, "log1p": vector_math.log1p}


@numba.njit(error_model="numpy")
def _exp(x, y):
    for i in range(x.size):
        y[i] = vector_math.exp(x[i])


@numba.njit(error_model="numpy")
def _log(x, y):
    for i in range(x.size):
        y[i] = vector_math.log(x[i])


@numba.njit(error_model="numpy")
def _log1p(x, y):
    for i in range(x.size):
        y[i] = vector_math.log1p(x[i])


APPLY = {"exp": _exp, "log": _log, "log1p": _log1p}


def apply(name, values, dtype):
    x = np.asarray(values, dtype)
    y = np.empty_like(x)
    APPLY[name](x, y)
    return x, y


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_error_is_below_4_units_of_the_last_place(name, dtype):
    random, info = np.random.default_rng(0), np.finfo(dtype)
    size = 200_000
    arguments = {
        "exp": random.uniform(np.log(info.tiny) + 1, np.log(info.max) - 1, size),
        "log": np.concatenate([np.exp(random.uniform(np.log(info.tiny), np.log(info.max) - 1, size)),
                               random.uniform(0.5, 2, size)]),
        "log1p": np.concatenate([-np.exp(random.uniform(-60, -1e-4, size)), np.exp(random.uniform(-60, 3, size))]),
    }[name]
    x, y = apply(name, arguments, dtype)
    exact = getattr(np, name)(x.astype(np.longdouble))
    unit = np.spacing(np.abs(exact).astype(dtype)).astype(np.longdouble)
    assert np.max(np.abs(y - exact) / unit) < 4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_at_the_edge(dtype):
    tiny = float(np.finfo(dtype).smallest_subnormal)
    edge = [np.nan, np.inf, -np.inf, 0.0, tiny, 1.0, -1.0, 1e4, -1e4]
    with np.errstate(all="ignore"):
        for name in ("exp", "log"):
            x, y = apply(name, edge, dtype)
            np.testing.assert_allclose(y, getattr(np, name)(x), rtol=1e-6)
        x, y = apply("log1p", [np.nan, 0.0, tiny, -1.0, 1.0], dtype)
        np.testing.assert_allclose(y, np.log1p(x), rtol=1e-6)
