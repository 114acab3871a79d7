"""exp, log and log1p in float32 and float64 that LLVM vectorises; within 4 units of the last place of libm.

Plain Numba calls libm for each element, one after the other. The bound of 4 units (3.4 were measured, of log1p), NaN,
infinities, zero and denormal numbers are checked in tests/unit/test_vector_math.py. None of this may be compiled with
reassociation: the range reductions rely on exact rounding.
"""

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import overload

inlined = numba.njit(fastmath=False, error_model="numpy", forceinline=True)


def _functions(floating: Any, integer: Any, exp_degree: int, log_degree: int, ln2_high: float) -> tuple[Callable[..., Any], ...]:
    """exp, log and log1p of one floating type, whose bits are read as `integer`.

    exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln(2)/2: Taylor's series for exp(r), up to the last term above half
    a unit (r^8/8! = 5e-9 in float32, r^14/14! = 4e-18 in float64). ln 2 is split in two parts, the high one short
    enough that n * high is exact (Cody and Waite 1980). Adding 1.5 * 2^mantissa rounds to a whole number, which can
    then be read off the low bits. The factor 2^n is applied in two halves, so that it reaches denormals and infinity.

    log(x) = n ln 2 + log(m), sqrt(1/2) <= m < sqrt(2): the series 2 (s + s^3/3 + s^5/5 + ...) in s = (m - 1)/(m + 1),
    s^2 <= 0.0295, up to the last term above half a unit (s^12/13 = 5e-11 in float32, s^24/25 = 2e-20 in float64).

    log1p(y) = log(u) y / (u - 1), u = 1 + y rounded: the quotient undoes that rounding (Kahan; Goldberg 1991, thm 4).
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
    exp_terms = tuple(F(1 / math.factorial(k)) for k in range(exp_degree, -1, -1))
    log_terms = tuple(F(2 / (2 * k + 1)) for k in range(log_degree, 0, -1))

    @inlined
    def exp(x):  # type: ignore[no-untyped-def]
        clamped = lowest if x < lowest else x  # written so that NaN passes through
        clamped = highest if clamped > highest else clamped
        shifted = clamped * per_ln2 + magic
        n = shifted - magic
        r = (clamped - n * high) - n * low
        series = zero
        for term in exp_terms:
            series = series * r + term
        whole = I(F(shifted).view(I) - magic_bits)
        half = I(whole >> I(1))
        rest = I(whole - half)
        return series * I((half + bias_bits) << shift).view(F) * I((rest + bias_bits) << shift).view(F)

    @inlined
    def log(x):  # type: ignore[no-untyped-def]
        is_denormal = x < tiny
        normal = F(x * lift) if is_denormal else F(x)
        exponent = I(I(F(normal).view(I) - root_bits) >> shift)
        m = I(F(normal).view(I) - (exponent << shift)).view(F)
        n = F(exponent) - (lifted if is_denormal else zero)
        s = (m - one) / (m + one)
        square = s * s
        series = zero
        for term in log_terms:
            series = series * square + term
        value = n * high + ((n * low + series * square * s) + two * s)
        value = value if x < infinity else x
        return value if x > zero else (-infinity if x == zero else nan)

    @inlined
    def log1p(y):  # type: ignore[no-untyped-def]
        u = one + y
        rounded = u - one
        return log(u) * (y / rounded) if rounded != zero else y

    return exp, log, log1p


_EXP32, _LOG32, _LOG1P32 = _functions(np.float32, np.int32, 7, 5, 0.693359375)
_EXP64, _LOG64, _LOG1P64 = _functions(np.float64, np.int64, 13, 11, 6.93147180369123816490e-01)


def exp(x: Any) -> Any:
    """e^x, of x's own floating type, inside compiled code."""
    return np.exp(x)


def log(x: Any) -> Any:
    """Natural logarithm, of x's own floating type, inside compiled code; log(0) is -infinity."""
    return np.log(x)


def log1p(x: Any) -> Any:
    """log(1 + x), of x's own floating type, inside compiled code, for -1 <= x < infinity."""
    return np.log1p(x)


def _dispatch(name: Callable[[Any], Any], single: Any, double: Any) -> None:
    @overload(name, jit_options={"fastmath": False, "error_model": "numpy", "forceinline": True})
    def choose(x):  # type: ignore[no-untyped-def]
        chosen = single if x == types.float32 else double
        return lambda x: chosen(x)


_dispatch(exp, _EXP32, _EXP64)
_dispatch(log, _LOG32, _LOG64)
_dispatch(log1p, _LOG1P32, _LOG1P64)
