"""Formats of numbers: how far one rounding may be off, and which numbers a format holds."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Double = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Format:
    """A binary format as IEEE 754 describes it.

    bits: of its significand, the hidden one included.    least_exponent: of its normal numbers; below it, spacing stays.
    """

    name: str
    bits: int
    least_exponent: int

    @property
    def eps(self) -> float:
        """The spacing of the numbers from 1 on; rounding is off by half of that at most, relative to the number."""
        return float(2.0 ** (1 - self.bits))

    def spacing(self, values: Double) -> Double:
        """How far apart the numbers around each of `values` lie."""
        _, exponent = np.frexp(values)  # |values| in [1/2, 1) times 2^exponent
        return np.asarray(np.exp2(np.maximum(exponent - 1, self.least_exponent) - (self.bits - 1.0)))

    def nearest(self, values: Double) -> Double:
        """Each value rounded to the nearest number of the format, ties to even."""
        return np.asarray(np.rint(values / self.spacing(values)) * self.spacing(values))

    def around(self, values: Double) -> tuple[Double, Double]:
        """The numbers of the format on both sides of each value: the largest that is not above it, the least not below it."""
        scaled, spacing = values / self.spacing(values), self.spacing(values)
        return np.floor(scaled) * spacing, np.ceil(scaled) * spacing


FORMATS = {format.name: format for format in (
    Format("float64", 53, -1022), Format("float32", 24, -126), Format("bfloat16", 8, -126), Format("float16", 11, -14))}
# Formats that products are rounded to, while parameters stay in float32.
REDUCED = ("bfloat16", "float16")
