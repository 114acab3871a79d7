"""The stack under test, as conformance checks see it: trained from any start, beside the oracle in two precisions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aeclaims import backends
from aeclaims.backends import oracle
from aeclaims.dtypes import FORMATS, REDUCED
from aeclaims.experiment import Adam, Experiment, Model
from aeclaims.run import Double, Run, activate
from aeclaims.start import Array, Parameters, Start, checked

if TYPE_CHECKING:
    from aeclaims.backends.torch.compile import Compilation

# How many times further off the path a sound stack may be than the oracle in float32 is: it adds in another order and has another
# exp. The largest ratios over all set-ups of conformance/paths.py, 8 seeds, in float32 and float64: torch, torch-eager and
# torch-loop 1.5 and 1.0, numba 1.4 and 2.8, JAX 23.7 (for which its record has a tolerance) and 5.1.
PATH_TOLERANCE = 16
# The same if products are rounded to bfloat16 or float16, once each, and all else is computed in float32: torch-eager needs 0.12
# for losses and 0.15 for gradients (the same set-ups and seeds).
PATH_TOLERANCE_REDUCED = 4
# Bounds above this on a relative deviation say nothing.
MAX_USEFUL_BOUND = 0.5
# Roundings that are granted beside those that grow along the path: a loss is computed in as many operations.
ROUNDINGS = 4
SINGLE = float(np.finfo(np.float32).eps)
KINKED = ("relu", "leaky_relu")


@dataclass(frozen=True)
class Stack:
    """A backend, the dtype it is tested in, the seeds of a check, what was trained already, and the settings of a compiler."""

    backend: backends.Backend
    dtype: str
    seeds: tuple[int, ...]
    known: dict[Start, Run] = field(default_factory=dict)
    compilation: "Compilation | None" = None

    def train(self, experiment: Experiment, seeds: Sequence[int] | None = None) -> Run:
        """The run of these seeds, or the check's own; trained once, however many checks look at it."""
        return self._trained(self.start(experiment, seeds))

    def start(self, experiment: Experiment, seeds: Sequence[int] | None = None) -> Start:
        """The start of these seeds, or the check's own, in the format under test."""
        return checked(experiment, self.seeds if seeds is None else seeds, self.dtype)

    def _trained(self, start: Start) -> Run:
        if start not in self.known:
            self.known[start] = self.train_from(start)
        return self.known[start]

    def train_from(self, start: Start) -> Run:
        """A run from a start, trained now."""
        return backends.train_from(start, self.backend)

    @property
    def eps(self) -> float:
        """What one rounding may be off, relative to the number, times what the backend's record grants it."""
        return FORMATS[self.dtype].eps * self.backend.granted(self.dtype)

    @property
    def is_oracle(self) -> bool:
        """Whether the oracle itself is under test."""
        return self.backend == backends.get("oracle")

    @property
    def is_reduced(self) -> bool:
        """Whether products are rounded to less than float32 while parameters are not."""
        return self.dtype in REDUCED

    @property
    def times(self) -> int:
        """How much further off the path a sound stack may be than the oracle in float32 is."""
        return PATH_TOLERANCE_REDUCED if self.is_reduced else PATH_TOLERANCE

    def oracle_run(self, experiment: Experiment, seeds: Sequence[int] | None = None) -> Run:
        """The oracle's run in float64, with which a stack is to agree."""
        return self._walked(experiment, tuple(self.seeds if seeds is None else seeds), "float64")

    def _count_type(self, dtype: str) -> Callable[[int], Any]:
        """The type in which the oracle counts steps: float32 if the backend takes Adam's bias corrections in that."""
        return np.float32 if self.backend.counts_on_device and dtype == "float32" else int

    def _follows_the_oracle(self, experiment: Experiment) -> bool:
        return not self.backend.optimizer or not isinstance(experiment.optimizer, Adam)

    def _walked(self, experiment: Experiment, seeds: tuple[int, ...], dtype: str) -> Run:
        """The oracle's run in that dtype: rounding errors grow along it as they do along the stack's.

        The oracle does not know an optimizer of the user's own. If there is one, this is the stack's own run.
        """
        if self._follows_the_oracle(experiment):
            return _path(replace(experiment, epochs=1), seeds, dtype, self._count_type(dtype)).run(experiment.epochs)
        if dtype not in self.backend.dtypes:
            raise backends.NotSupported(
                f"how far rounding errors grow is not known: {self.backend.name} has no {dtype}"
            )
        return self._trained(checked(experiment, seeds, dtype))

    def allowed_losses(self, experiment: Experiment) -> Double:
        """(E, 1): how far an epoch loss may be from the truth, relative to it.

        TIMES (g + ROUNDINGS + s) eps: g is how far the oracle in float32 is, in its eps, at the worst of the seeds and of
        the epochs so far. Rounding errors are proportional to eps as long as they are small, in every dtype. s is for outputs
        that are rounded to less than float32: off by e they move a mean square L by at most 2 e sqrt(L) + e^2 (Cauchy and
        Schwarz), and e is eps times the rows' own size. Infinite where that would say nothing.
        """
        off = relative(
            self._walked(experiment, self.seeds, "float32").epoch_loss, self.oracle_run(experiment).epoch_loss
        )
        clear = np.vstack([np.ones((1, len(self.seeds)), bool), self.away_from_relu_kinks(experiment)[:-1]])
        grown = np.maximum.accumulate(np.where(clear, off, 0).max(axis=1))[:, None] / SINGLE
        if not self.is_reduced:
            return np.where(clear, self.times * (grown + ROUNDINGS) * self.eps, np.inf)
        oracle_run = self.oracle_run(experiment)
        outputs = np.sqrt(np.mean(np.square(oracle_run.start.rows()))) / np.sqrt(oracle_run.epoch_loss)
        allowed = self.times * (grown + ROUNDINGS + 2 * outputs + self.eps * outputs**2) * self.eps
        return np.where(clear & (allowed < MAX_USEFUL_BOUND), allowed, np.inf)

    def allowed_parameters(self, experiment: Experiment) -> list[Double]:
        """For each layer's weight and bias, (S,): how far it may be from the truth, relative to its largest, in the same way."""
        clear = self.away_from_relu_kinks(experiment)[-1]
        rounded = deviations(self._walked(experiment, self.seeds, "float32"), self.oracle_run(experiment))
        return [
            np.where(clear, self.times * (np.where(clear, off, 0).max() / SINGLE + ROUNDINGS) * self.eps, np.inf)
            for _, off in rounded
        ]

    def away_from_relu_kinks(self, experiment: Experiment) -> npt.NDArray[np.bool_]:
        """(E, S): whether up to and with that epoch no unit of a replica came so near to a kink that rounding decides its side.

        There the gradient jumps, and sound stacks part. Set-ups with kinks have epochs of one step.
        """
        if not _has_kinks(experiment.model):
            return np.ones((experiment.epochs, len(self.seeds)), bool)
        if self._follows_the_oracle(experiment):
            margins = _path(replace(experiment, epochs=1), self.seeds, "float64", int).margins(experiment.epochs)
        else:
            margins = self._own_margins(experiment)
        return np.logical_and.accumulate(margins > self.margin, axis=0)

    def _own_margins(self, experiment: Experiment) -> Double:
        """(E, S): the least margins at the begin of each epoch of the stack's own path; each part of the path is a training."""
        start = checked(experiment, self.seeds, "float64")
        earlier = [replace(experiment, epochs=epochs) for epochs in range(1, experiment.epochs)]
        parameters = [start.parameters(), *(self._walked(part, self.seeds, "float64").parameters for part in earlier)]
        return np.array([least_margins(experiment.model, before, start.rows()) for before in parameters])

    @property
    def margin(self) -> float:
        """How near to a kink is too near, relative to the sizes of what is added up: errors that a path has grown fourfold."""
        return 4 * self.times * ROUNDINGS * self.eps


