"""The stack under test, as conformance checks see it: trained from any start, beside the reference in two precisions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from aeclaims import backends
from aeclaims.experiment import Adam, Experiment
from aeclaims.run import Double, Run
from aeclaims.start import Start

# How much further off the path a sound stack may be than the reference in float32 is, by rounding errors of its own: sums in
# another order, another exp. Measured over the set-ups of paths.py, 8 seeds: torch, torch-eager, torch-loop and JAX need 3.2.
TIMES = 16
# Roundings that are granted beside those that grow along the path: a loss is computed in as many operations.
ROUNDINGS = 4
SINGLE = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Stack:
    """A backend, the dtype it is tested in, and the seeds of a check."""

    backend: backends.Backend
    dtype: str
    seeds: tuple[int, ...]
    known: dict[tuple[Experiment, tuple[int, ...], str], Run] = field(default_factory=dict, compare=False, repr=False)

    def train(self, experiment: Experiment, seeds: Sequence[int] | None = None) -> Run:
        """The run of these seeds, or the check's own."""
        return self.train_from(Start(experiment, tuple(self.seeds if seeds is None else seeds), np.dtype(self.dtype)))

    def train_from(self, start: Start) -> Run:
        """The run from a start."""
        return backends.train_from(start, self.backend)

    @property
    def eps(self) -> float:
        """What one rounding may be off, relative to the number, times what the backend's record grants it."""
        granted = self.backend.tolerances.get(self.dtype)
        return float(np.finfo(self.dtype).eps) * (granted.times if granted else 1)

    def truth(self, experiment: Experiment, seeds: Sequence[int] | None = None) -> Run:
        """The reference's run in float64: what there is to agree with."""
        return self._walked(experiment, tuple(self.seeds if seeds is None else seeds), "float64")

    def _walked(self, experiment: Experiment, seeds: tuple[int, ...], dtype: str) -> Run:
        """The reference's run, along which rounding errors grow as they do along the stack's.

        An optimizer of the user's own takes a path that the reference does not know: it is then the stack's own run.
        """
        if not self.backend.optimizer or not isinstance(experiment.optimizer, Adam):
            return _reference(experiment, seeds, dtype)
        key = experiment, seeds, dtype
        if dtype not in self.backend.dtypes:
            raise backends.Lacking(f"how far rounding errors grow is not known: {self.backend.name} has no {dtype}")
        if key not in self.known:
            self.known[key] = backends.train_from(Start(experiment, seeds, np.dtype(dtype)), self.backend)
        return self.known[key]

    def allowed_losses(self, experiment: Experiment) -> Double:
        """(E, 1): how far an epoch loss may be from the truth, relative to it.

        TIMES (g + ROUNDINGS) eps: g is how far the reference in float32 is, in float32's eps, at the worst of the seeds and of
        the epochs so far. Rounding errors are proportional to eps as long as they are small, in every dtype.
        """
        exact, rounded = self.truth(experiment), self._walked(experiment, self.seeds, "float32")
        grown = np.maximum.accumulate(relative(rounded.epoch_loss, exact.epoch_loss).max(axis=1)) / SINGLE
        return TIMES * (grown[:, None] + ROUNDINGS) * self.eps

    def allowed_parameters(self, experiment: Experiment) -> list[float]:
        """For each layer's weight and bias, how far it may be from the truth, in the same way, relative to its largest."""
        exact, rounded = self.truth(experiment), self._walked(experiment, self.seeds, "float32")
        return [TIMES * (float(deviation.max()) / SINGLE + ROUNDINGS) * self.eps for _, deviation in deviations(rounded, exact)]


@lru_cache(maxsize=256)
def _reference(experiment: Experiment, seeds: tuple[int, ...], dtype: str) -> Run:
    return backends.train(experiment, seeds=seeds, backend="reference", dtype=dtype)


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
