"""Random inputs of a training, drawn with NumPy from seeds: rows, initial parameters and batch order."""

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aeclaims.dtypes import FORMATS, REDUCED, Format
from aeclaims.experiment import (
    Bernoulli,
    Beta,
    Experiment,
    FixedRows,
    Initialisation,
    Redundant,
    Rows,
    Uniform,
    require,
)
from aeclaims.runtime import parallel

Array = npt.NDArray[np.floating[Any]]

# Each kind of draw has a separate stream of a seed, so that rows do not change if the model does.
ROWS, PARAMETERS, ORDER = range(3)


class LayerParameters(NamedTuple):
    """One affine layer of all replicas: x -> x weight^T + bias."""

    weight: Array
    """Shape (S, outputs, inputs), the layout of torch.nn.Linear."""
    bias: Array
    """Shape (S, outputs)."""


Parameters = tuple[LayerParameters, ...]

SINGLE = np.dtype(np.float32)


def check_seeds(seeds: Iterable[int]) -> tuple[int, ...]:
    """Return the seeds as a tuple.

    Raises:
        InvalidExperiment: If there are no seeds, a seed repeats, or a seed is not a whole number >= 0.
    """
    try:
        checked = tuple(operator.index(seed) for seed in seeds)
    except TypeError:
        require(False, "seeds", seeds, "give whole numbers, such as range(64)")
    require(len(checked) > 0, "seeds", checked, "give at least one seed, such as range(64)")
    seen: set[int] = set()
    for seed in checked:
        require(seed >= 0, "seeds", seed, "a seed is a whole number of at least 0")
        require(seed not in seen, "seeds", seed, "this seed repeats: give each seed once")
        seen.add(seed)
    return checked


