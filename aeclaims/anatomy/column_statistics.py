"""Statistics of rows that may not fit into memory, in two passes over them, or over a sample of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from aeclaims.errors import InvalidRows
from aeclaims.theory import floors

Double = npt.NDArray[np.float64]
Numbers = npt.NDArray[Any]

# Limit of numbers in a pass, 2 s on one core. If there are more, a sample of rows is drawn with a fixed seed.
MOST_NUMBERS = 50_000_000
# Larger values overflow in a sum of squares.
LARGEST = 1e140
# Numbers in memory at once, in float64.
CHUNK = 2_000_000
# Limit of multiplications for the covariance, 2 s on two cores. If it needs more, a sample of rows is drawn.
MOST_PRODUCTS = 5e10


def as_rows(given: Any) -> Numbers:
    """Return rows as (N, D), without a copy or a conversion.

    An array with one axis becomes one column. Images are flattened.

    Raises:
        InvalidRows: If the values are not numbers, if there is no axis, or if there are fewer than two rows.
    """
    try:
        rows: Numbers = np.asanyarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidRows(f"these are not rows of numbers: {error}") from None
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
    """Draw at most `most` rows without replacement, with a fixed seed. The sample keeps their order."""
    if len(rows) <= most:
        return rows
    drawn: Numbers = rows[np.sort(np.random.default_rng(0).choice(len(rows), most, replace=False))]
    return drawn


def chunks(rows: Numbers) -> Iterator[tuple[int, Double]]:
    """Yield parts of the rows in float64, each after the index of its first row."""
    size = max(1, CHUNK // rows.shape[1])
    for begin in range(0, len(rows), size):
        yield begin, np.asarray(rows[begin : begin + size], np.float64)


@dataclass(frozen=True, eq=False)
class ColumnStatistics:
    """Statistics of the columns of a set of rows, all in float64.

    Attributes:
        count: Number of rows, N.
        rows: Rows of the sample, shape (n, D).
        low: Least value of each column, shape (D,).
        high: Largest value of each column, shape (D,).
        means: Means of the columns, shape (D,).
        variances: Variances of the columns, shape (D,).
        row_variance: Mean squared distance of each row from the means, shape (n,).
        entropy: Mean entropy of each row, shape (n,), or None if a value is outside [0, 1].
        n_outside: Number of values outside [0, 1].
        n_binary: Number of values that are 0 or 1.
        n_duplicates: Number of columns that vary and repeat another column.
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
        """Number of features, D."""
        return int(self.rows.shape[1])

    @property
    def is_sampled(self) -> bool:
        """Whether some rows are not in the sample."""
        return len(self.rows) < self.count

    @property
    def n_constant(self) -> int:
        """Number of columns that never vary."""
        return int((self.low == self.high).sum())

    def error(self, of_rows: Double) -> float:
        """Return the standard error of a mean over a sample of n rows from N: `s/sqrt(n) sqrt(1 - n/N)`."""
        n = len(of_rows)
        return float(of_rows.std(ddof=1) / np.sqrt(n) * np.sqrt(1 - n / self.count))

    @cached_property
    def spectrum(self) -> Double:
        """Eigenvalues of the covariance, the largest first, shape (D,). MOST_PRODUCTS limits the rows."""
        return np.asarray(floors.spectrum(self.spectrum_rows[None])[0])

    @cached_property
    def spectrum_rows(self) -> Numbers:
        """Rows from which the spectrum is computed."""
        n, features = len(self.rows), self.features
        most = int(MOST_PRODUCTS / features**2)
        # If there are fewer rows than features, each row costs n products with the others.
        return sample(self.rows, min(n, most if most >= features else int(np.sqrt(MOST_PRODUCTS / features))))

    @cached_property
    def rank(self) -> int:
        """Number of directions that vary by more than the rounding of the values."""
        largest = np.abs([self.low, self.high]).max()
        own = self.rows.dtype if self.rows.dtype.kind == "f" else np.dtype(np.float64)
        rounding = float(np.spacing(own.type(largest))) ** 2
        threshold = max(rounding, self.features * np.finfo(np.float64).eps * float(self.spectrum[0]))
        return int((self.spectrum > threshold).sum())


def column_statistics(rows: Numbers) -> ColumnStatistics:
    """Compute the statistics of rows, of shape (N, D), in parts. The rows may be mapped from a file.

    If there are too many rows, the statistics are those of a `sample`.

    Raises:
        InvalidRows: If a value is NaN, infinite or too large. The message names row and column.
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
            f"{where} is {part[row, column]}: drop or fill values that are not finite, or too large to be squared"
        )
