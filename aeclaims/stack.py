"""The stack under test, as conformance checks see it: trained from any start, beside the reference in two precisions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aeclaims import backends
from aeclaims.experiment import Adam, Experiment
from aeclaims.formats import FORMATS, REDUCED
from aeclaims.run import Double, Run, activate
from aeclaims.start import Start, checked

if TYPE_CHECKING:
    from aeclaims.backends.torch.compile import Compilation

# How much further off the path a sound stack may be than the reference in float32 is, by rounding errors of its own: sums in
# another order, another exp. Measured over the set-ups of conformance/paths.py, 8 seeds, in both dtypes: torch, torch-eager and
# torch-loop need 2.9, JAX in float64 5.1.
TIMES = 16
# The same where products are rounded to bfloat16 or float16, once each, and all else is computed in float32: torch-eager needs
# 0.3, and 0.8 of gradients (24 set-ups, 5 seeds).
TIMES_REDUCED = 4
# Bounds above this on a relative deviation say nothing.
SAYS_NOTHING = 0.5
# Roundings that are granted beside those that grow along the path: a loss is computed in as many operations.
ROUNDINGS = 4
SINGLE = float(np.finfo(np.float32).eps)


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
    def is_reduced(self) -> bool:
        """Whether products are rounded to less than float32 while parameters are not."""
        return self.dtype in REDUCED

    @property
    def times(self) -> int:
        """How much further off the path than the reference's own rounding takes it a sound stack may be."""
        return TIMES_REDUCED if self.is_reduced else TIMES

    def truth(self, experiment: Experiment, seeds: Sequence[int] | None = None) -> Run:
        """The reference's run in float64: what there is to agree with."""
        return self._walked(experiment, tuple(self.seeds if seeds is None else seeds), "float64")

    def _walks_with_the_reference(self, experiment: Experiment) -> bool:
        return not self.backend.optimizer or not isinstance(experiment.optimizer, Adam)

    def _walked(self, experiment: Experiment, seeds: tuple[int, ...], dtype: str) -> Run:
        """The reference's run, along which rounding errors grow as they do along the stack's.

        An optimizer of the user's own takes a path that the reference does not know: it is then the stack's own run.
        """
        if self._walks_with_the_reference(experiment):
            return _reference(experiment, seeds, dtype)
        if dtype not in self.backend.dtypes:
            raise backends.Lacking(f"how far rounding errors grow is not known: {self.backend.name} has no {dtype}")
        return self._trained(checked(experiment, seeds, dtype))

    def allowed_losses(self, experiment: Experiment) -> Double:
        """(E, 1): how far an epoch loss may be from the truth, relative to it.

        TIMES (g + ROUNDINGS + s) eps: g is how far the reference in float32 is, in its eps, at the worst of the seeds and of
        the epochs so far. Rounding errors are proportional to eps as long as they are small, in every dtype. s is for outputs
        that are rounded to less than float32: off by e they move a mean square L by at most 2 e sqrt(L) + e^2 (Cauchy and
        Schwarz), and e is eps times the rows' own size. Infinite where that would say nothing.
        """
        off = relative(self._walked(experiment, self.seeds, "float32").epoch_loss, self.truth(experiment).epoch_loss)
        clear = np.vstack([np.ones((1, len(self.seeds)), bool), self.clear_of_kinks(experiment)[:-1]])
        grown = np.maximum.accumulate(np.where(clear, off, 0).max(axis=1))[:, None] / SINGLE
        if not self.is_reduced:
            return np.where(clear, self.times * (grown + ROUNDINGS) * self.eps, np.inf)
        truth = self.truth(experiment)
        outputs = np.sqrt(np.mean(np.square(truth.start.rows()))) / np.sqrt(truth.epoch_loss)
        allowed = self.times * (grown + ROUNDINGS + 2 * outputs + self.eps * outputs**2) * self.eps
        return np.where(clear & (allowed < SAYS_NOTHING), allowed, np.inf)

    def allowed_parameters(self, experiment: Experiment) -> list[Double]:
        """For each layer's weight and bias, (S,): how far it may be from the truth, relative to its largest, in the same way."""
        clear = self.clear_of_kinks(experiment)[-1]
        rounded = deviations(self._walked(experiment, self.seeds, "float32"), self.truth(experiment))
        return [np.where(clear, self.times * (np.where(clear, off, 0).max() / SINGLE + ROUNDINGS) * self.eps, np.inf)
                for _, off in rounded]

    def clear_of_kinks(self, experiment: Experiment) -> npt.NDArray[np.bool_]:
        """(E, S): whether up to and with that epoch no unit of a replica came so near to a kink that rounding decides its side.

        There the gradient jumps, and sound stacks part. Units are looked at where an epoch begins: set-ups with kinks
        have epochs of one step.
        """
        kinks = [activation.kind in ("relu", "leaky_relu") for activation in experiment.model.activations]
        if not any(kinks):
            return np.ones((experiment.epochs, len(self.seeds)), bool)
        by_reference = self._walks_with_the_reference(experiment)
        margins = (_reference_margins(experiment, self.seeds) if by_reference
                   else _least_margins(experiment, self.seeds, self._walked))
        return np.logical_and.accumulate(margins > self.margin, axis=0)

    @property
    def margin(self) -> float:
        """How near to a kink is too near, relative to the sizes of what is added up: errors that a path has grown fourfold."""
        return 4 * self.times * ROUNDINGS * self.eps


@lru_cache(maxsize=256)
def _reference(experiment: Experiment, seeds: tuple[int, ...], dtype: str) -> Run:
    return backends.train(experiment, seeds=seeds, backend="numba", dtype=dtype)


@lru_cache(maxsize=256)
def _reference_margins(experiment: Experiment, seeds: tuple[int, ...]) -> Double:
    return _least_margins(experiment, seeds, _reference)


def _least_margins(experiment: Experiment, seeds: tuple[int, ...],
                   walked: Callable[[Experiment, tuple[int, ...], str], Run]) -> Double:
    """(E, S): at the begin of each epoch, the least |z| / (sum |w x| + |b|) of inputs z of units that have a kink at 0.

    walked: from a shortened experiment, seeds and a dtype, the run to there.
    """
    start = Start(experiment, seeds, np.dtype("float64"))
    rows, margins = start.rows(), np.full((experiment.epochs, len(seeds)), np.inf)
    for epoch in range(experiment.epochs):
        earlier = replace(experiment, epochs=epoch) if epoch else None
        parameters = walked(earlier, seeds, "float64").parameters if earlier else None
        values = rows
        for (weight, bias), activation in zip(parameters or start.parameters(), experiment.model.activations, strict=True):
            z = values @ weight.swapaxes(1, 2) + bias[:, None]
            if activation.kind in ("relu", "leaky_relu"):
                sizes = np.abs(values) @ np.abs(weight).swapaxes(1, 2) + np.abs(bias)[:, None]
                margins[epoch] = np.minimum(margins[epoch], (np.abs(z) / sizes).min(axis=(1, 2)))
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