def check_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return the dtype.

    Raises:
        InvalidExperiment: If the dtype is not float32 or float64.
    """
    try:
        checked = np.dtype(dtype)
    except TypeError:
        checked = None
    require(checked in (np.float32, np.float64), "dtype", dtype, f"give one of {', '.join(FORMATS)}")
    assert checked is not None
    return checked


def checked(experiment: Experiment, seeds: Iterable[int], dtype: npt.DTypeLike) -> "Start":
    """Return the start of a training in `dtype`.

    In bfloat16 and float16 only products are rounded. Rows and parameters stay in float32.

    Raises:
        InvalidExperiment: If the seeds or the dtype are invalid, see `check_seeds` and `check_dtype`.
    """
    if dtype in REDUCED:
        return Start(experiment, check_seeds(seeds), SINGLE, str(dtype))
    return Start(experiment, check_seeds(seeds), check_dtype(dtype))


@dataclass(frozen=True)
class Start:
    """Recipe of the random inputs of one training. Its methods draw the same numbers on every machine.

    Drawn numbers are float32 values, also if `dtype` is float64. A float64 training can then shadow a float32 training
    from the same start. Your rows are only rounded to `dtype`.

    Attributes:
        experiment: Training set-up.
        seeds: One seed for each replica.
        dtype: float32 or float64.
        products: Format that products are rounded to, bfloat16 or float16. Empty if that format is `dtype`.

    Raises:
        InvalidExperiment: If the seeds, the dtype or the format of products are invalid.
    """

    experiment: Experiment
    seeds: tuple[int, ...]
    dtype: np.dtype[Any] = SINGLE
    products: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", check_seeds(self.seeds))
        object.__setattr__(self, "dtype", check_dtype(self.dtype))
        require(
            self.products in ("", *REDUCED),
            "products",
            self.products,
            f"give one of {', '.join(REDUCED)}, or leave it empty",
        )

    @property
    def format(self) -> Format:
        """Coarsest format to which the training rounds numbers."""
        return FORMATS[self.products or self.dtype.name]

    @property
    def has_shared_rows(self) -> bool:
        """Whether all seeds train on the same rows, which are yours."""
        return isinstance(self.experiment.rows, FixedRows)

    def rows(self) -> Array:
        """Return the training rows.

        Returns:
            Read-only, shape (S, N, D), or (1, N, D) if all seeds share your rows.
        """
        return _rows(self.experiment.rows, self.experiment.n_rows, self.seeds, self.dtype)

    def parameters(self) -> Parameters:
        """Return the initial parameters of each affine layer.

        - pytorch: weights and biases are U(-1/sqrt(inputs), 1/sqrt(inputs)), the default of torch.nn.Linear.
        - glorot: weights are U(-sqrt(6/(inputs + outputs)), ...), biases are 0 (Glorot and Bengio 2010; default of Keras).

        Returns:
            One (weight, bias) for each layer, copies that you may change.
        """
        drawn = _parameters(self.experiment.model.widths, self.experiment.initialisation, self.seeds, self.dtype)
        return tuple(LayerParameters(weight.copy(), bias.copy()) for weight, bias in drawn)

    def order(self, epoch: int) -> npt.NDArray[np.uint32]:
        """Return the order in which an epoch visits the rows.

        If each seed has different rows, one order serves all seeds, because their rows are exchangeable. An order takes
        longer to draw than a small replica takes to train one epoch. If one minibatch holds all rows, they stay in order.

        Args:
            epoch: Epoch, counted from 0.

        Returns:
            Row indices, shape (N,) for all seeds, or (S, N) if the seeds share rows.
        """
        count = self.experiment.n_rows
        if self.experiment.batch_size >= count:  # one minibatch of all rows needs no order
            every_row = np.arange(count, dtype=np.uint32)
            return np.broadcast_to(every_row, (len(self.seeds), count)) if self.has_shared_rows else every_row
        if not self.has_shared_rows:
            return _generator(0, ORDER, epoch).permutation(count).astype(np.uint32)
        return np.stack([_generator(seed, ORDER, epoch).permutation(count) for seed in self.seeds]).astype(np.uint32)


def _generator(seed: int, *stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=stream)))


# Floors are computed on the rows of the latest training, so the last population stays in memory.
@lru_cache(maxsize=1)
def _rows(spec: Rows, count: int, seeds: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    if isinstance(spec, FixedRows):
        rows = spec.array[None].astype(dtype)
    else:
        rows = np.empty((len(seeds), count, spec.features), dtype)

        def draw(index: int) -> None:
            rows[index] = _draw(spec, _generator(seeds[index], ROWS), count)

        parallel.map(draw, range(len(seeds)))
    rows.flags.writeable = False
    return rows


# After a training, its parameters are compared with these.
@lru_cache(maxsize=4)
def _parameters(
    widths: tuple[int, ...],
    initialisation: Initialisation,
    seeds: tuple[int, ...],
    dtype: np.dtype[Any],
) -> Parameters:
    shapes = [(outputs, inputs) for inputs, outputs in pairwise(widths)]
    if initialisation == "glorot":
        counts = [(outputs * inputs, 0) for outputs, inputs in shapes]
        bounds = [np.sqrt(6 / (inputs + outputs)) for outputs, inputs in shapes]
    else:
        counts = [(outputs * inputs, outputs) for outputs, inputs in shapes]
        bounds = [1 / np.sqrt(inputs) for _, inputs in shapes]
    # One draw for all numbers of a seed: layer by layer, the weight before the bias.
    drawn = np.stack([_generator(seed, PARAMETERS).random(sum(map(sum, counts)), np.float32) for seed in seeds])
    parts = iter(np.split(drawn, np.cumsum([count for pair in counts for count in pair])[:-1], axis=1))

    def scaled(bound: float, shape: tuple[int, ...]) -> Array:
        values: Array = ((2 * next(parts) - 1) * np.float32(bound)).astype(dtype)
        return values.reshape(len(seeds), *shape) if values.size else np.zeros((len(seeds), *shape), dtype)

    return tuple(
        LayerParameters(scaled(bound, shape), scaled(bound, shape[:1]))
        for bound, shape in zip(bounds, shapes, strict=True)
    )


def _draw(spec: Uniform | Bernoulli | Beta | Redundant, generator: np.random.Generator, count: int) -> Array:
    shape = (count, spec.features)
    match spec:
        case Uniform():
            return generator.random(shape, np.float32)
        case Bernoulli(p=p):
            return (generator.random(shape) < p).astype(np.float32)
        case Beta(a=a, b=b):
            return generator.beta(a, b, shape).astype(np.float32)
        case Redundant(rank=rank):
            numbers = generator.standard_normal((count, rank), np.float32)
            return numbers[:, np.arange(spec.features) % rank]
