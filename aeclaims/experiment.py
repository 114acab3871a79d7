"""Training set-ups: `Experiment` and its parts, frozen values that are checked on construction."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from aeclaims.errors import InvalidExperiment

Loss = Literal["mse", "bce", "bce_logits"]
Initialisation = Literal["pytorch", "glorot"]
ActivationKind = Literal["identity", "relu", "leaky_relu", "tanh", "sigmoid"]


def require(is_valid: bool, where: str, value: object, way_out: str) -> None:
    """Raise InvalidExperiment if `is_valid` is False. The message is `"<where> = <value>: <way out>"`."""
    if not is_valid:
        raise InvalidExperiment(f"{where} = {value!r}: {way_out}")


def _require_count(where: str, value: object) -> None:
    is_count = isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 1
    require(bool(is_count), where, value, "give a whole number of at least 1")


def _require_number(where: str, value: object, is_inside: Callable[[float], bool], way_out: str) -> None:
    is_number = isinstance(value, int | float | np.number) and math.isfinite(value) and is_inside(float(value))
    require(is_number, where, value, way_out)


# ---------------------------------------------------------------------------------------------- rows


@dataclass(frozen=True)
class Uniform:
    """Rows of independent U(0, 1) features."""

    features: int

    def __post_init__(self) -> None:
        _require_count("Uniform.features", self.features)


@dataclass(frozen=True)
class Bernoulli:
    """Rows of independent features that are 1 with probability `p`, else 0."""

    p: float = 0.5
    features: int = field(kw_only=True)

    def __post_init__(self) -> None:
        _require_number("Bernoulli.p", self.p, lambda p: 0 <= p <= 1, "give a probability in [0, 1]")
        _require_count("Bernoulli.features", self.features)


@dataclass(frozen=True)
class Beta:
    """Rows of independent Beta(a, b) features; Beta(1, 1) is uniform."""

    a: float
    b: float
    features: int = field(kw_only=True)

    def __post_init__(self) -> None:
        for name, value in (("Beta.a", self.a), ("Beta.b", self.b)):
            _require_number(name, value, lambda v: v > 0, "give a finite number above 0")
        _require_count("Beta.features", self.features)


@dataclass(frozen=True)
class Redundant:
    """Rows of `rank` independent standard normal numbers: column j repeats number j mod `rank`."""

    rank: int
    features: int = field(kw_only=True)

    def __post_init__(self) -> None:
        _require_count("Redundant.features", self.features)
        _require_count("Redundant.rank", self.rank)
        require(
            self.rank <= self.features,
            "Redundant.rank",
            self.rank,
            f"give at most the number of features ({self.features})",
        )


@dataclass(frozen=True, eq=False)
class FixedRows:
    """Your rows, shape (N, D). All seeds train on the same rows; each seed visits them in a different order."""

    array: npt.NDArray[np.floating[Any]]

    def __post_init__(self) -> None:
        try:
            array = np.array(self.array, dtype=None if np.asarray(self.array).dtype == np.float32 else np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidExperiment(
                f"FixedRows.array: not numbers ({error}); give an array (N, D) of numbers"
            ) from None
        require(array.ndim == 2, "FixedRows.array.shape", array.shape, "give two axes, (N, D): rows, then features")
        require(min(array.shape) >= 1, "FixedRows.array.shape", array.shape, "give at least one row and one feature")
        if not np.isfinite(array).all():
            row, column = (int(i) for i in np.argwhere(~np.isfinite(array))[0])
            require(
                False,
                f"FixedRows.array[{row}, {column}]",
                float(array[row, column]),
                "drop or fill the rows with values that are not finite",
            )
        array.flags.writeable = False
        object.__setattr__(self, "array", array)

    @property
    def features(self) -> int:
        """Number of features, D."""
        return int(self.array.shape[1])

    @cached_property
    def _identity(self) -> tuple[str, tuple[int, ...], bytes]:
        return str(self.array.dtype), self.array.shape, self.array.tobytes()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FixedRows) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)


Rows = Uniform | Bernoulli | Beta | Redundant | FixedRows

# --------------------------------------------------------------------------------------------- model


@dataclass(frozen=True)
class Activation:
    """Activation function of a layer.

    Attributes:
        kind: One of identity, relu, leaky_relu, tanh and sigmoid.
        slope: Slope of leaky_relu below zero; 0 for the other kinds.
    """

    kind: ActivationKind
    slope: float = 0.0

    def __post_init__(self) -> None:
        require(
            self.kind in get_args(ActivationKind),
            "Activation.kind",
            self.kind,
            f"give one of {', '.join(get_args(ActivationKind))}",
        )
        # The reference infers the sign of the input from the output. A negative slope would hide it.
        _require_number("Activation.slope", self.slope, lambda v: v >= 0, "give a finite slope of at least 0")
        require(
            self.kind == "leaky_relu" or self.slope == 0,
            "Activation.slope",
            self.slope,
            f"only leaky_relu has a slope; {self.kind} has none",
        )


IDENTITY = Activation("identity")
RELU = Activation("relu")
TANH = Activation("tanh")
SIGMOID = Activation("sigmoid")


def leaky_relu(slope: float = 0.01) -> Activation:
    """Return the activation that maps x to x if x > 0, else to slope * x."""
    return Activation("leaky_relu", slope)


@dataclass(frozen=True)
class Model:
    """An autoencoder: affine layers, each followed by its activation.

    Attributes:
        widths: Widths from the input to the output. The last one equals the first.
        activations: One activation for each affine layer.
    """

    widths: tuple[int, ...]
    activations: tuple[Activation, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        object.__setattr__(self, "activations", tuple(self.activations))
        require(len(self.widths) >= 2, "Model.widths", self.widths, "give at least an input and an output width")
        for index, width in enumerate(self.widths):
            _require_count(f"Model.widths[{index}]", width)
        require(
            self.widths[0] == self.widths[-1],
            "Model.widths",
            self.widths,
            f"the output of an autoencoder is as wide as its input: end with {self.widths[0]}",
        )
        require(
            all(isinstance(a, Activation) for a in self.activations),
            "Model.activations",
            self.activations,
            "give Activation values, such as RELU or leaky_relu(0.1)",
        )
        require(
            len(self.activations) == len(self.widths) - 1,
            "Model.activations",
            self.activations,
            f"give one for each of the {len(self.widths) - 1} affine layers",
        )

    @property
    def features(self) -> int:
        """Width of the input and of the output, D."""
        return self.widths[0]

    @property
    def bottleneck(self) -> int:
        """Narrowest width, K. Every row passes through it."""
        return min(self.widths)

    @property
    def output(self) -> Activation:
        """Last activation."""
        return self.activations[-1]

    @property
    def is_affine(self) -> bool:
        """Whether the layers up to the output activation are affine. Together they are then one affine map."""
        return all(a == IDENTITY for a in self.activations[:-1])


def affine(*widths: int, output: Activation = IDENTITY) -> Model:
    """Return a model of affine layers, followed by the `output` activation.

    `affine(2, 2, 2)` is the linear model of the answer.
    """
    return mlp(*widths, hidden=IDENTITY, output=output)


def mlp(*widths: int, hidden: Activation, output: Activation = IDENTITY) -> Model:
    """Return a model of affine layers, with the `hidden` activation between them and the `output` activation at the end."""
    return Model(widths, (hidden,) * (len(widths) - 2) + (output,))


# ----------------------------------------------------------------------------------------- optimizer


def _require_lr(where: str, lr: object) -> None:
    _require_number(where, lr, lambda v: v > 0, "give a finite learning rate above 0")


def _require_fraction(where: str, value: object) -> None:
    _require_number(where, value, lambda v: 0 <= v < 1, "give a number in [0, 1)")


def _require_decay(where: str, value: object) -> None:
    _require_number(where, value, lambda v: v >= 0, "give a finite number of at least 0")


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015). As in torch.optim.Adam, `weight_decay` is added to the gradient."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _require_lr("Adam.lr", self.lr)
        object.__setattr__(self, "betas", tuple(self.betas))
        require(len(self.betas) == 2, "Adam.betas", self.betas, "give two decay rates")
        for index, beta in enumerate(self.betas):
            _require_fraction(f"Adam.betas[{index}]", beta)
        _require_number("Adam.eps", self.eps, lambda v: v > 0, "give a finite number above 0, such as 1e-8")
        _require_decay("Adam.weight_decay", self.weight_decay)


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum and without dampening. `weight_decay` is added to the gradient."""

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _require_lr("SGD.lr", self.lr)
        _require_fraction("SGD.momentum", self.momentum)
        _require_decay("SGD.weight_decay", self.weight_decay)


