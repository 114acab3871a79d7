"""Results of a training: `Run` holds the epoch losses and the final parameters of every replica."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import scipy

from aeclaims.errors import InvalidRun
from aeclaims.experiment import Activation, Experiment, Loss, Model
from aeclaims.runtime import parallel
from aeclaims.start import Array, LayerParameters, Parameters, Start

Double = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Run:
    """Result of one training of a population.

    Attributes:
        start: Seeds, rows and initial parameters of the training.
        epoch_loss: Shape (E, S), float64. Plain mean of each epoch's minibatch losses; not finite if a replica diverged.
        parameters: Final parameters, one (weight (S, outputs, inputs), bias (S, outputs)) for each affine layer.

    Raises:
        InvalidRun: If an array does not hold real numbers, or if its shape does not fit the start.
    """

    start: Start
    epoch_loss: Double
    parameters: Parameters

    def __post_init__(self) -> None:
        expected = (self.experiment.epochs, len(self.seeds))
        epoch_loss = np.asarray(_real("epoch_loss", self.epoch_loss), np.float64)
        if epoch_loss.shape != expected:
            raise InvalidRun(f"epoch_loss has shape {epoch_loss.shape}; (epochs, seeds) is {expected}")
        widths = self.experiment.model.widths
        parameters = tuple(
            LayerParameters(_real(f"the weight of layer {number}", weight), _real(f"the bias of layer {number}", bias))
            for number, (weight, bias) in enumerate(_pairs(self.parameters), 1)
        )
        shapes = [(layer.weight.shape, layer.bias.shape) for layer in parameters]
        wanted = [((len(self.seeds), o, i), (len(self.seeds), o)) for i, o in pairwise(widths)]
        if shapes != wanted:
            raise InvalidRun(f"parameters have shapes {shapes}; (weight, bias) of each layer are {wanted}")
        object.__setattr__(self, "epoch_loss", epoch_loss)
        object.__setattr__(self, "parameters", parameters)

    @property
    def experiment(self) -> Experiment:
        """Training set-up of the run."""
        return self.start.experiment

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds, in the order of axis S."""
        return self.start.seeds

    def first_epoch_below(self, bound: float) -> npt.NDArray[np.int64]:
        """Return the first epoch with a loss below `bound`. NaN is never below.

        Returns:
            Shape (S,). Epochs count from 1; 0 if no epoch is below the bound.
        """
        below = self.epoch_loss < bound
        return np.where(below.any(axis=0), below.argmax(axis=0) + 1, 0)

    def reconstruct(self, rows: npt.ArrayLike) -> Double:
        """Return the output of each replica for `rows`, in float64.

        Args:
            rows: Shape (N, D), or (S, N, D) if each seed has different rows.

        Returns:
            Shape (S, N, D).

        Raises:
            ValueError: If the shape of the rows does not fit the model or the seeds.
        """
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
        """Loss of the final parameters on all training rows, shape (S,). It is computed in float64, without the backend."""
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
        """Return the run of some of its seeds. Seeds do not depend on each other."""
        at = [self.seeds.index(seed) for seed in seeds]
        return Run(
            replace(self.start, seeds=seeds),
            self.epoch_loss[:, at],
            tuple(LayerParameters(w[at], b[at]) for w, b in self.parameters),
        )


def _real(name: str, values: object) -> Array:
    """The values as an array of real numbers: a cast would drop imaginary parts, and read numbers from strings."""
    try:
        array = np.asarray(values)
    except Exception as error:  # an object of a backend converts itself as it likes
        raise InvalidRun(f"{name} is no array of numbers: {type(error).__name__}: {error}") from None
    if array.dtype.kind not in "fiu":
        raise InvalidRun(f"{name} has dtype {array.dtype}; real numbers are expected")
    return array


def _pairs(parameters: object) -> Iterator[tuple[object, object]]:
    """The weight and the bias of each layer."""
    if not isinstance(parameters, list | tuple):
        raise InvalidRun(f"parameters is a {type(parameters).__name__}; a tuple of (weight, bias) is expected")
    for number, layer in enumerate(parameters, 1):
        if not isinstance(layer, list | tuple) or len(layer) != 2:
            raise InvalidRun(f"layer {number} of parameters is no pair (weight, bias)")
        yield layer[0], layer[1]


def forward(model: Model, parameters: Parameters, rows: Double) -> Double:
    """Return the output of the model before its last activation, in float64.

    If a replica diverged, its output is not finite. NumPy does not warn.

    Args:
        model: Widths and activations.
        parameters: One (weight, bias) for each affine layer.
        rows: Shape (N, D) or (S, N, D).

    Returns:
        Shape (S, N, D).
    """
    values: Double = rows
    for index, (weight, bias) in enumerate(parameters):
        if index:
            values = activate(model.activations[index - 1], values)
        with np.errstate(invalid="ignore", over="ignore"):
            values = values @ np.swapaxes(weight.astype(np.float64), -1, -2) + bias.astype(np.float64)[:, None, :]
    return values


def activate(activation: Activation, values: Double) -> Double:
    """Apply the activation to `values`, in float64."""
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
    """Return the mean loss over rows and features.

    BCE is computed from logits in float64, `log(1 + e^z) - x z`, so that no probability next to 1 is rounded.

    Args:
        loss: One of mse, bce and bce_logits.
        output: Last activation of the model.
        values: Outputs of the model before the last activation.
        targets: Rows, of the same shape.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # the loss of a diverged replica is not finite
        if loss == "mse":
            return float(np.mean((activate(output, values) - targets) ** 2))
        return float(np.mean(np.logaddexp(0, values) - targets * values))
