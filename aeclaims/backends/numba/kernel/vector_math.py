"""exp, log and log1p of lanes, float32 and float64, within 3 units in the last place of libm.

tests/unit/test_vector_math.py checks this bound over all float32 numbers and over samples of float64. It also checks NaN,
infinities, zero and denormal numbers. The worst measured error is 2.5 units, for log1p.
"""

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import overload

from aeclaims.backends.numba.kernel.simd import bits, fma, from_bits, to_floats, where


def _functions(
    floating: Any, integer: Any, exp_degree: int, log_degree: int, ln2_high: float
) -> tuple[Callable[..., Any], ...]:
    """exp and log for lanes of one floating-point type; `integer` is the integer type of the same size.

    exp(x) = 2^n exp(r), with n = round(x / ln 2) and |r| <= ln(2)/2. exp(r) is Taylor's series, up to the last term above
    half a unit (r^8/8! = 5e-9 in float32, r^14/14! = 4e-18 in float64). ln 2 is split into a high and a low part; the high
    part is so short that n * high is exact (Cody and Waite 1980). The sum with 1.5 * 2^mantissa rounds to an integer,
    which the low bits hold. The factor 2^n is applied in two halves, so the result can be denormal or infinite.

    log(x) = n ln 2 + log(m), with sqrt(1/2) <= m < sqrt(2). log(m) is the series 2 (s + s^3/3 + s^5/5 + ...), with
    s = (m - 1)/(m + 1) and s^2 <= 0.0295. It ends at the last term above half a unit (s^12/13 = 5e-11 in float32,
    s^24/25 = 2e-20 in float64).
    """
    F, I = floating, integer
    info = np.finfo(F)
    mantissa, bias = int(info.nmant), int(info.maxexp) - 1
    magic, shift, bias_bits = F(1.5 * 2.0**mantissa), I(mantissa), I(bias)
    magic_bits, root_bits = magic.view(I), F(math.sqrt(0.5)).view(I)
    one, two, zero, per_ln2 = F(1), F(2), F(0), F(1 / math.log(2))
    high, low = F(ln2_high), F(math.log(2) - ln2_high) if F is np.float32 else F(1.90821492927058770002e-10)
    lowest, highest = F(-math.log(2) * (bias + mantissa + 2)), F(math.log(2) * (bias + 2))
    tiny, lift, lifted = F(info.tiny), F(2.0 ** (mantissa + 2)), F(mantissa + 2)
    infinity, nan = F(np.inf), F(np.nan)
    exp_terms = tuple(F(1 / math.factorial(k)) for k in range(exp_degree - 1, -1, -1))
    exp_last = F(1 / math.factorial(exp_degree))
    log_terms = tuple(F(2 / (2 * k + 1)) for k in range(log_degree - 1, 0, -1))
    log_last = F(2 / (2 * log_degree + 1))

    def exp(x):  # type: ignore[no-untyped-def]
        # In this form, NaN passes through.
        clamped = where(x < lowest, lowest, x)
        clamped = where(highest < clamped, highest, clamped)
        shifted = fma(clamped, per_ln2, magic)
        n = shifted - magic
        r = fma(n, -low, fma(n, -high, clamped))
        series = fma(r, exp_last, exp_terms[0])
        for term in exp_terms[1:]:
            series = fma(series, r, term)
        whole = bits(shifted) - magic_bits
        half = whole >> I(1)
        return series * from_bits((half + bias_bits) << shift) * from_bits((whole - half + bias_bits) << shift)

    def log(x):  # type: ignore[no-untyped-def]
        is_denormal = x < tiny
        normal = where(is_denormal, x * lift, x)
        exponent = (bits(normal) - root_bits) >> shift
        m = from_bits(bits(normal) - (exponent << shift))
        n = to_floats(exponent) - where(is_denormal, lifted, zero)
        s = (m - one) / (m + one)
        square = s * s
        series = fma(square, log_last, log_terms[0])
        for term in log_terms[1:]:
            series = fma(series, square, term)
        value = fma(n, high, fma(s, two, fma(n, low, series * square * s)))
        value = where(x < infinity, value, x)
        return where(zero < x, value, where(x == zero, -infinity, nan))

    return exp, log


_EXP32, _LOG32 = _functions(np.float32, np.int32, 7, 5, 0.693359375)
_EXP64, _LOG64 = _functions(np.float64, np.int64, 13, 11, 6.93147180369123816490e-01)


def exp(x: Any) -> Any:
    """e^x in each lane, inside compiled code."""
    raise NotImplementedError("lanes exist in compiled code only")


def log(x: Any) -> Any:
    """The natural logarithm of each lane, inside compiled code; log(0) is -infinity."""
    raise NotImplementedError("lanes exist in compiled code only")


@numba.njit(error_model="numpy", forceinline=True)
def log1p(x):  # type: ignore[no-untyped-def]
    """log(1 + x) in each lane, inside compiled code, for -1 <= x <= 1.

    It is log(u) + e/u; u is the rounded 1 + x, and e = x - (u - 1) is its rounding error (Goldberg 1991, theorem 4). e is
    at most half a unit of u, so an approximation of 1/u is enough. Near 1 it is 2 - u, and further away e hardly matters.
    """
    u = 1 + x
    return fma(x - (u - 1), 2 - u, log(u))


def _dispatch(name: Callable[[Any], Any], single: Any, double: Any) -> None:
    @overload(name, jit_options={"error_model": "numpy", "forceinline": True})
    def choose(x):  # type: ignore[no-untyped-def]
        return single if x.dtype == types.float32 else double


_dispatch(exp, _EXP32, _EXP64)
_dispatch(log, _LOG32, _LOG64)