Optimizer = Adam | SGD

# ---------------------------------------------------------------------------------------- experiment


@dataclass(frozen=True)
class Experiment:
    """One training set-up: all of a training except its seeds, backend, device and dtype.

    The last minibatch of an epoch holds the remaining rows.

    Attributes:
        rows: Distribution of the training rows, or your rows.
        model: Autoencoder to train.
        loss: One of mse, bce and bce_logits.
        optimizer: Adam or SGD.
        epochs: Number of epochs, E.
        n_rows: Number of rows, N. Defaults to the answer's 30,000, or to the number of your rows.
        batch_size: Rows of a minibatch, B.
        initialisation: One of pytorch and glorot, see `Start.parameters`.
        zero_grad: If False, gradients add up over all steps, as the answer's listing reads.

    Raises:
        InvalidExperiment: If a field is invalid. The message names the field, the value and the fix.
    """

    rows: Rows
    model: Model
    loss: Loss
    optimizer: Optimizer
    epochs: int
    n_rows: int = None  # type: ignore[assignment]  # set in __post_init__, so that it is always an int
    batch_size: int = 128
    initialisation: Initialisation = "pytorch"
    zero_grad: bool = True

    def __post_init__(self) -> None:
        self._check_parts()
        if self.n_rows is None:
            object.__setattr__(self, "n_rows", len(self.rows.array) if isinstance(self.rows, FixedRows) else 30_000)
        _require_count("Experiment.epochs", self.epochs)
        _require_count("Experiment.n_rows", self.n_rows)
        _require_count("Experiment.batch_size", self.batch_size)
        if isinstance(self.rows, FixedRows):
            require(
                self.n_rows == len(self.rows.array),
                "Experiment.n_rows",
                self.n_rows,
                f"{len(self.rows.array)} rows are given: leave n_rows out, or give fewer rows",
            )
        require(
            self.model.features == self.rows.features,
            "Experiment.model.widths",
            self.model.widths,
            f"the rows have {self.rows.features} features: start and end with that width",
        )
        self._check_loss()

    def _check_parts(self) -> None:
        for name, kinds in (("rows", get_args(Rows)), ("model", (Model,)), ("optimizer", get_args(Optimizer))):
            value = getattr(self, name)
            names = " or ".join(kind.__name__ for kind in kinds)
            require(isinstance(value, kinds), f"Experiment.{name}", value, f"give a value of type {names}")
        require(self.loss in get_args(Loss), "Experiment.loss", self.loss, f"give one of {', '.join(get_args(Loss))}")
        require(
            self.initialisation in get_args(Initialisation),
            "Experiment.initialisation",
            self.initialisation,
            f"give one of {', '.join(get_args(Initialisation))}",
        )
        require(isinstance(self.zero_grad, bool), "Experiment.zero_grad", self.zero_grad, "give True or False")

    def _check_loss(self) -> None:
        if self.loss == "mse":
            return
        require(
            not isinstance(self.rows, Redundant),
            "Experiment.loss",
            self.loss,
            "Redundant rows are normally distributed, and BCE needs targets in [0, 1]: use loss='mse', or rows in [0, 1]",
        )
        if isinstance(self.rows, FixedRows):
            low, high = float(self.rows.array.min()), float(self.rows.array.max())
            require(
                low >= 0 and high <= 1,
                "Experiment.rows",
                f"FixedRows from {low:g} to {high:g}",
                "BCE needs targets in [0, 1]: rescale the rows, or use loss='mse'",
            )
        is_sigmoid = self.model.output == SIGMOID
        if self.loss == "bce":
            require(
                is_sigmoid,
                "Experiment.loss",
                self.loss,
                f"the output is {self.model.output.kind}, and 'bce' takes probabilities: "
                "use output=SIGMOID, or loss='bce_logits'",
            )
        else:
            require(
                not is_sigmoid,
                "Experiment.loss",
                self.loss,
                "'bce_logits' applies the sigmoid itself: use output=IDENTITY, or loss='bce'",
            )

    @property
    def features(self) -> int:
        """Number of features, D."""
        return self.rows.features

    @property
    def steps_per_epoch(self) -> int:
        """Number of minibatches in an epoch, including a partial last one."""
        return -(-self.n_rows // self.batch_size)