class OraclePath:
    """The oracle's path from one start: it is walked once, as far as somebody asks."""

    def __init__(self, start: Start, count_type: Callable[[int], Any] = int) -> None:
        self.start, self._steps = start, oracle.steps(start, count_type)
        self._losses: list[Double] = []
        self._parameters: list[Parameters] = []
        self._margins: list[Double] = []

    def run(self, epochs: int) -> Run:
        """The oracle's run of so many epochs."""
        self._walk(epochs)
        start = replace(self.start, experiment=replace(self.start.experiment, epochs=epochs))
        return Run(start, np.array(self._losses[:epochs]), self._parameters[epochs - 1])

    def margins(self, epochs: int) -> Double:
        """(E, S): the least margins of the steps of each epoch; infinite if the model has no kinks."""
        self._walk(epochs)
        return np.array(self._margins[:epochs])

    def _walk(self, epochs: int) -> None:
        experiment = self.start.experiment
        while len(self._losses) < epochs:
            steps = list(islice(self._steps, experiment.steps_per_epoch))
            self._losses.append(oracle.epoch_mean(steps))
            self._parameters.append(steps[-1].after)
            self._margins.append(
                np.min([least_margins(experiment.model, step.before, step.batch) for step in steps], axis=0)
            )


@lru_cache(maxsize=256)
def _path(experiment: Experiment, seeds: tuple[int, ...], dtype: str, count_type: Callable[[int], Any]) -> OraclePath:
    return OraclePath(checked(experiment, seeds, dtype), count_type)


def _has_kinks(model: Model) -> bool:
    return any(activation.kind in KINKED for activation in model.activations)


def least_margins(model: Model, parameters: Parameters, rows: Array) -> Double:
    """(S,): the least |z| / (sum |w x| + |b|) of inputs z of units that have a kink at 0; infinite if none has."""
    margins = np.full(len(parameters[0].bias), np.inf)
    if not _has_kinks(model):
        return margins
    values = rows
    for (weight, bias), activation in zip(parameters, model.activations, strict=True):
        z = values @ weight.swapaxes(1, 2) + bias[:, None]
        if activation.kind in KINKED:
            sizes = np.abs(values) @ np.abs(weight).swapaxes(1, 2) + np.abs(bias)[:, None]
            margins = np.minimum(margins, (np.abs(z) / sizes).min(axis=(1, 2)))
        values = activate(activation, z)
    return margins


def relative(seen: Double, exact: Double) -> Double:
    """|seen - exact| / |exact|; 0 where both are 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(seen == exact, 0.0, np.abs(seen - exact) / np.abs(exact)))


def deviations(seen: Run, exact: Run) -> Iterator[tuple[str, Double]]:
    """Of each layer's weight and bias, its name, and how far each seed's is off, relative to the largest of all seeds: (S,)."""
    for number, (ours, theirs) in enumerate(zip(seen.parameters, exact.parameters, strict=True), 1):
        for what, a, b in zip(("weight", "bias"), ours, theirs, strict=True):
            scale = max(float(np.abs(b).max()), SINGLE)
            off = np.abs(a.astype(np.float64) - b).reshape(len(a), -1).max(axis=1)
            yield f"{what} of layer {number}", off / scale
