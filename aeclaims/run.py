"""What training left behind: `Run`, the epoch losses and final parameters of every replica."""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import scipy

from aeclaims.experiment import Activation, Experiment, Loss, Model
from aeclaims.runtime import parallel
from aeclaims.start import Array, LayerParameters, Parameters, Start

Double = npt.NDArray[np.float64]


class InvalidRun(ValueError):
    """A backend returned something that is no run of the training it was handed."""


@dataclass(frozen=True, eq=False)
class Run:
    """One training of a population.

    epoch_loss: (E, S) float64, the plain mean of each epoch's minibatch losses; NaN or infinite where a replica diverged.
    parameters: the final ones, one (weight (S, outputs, inputs), bias (S, outputs)) for each affine layer.
    Raises InvalidRun where shapes do not fit the start.
    """

    start: Start
    epoch_loss: Double
    parameters: Parameters

    def __post_init__(self) -> None:
        expected = (self.experiment.epochs, len(self.seeds))
        epoch_loss = np.asarray(self.epoch_loss, np.float64)
        if epoch_loss.shape != expected:
            raise InvalidRun(f"epoch_loss has shape {epoch_loss.shape}; (epochs, seeds) is {expected}")
        widths = self.experiment.model.widths
        parameters = tuple(LayerParameters(np.asarray(w), np.asarray(b)) for w, b in self.parameters)
        shapes = [(layer.weight.shape, layer.bias.shape) for layer in parameters]
        wanted = [((len(self.seeds), o, i), (len(self.seeds), o)) for i, o in pairwise(widths)]
        if shapes != wanted:
            raise InvalidRun(f"parameters have shapes {shapes}; (weight, bias) of each layer are {wanted}")
        object.__setattr__(self, "epoch_loss", epoch_loss)
        object.__setattr__(self, "parameters", parameters)

    @property
    def experiment(self) -> Experiment:
        """What was trained."""
        return self.start.experiment

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, in the order of the axis S."""
        return self.start.seeds

    def first_epoch_below(self, bound: float) -> npt.NDArray[np.int64]:
        """(S,): the first epoch, from 1, whose loss is below `bound`; 0 where none is. NaN is never below."""
        below = self.epoch_loss < bound
        return np.where(below.any(axis=0), below.argmax(axis=0) + 1, 0)

    def reconstruct(self, rows: npt.ArrayLike) -> Double:
        """What each replica makes of `rows`, (N, D) or (S, N, D), in float64. Returns (S, N, D)."""
        given = np.asarray(rows, np.float64)
        if given.ndim not in (2, 3) or given.shape[-1] != self.experiment.features:
            raise ValueError(
                f"rows have shape {given.shape}; give (N, {self.experiment.features}), or that for each seed"
            )
        if given.ndim == 3 and len(given) not in (1, len(self.seeds)):
            raise ValueError(f"rows have shape {given.shape}; the first axis must be 1 or the {len(self.seeds)} seeds")
        return activate(self.experiment.model.output, forward(self.experiment.model, self.parameters, given))

    @cached_property
    def final_loss(self) -> Double:
        """(S,): the loss of the final parameters on all training rows, evaluated in float64 apart from the backend."""
        rows = self.start.rows()

        def of(seed: int) -> float:
            own = tuple(
                LayerParameters(weight[seed : seed + 1], bias[seed : seed + 1]) for weight, bias in self.parameters
            )
            targets = rows[seed if len(rows) > 1 else 0].astype(np.float64)
            model = self.experiment.model
            return mean_loss(self.experiment.loss, model.output, forward(model, own, targets)[0], targets)

        return np.array(parallel.map(of, range(len(self.seeds))))

    def select(self, seeds: tuple[int, ...]) -> "Run":
        """The same run for some of its seeds, which do not depend on the others."""
        at = [self.seeds.index(seed) for seed in seeds]
        return Run(
            replace(self.start, seeds=seeds),
            self.epoch_loss[:, at],
            tuple(LayerParameters(w[at], b[at]) for w, b in self.parameters),
        )


def forward(model: Model, parameters: Parameters, rows: Double) -> Double:
    """The model's output before its last activation, in float64: rows (N, D) or (S, N, D) to (S, N, D).

    Infinite or NaN where a replica diverged, without NumPy's warnings.
    """
    values: Double = rows
    for index, (weight, bias) in enumerate(parameters):
        if index:
            values = activate(model.activations[index - 1], values)
        with np.errstate(invalid="ignore", over="ignore"):
            values = values @ np.swapaxes(weight.astype(np.float64), -1, -2) + bias.astype(np.float64)[:, None, :]
    return values


def activate(activation: Activation, values: Double) -> Double:
    """The activation of `values`, in float64."""
    match activation.kind:
        case "identity":
            return values
        case "relu" | "leaky_relu":
            return np.where(values > 0, values, activation.slope * values)
        case "tanh":
            return np.tanh(values)
        case "sigmoid":
            return np.asarray(scipy.special.expit(values))


def mean_loss(loss: Loss, output: Activation, values: Double, targets: Array) -> float:
    """The mean loss over rows and features of a model whose outputs before the last activation are `values`.

    BCE is evaluated from logits in float64, log(1 + e^z) - x z, so that no probability next to 1 is rounded.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # a replica that diverged: its loss says so
        if loss == "mse":
            return float(np.mean((activate(output, values) - targets) ** 2))
        return float(np.mean(np.logaddexp(0, values) - targets * values))
