"""Formats of numbers: how far one rounding may be off, which numbers a format holds, and what rounded constants do."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aeclaims.experiment import SGD, Adam

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


FORMATS = {
    format.name: format
    for format in (
        Format("float64", 53, -1022),
        Format("float32", 24, -126),
        Format("bfloat16", 8, -126),
        Format("float16", 11, -14),
    )
}
# Formats that products are rounded to, while parameters stay in float32.
REDUCED = ("bfloat16", "float16")


def clock_error(optimizer: Adam | SGD, dtype: np.dtype[Any], losses: Double) -> Double:
    """How far epoch losses, (E, S), may be off, relative, because one stack rounds Adam's betas to the dtype, another does not.

    With decay fl(beta2) and weight 1 - beta2 the second moment settles at (1 - beta2) / (1 - fl(beta2)) of the squared gradient.
    Steps are then off by d = |fl(beta2) - beta2| / (2 (1 - beta2)) + |fl(beta1) - beta1| / (1 - beta1), relative: 6.7e-6 in
    float32. A run is ahead by d t, and its loss off by d t |d ln L / dt|. A fused optimizer of torch 2.11 on one H200 keeps the
    betas in double precision: it left the path of linear-mse by 1.5e-3 at epoch 577, for which this grants 1.3e-3.
    """
    if not isinstance(optimizer, Adam) or len(losses) < 2:
        return np.zeros_like(losses)
    beta1, beta2 = (abs(float(dtype.type(beta)) - beta) / (1 - beta) for beta in optimizer.betas)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.abs(np.gradient(np.log(losses), axis=0))
    return np.asarray(
        (beta1 + beta2 / 2) * np.arange(1, len(losses) + 1)[:, None] * np.nan_to_num(slope, nan=0.0, posinf=0.0)
    )
