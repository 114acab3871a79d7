"""What theory has to know of rows that may not fit into memory, in two passes over them; of very many, over a sample."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from aeclaims.theory import floors

Double = npt.NDArray[np.float64]
Numbers = npt.NDArray[Any]

# Numbers that are looked at, 2 s on one core; of more rows than that a sample is drawn, with a fixed seed.
MOST_NUMBERS = 50_000_000
# The sum of the squares of larger ones is no number.
LARGEST = 1e140
# Numbers in memory at once, in double precision.
CHUNK = 2_000_000
# Multiplications that the covariance may take, 2 s on two cores; of more rows than that it takes some.
MOST_PRODUCTS = 5e10


class InvalidRows(ValueError):
    """Rows that no loss can be computed on; the message says where, and the way out."""


def as_rows(given: Any) -> Numbers:
    """Rows as (N, D): one axis becomes one column, and images are flattened. No copy is made, and nothing is converted.

    Raises InvalidRows where they are no numbers, have no axis, or are fewer than two.
    """
    try:
        rows: Numbers = np.asanyarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidRows(f"these are no rows of numbers: {error}") from None
    if rows.dtype.names:
        raise InvalidRows(
            f"a table of named fields ({', '.join(rows.dtype.names[:3])}, ...): give a plain array of numbers"
        )
    if rows.dtype.kind not in "fiub":
        kinds = {
            "c": "complex numbers",
            "O": "Python objects",
            "U": "text",
            "S": "bytes",
            "M": "dates",
            "m": "durations",
        }
        raise InvalidRows(f"the values are {kinds.get(rows.dtype.kind, str(rows.dtype))}: give real numbers")
    if rows.ndim == 0:
        raise InvalidRows("a single number: give rows, (N, D)")
    if rows.size == 0:
        raise InvalidRows(f"no numbers: the shape is {rows.shape}")
    if len(rows) < 2:
        raise InvalidRows(f"one row, shape {rows.shape}: nothing varies; give at least two")
    return rows.reshape(len(rows), -1)


def sample(rows: Numbers, most: int) -> Numbers:
    """`most` of the rows, drawn without replacement by a fixed seed and in their order; all, where there are no more."""
    if len(rows) <= most:
        return rows
    drawn: Numbers = rows[np.sort(np.random.default_rng(0).choice(len(rows), most, replace=False))]
    return drawn


def chunks(rows: Numbers) -> Iterator[tuple[int, Double]]:
    """Parts of the rows in double precision, each with the index of its first row."""
    size = max(1, CHUNK // rows.shape[1])
    for begin in range(0, len(rows), size):
        yield begin, np.asarray(rows[begin : begin + size], np.float64)


@dataclass(frozen=True, eq=False)
class ColumnStatistics:
    """The columns of a set of rows, all in double precision.

    count: the rows that there are.    rows: (n, D), those looked at.    low, high, means, variances: (D,).
    row_variance: (n,), each row's mean squared distance from the means.    entropy: (n,), of each row; None where a value is
    outside [0, 1].    n_outside, n_binary: how many values are outside [0, 1], and 0 or 1.    n_duplicates: columns that
    vary, and repeat another one.
    """

    count: int
    rows: Numbers
    low: Double
    high: Double
    means: Double
    variances: Double
    row_variance: Double
    entropy: Double | None
    n_outside: int
    n_binary: int
    n_duplicates: int

    @property
    def features(self) -> int:
        """D."""
        return int(self.rows.shape[1])

    @property
    def is_sampled(self) -> bool:
        """Whether some rows were not looked at."""
        return len(self.rows) < self.count

    @property
    def n_constant(self) -> int:
        """Columns that never vary."""
        return int((self.low == self.high).sum())

    def error(self, of_rows: Double) -> float:
        """The standard error of a mean over rows, of which only a sample was looked at: s/sqrt(n) sqrt(1 - n/N)."""
        n = len(of_rows)
        return float(of_rows.std(ddof=1) / np.sqrt(n) * np.sqrt(1 - n / self.count))

    @cached_property
    def spectrum(self) -> Double:
        """The eigenvalues of the covariance, from the largest: (D,); of as many rows as MOST_PRODUCTS allows."""
        return np.asarray(floors.spectrum(self.spectrum_rows[None])[0])

    @cached_property
    def spectrum_rows(self) -> Numbers:
        """The rows that the spectrum is of."""
        n, features = len(self.rows), self.features
        most = int(MOST_PRODUCTS / features**2)
        # Of fewer rows than features, each costs n products with the others.
        return sample(self.rows, min(n, most if most >= features else int(np.sqrt(MOST_PRODUCTS / features))))

    @cached_property
    def rank(self) -> int:
        """How many directions vary by more than the values' own rounding."""
        largest = np.abs([self.low, self.high]).max()
        own = self.rows.dtype if self.rows.dtype.kind == "f" else np.dtype(np.float64)
        rounding = float(np.spacing(own.type(largest))) ** 2
        threshold = max(rounding, self.features * np.finfo(np.float64).eps * float(self.spectrum[0]))
        return int((self.spectrum > threshold).sum())


def column_statistics(rows: Numbers) -> ColumnStatistics:
    """Look at rows (N, D), which may be mapped from a file: those of `sample`, in parts.

    Raises InvalidRows, naming row and column, where a value is NaN or infinite.
    """
    seen = sample(rows, max(2, MOST_NUMBERS // rows.shape[1]))
    low, high = np.full(rows.shape[1], np.inf), np.full(rows.shape[1], -np.inf)
    sums, n_outside, n_binary = np.zeros(rows.shape[1]), 0, 0
    entropies: list[Double] = []
    hashes = [blake2b(digest_size=16) for _ in range(rows.shape[1])]
    for begin, part in chunks(seen):
        _check_finite(part, begin, is_sampled=seen is not rows)
        sums += part.sum(axis=0)
        low, high = np.minimum(low, part.min(axis=0)), np.maximum(high, part.max(axis=0))
        n_outside += int(((part < 0) | (part > 1)).sum())
        n_binary += int(((part == 0) | (part == 1)).sum())
        if not n_outside:
            entropies.append(floors.row_entropy(part[None])[0])
        for known, column in zip(hashes, np.ascontiguousarray(part.T), strict=True):
            known.update(column.data)
    means = sums / len(seen)
    squares, row_variance = np.zeros(rows.shape[1]), np.empty(len(seen))
    for begin, part in chunks(seen):
        distances = (part - means) ** 2
        squares += distances.sum(axis=0)
        row_variance[begin : begin + len(part)] = distances.mean(axis=1)
    varying = [known.digest() for known, is_constant in zip(hashes, low == high, strict=True) if not is_constant]
    return ColumnStatistics(
        len(rows),
        seen,
        low,
        high,
        means,
        np.where(low == high, 0.0, squares / len(seen)),
        row_variance,
        None if n_outside else np.concatenate(entropies),
        n_outside,
        n_binary,
        len(varying) - len(set(varying)),
    )


def _check_finite(part: Double, begin: int, *, is_sampled: bool) -> None:
    is_usable = np.abs(part) < LARGEST  # False for NaN as well
    if not is_usable.all():
        row, column = (int(i) for i in np.argwhere(~is_usable)[0])
        where = f"column {column} of a sampled row" if is_sampled else f"row {begin + row}, column {column}"
        raise InvalidRows(
            f"{where} is {part[row, column]}: drop or fill what is not finite, or too large to be squared"
        )
