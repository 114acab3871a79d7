"""The stack under test in conformance checks: its trainings, and the oracle's in two precisions for comparison."""

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

# Largest allowed ratio of a sound stack's deviation to that of the oracle in float32. A stack adds in another order, and has
# another exp. These are the largest ratios over all set-ups of conformance/paths.py, 8 seeds, in float32 and float64:
# torch, torch-eager and torch-loop 1.5 and 1.0; numba 1.4 and 2.8; JAX 23.7 (its record has a tolerance for that) and 5.1.
PATH_TOLERANCE = 16
# The same ratio if products are rounded to bfloat16 or float16, once each, and all else is computed in float32. torch-eager
# needs 0.12 for losses and 0.15 for gradients (the same set-ups and seeds).
PATH_TOLERANCE_REDUCED = 4
# A bound on a relative deviation is useless if it is above this.
MAX_USEFUL_BOUND = 0.5
# Roundings that are allowed besides those that grow along the path. A loss takes as many operations.
ROUNDINGS = 4
SINGLE = float(np.finfo(np.float32).eps)
KINKED = ("relu", "leaky_relu")


@dataclass(frozen=True)
class Stack:
    """A backend under test, with the dtype, the seeds and the trainings of a check.

    Attributes:
        backend: The backend.
        dtype: Name of the number format in which it is tested.
        seeds: Seeds of the check.
        known: Runs that were trained already, by start.
        compilation: The arguments of torch.compile; None for its defaults.
    """

    backend: backends.Backend
    dtype: str
    seeds: tuple[int, ...]
    known: dict[Start, Run] = field(default_factory=dict)
    compilation: "Compilation | None" = None

    def train(self, experiment: Experiment, seeds: Sequence[int] | None = None) -> Run:
        """Return the run of these seeds, or of the check's. It is trained once, even if several checks use it."""
        return self._trained(self.start(experiment, seeds))

    def start(self, experiment: Experiment, seeds: Sequence[int] | None = None) -> Start:
        """Return the start of these seeds, or of the check's, in the format under test."""
        return checked(experiment, self.seeds if seeds is None else seeds, self.dtype)

    def _trained(self, start: Start) -> Run:
        if start not in self.known:
            self.known[start] = self.train_from(start)
        return self.known[start]

    def train_from(self, start: Start) -> Run:
        """Train from a start, even if its run is known."""
        return backends.train_from(start, self.backend)

    @property
    def eps(self) -> float:
        """Relative spacing of the dtype's numbers, times the factor that the backend's record grants."""
        return FORMATS[self.dtype].eps * self.backend.granted(self.dtype)

    @property
    def is_oracle(self) -> bool:
        """Whether the oracle itself is under test."""
        return self.backend == backends.get("oracle")

    @property
    def is_reduced(self) -> bool:
        """Whether products are rounded to less than float32, and parameters are not."""
        return self.dtype in REDUCED

    @property
    def times(self) -> int:
        """Largest allowed ratio of a sound stack's deviation to that of the oracle in float32."""
        return PATH_TOLERANCE_REDUCED if self.is_reduced else PATH_TOLERANCE

    def oracle_run(self, experiment: Experiment, seeds: Sequence[int] | None = None) -> Run:
        """Return the oracle's run in float64, with which a stack must agree."""
        return self._walked(experiment, tuple(self.seeds if seeds is None else seeds), "float64")

    def _count_type(self, dtype: str) -> Callable[[int], Any]:
        """Return the type in which the oracle counts steps: float32 if the backend's bias corrections of Adam are float32."""
        return np.float32 if self.backend.counts_on_device and dtype == "float32" else int

    def _follows_the_oracle(self, experiment: Experiment) -> bool:
        return not self.backend.optimizer or not isinstance(experiment.optimizer, Adam)

    def _walked(self, experiment: Experiment, seeds: tuple[int, ...], dtype: str) -> Run:
        """Return the oracle's run in that dtype: rounding errors grow along it as they do along the stack's.

        The oracle has no custom optimizers. If you gave one, this is the stack's run.
        """
        if self._follows_the_oracle(experiment):
            return _path(replace(experiment, epochs=1), seeds, dtype, self._count_type(dtype)).run(experiment.epochs)
        if dtype not in self.backend.dtypes:
            raise backends.NotSupported(
                f"the growth of rounding errors is not known, because {self.backend.name} has no {dtype}"
            )
        return self._trained(checked(experiment, seeds, dtype))

    def allowed_losses(self, experiment: Experiment) -> Double:
        """Return the allowed deviation of each epoch loss, relative to the exact loss, (E, S).

        The bound is `times` (g + ROUNDINGS + s) eps, and infinite if it would be useless. The deviation of the oracle in
        float32 is g, in its eps, at the worst of the seeds and of the epochs so far. Small rounding errors are proportional to
        eps in every dtype. The term s is for outputs that are rounded to less than float32. If outputs are off by e, a mean
        square L moves by at most 2 e sqrt(L) + e^2 (Cauchy and Schwarz). Here e is eps times the size of the rows.
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
        """Return the allowed deviation of each layer's weight and bias, relative to its largest number, (S,) each.

        The bound is derived as that of the losses.
        """
        clear = self.away_from_relu_kinks(experiment)[-1]
        rounded = deviations(self._walked(experiment, self.seeds, "float32"), self.oracle_run(experiment))
        return [
            np.where(clear, self.times * (np.where(clear, off, 0).max() / SINGLE + ROUNDINGS) * self.eps, np.inf)
            for _, off in rounded
        ]

    def away_from_relu_kinks(self, experiment: Experiment) -> npt.NDArray[np.bool_]:
        """Return whether all units of a replica stayed away from kinks up to the end of each epoch, (E, S).

        If a unit comes too near to a kink, rounding decides its side. There the gradient jumps, and sound stacks part.
        Set-ups with kinks have epochs of one step.
        """
        if not _has_kinks(experiment.model):
            return np.ones((experiment.epochs, len(self.seeds)), bool)
        if self._follows_the_oracle(experiment):
            margins = _path(replace(experiment, epochs=1), self.seeds, "float64", int).margins(experiment.epochs)
        else:
            margins = self._own_margins(experiment)
        return np.logical_and.accumulate(margins > self.margin, axis=0)

    def _own_margins(self, experiment: Experiment) -> Double:
        """Return the least margins at the beginning of each epoch of the stack's own path, (E, S).

        Each part of the path is a training.
        """
        start = checked(experiment, self.seeds, "float64")
        earlier = [replace(experiment, epochs=epochs) for epochs in range(1, experiment.epochs)]
        parameters = [start.parameters(), *(self._walked(part, self.seeds, "float64").parameters for part in earlier)]
        return np.array([least_margins(experiment.model, before, start.rows()) for before in parameters])

    @property
    def margin(self) -> float:
        """Least safe distance to a kink, relative to the sizes of the summands.

        It allows for rounding errors that have grown fourfold along a path.
        """
        return 4 * self.times * ROUNDINGS * self.eps


class OraclePath:
    """The oracle's path from one start. It is computed once, as far as it is needed."""

    def __init__(self, start: Start, count_type: Callable[[int], Any] = int) -> None:
        self.start, self._steps = start, oracle.steps(start, count_type)
        self._losses: list[Double] = []
        self._parameters: list[Parameters] = []
        self._margins: list[Double] = []

    def run(self, epochs: int) -> Run:
        """Return the oracle's run of that many epochs."""
        self._walk(epochs)
        start = replace(self.start, experiment=replace(self.start.experiment, epochs=epochs))
        return Run(start, np.array(self._losses[:epochs]), self._parameters[epochs - 1])

    def margins(self, epochs: int) -> Double:
        """Return the least margin in the steps of each epoch, (E, S); infinite if the model has no kinks."""
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
    """Return the least |z| / (sum |w x| + |b|) of each seed, (S,).

    The inputs of the units that have a kink at 0 are z. The result is infinite if no unit has one.
    """
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
    """Return |seen - exact| / |exact|; 0 if both are 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(seen == exact, 0.0, np.abs(seen - exact) / np.abs(exact)))


def deviations(seen: Run, exact: Run) -> Iterator[tuple[str, Double]]:
    """Yield the name and the deviations of each layer's weight and bias, (S,), relative to the largest number of all seeds."""
    for number, (ours, theirs) in enumerate(zip(seen.parameters, exact.parameters, strict=True), 1):
        for what, a, b in zip(("weight", "bias"), ours, theirs, strict=True):
            scale = max(float(np.abs(b).max()), SINGLE)
            off = np.abs(a.astype(np.float64) - b).reshape(len(a), -1).max(axis=1)
            yield f"{what} of layer {number}", off / scale
