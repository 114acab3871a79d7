"""Questions about a loss and the answers of theory: `Question`, `ReferenceValue`, `Advice`, `Diagnosis`, `Anatomy`."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from aeclaims.experiment import ActivationKind, require

LOSSES = ("mse", "bce", "bce_logits", "vae_bce", "cross_entropy")
OUTPUTS = ("identity", "sigmoid", "relu", "leaky_relu", "tanh", "softmax")
# Output activation for which each loss is meant, the default of a question; identity for the other losses.
USUAL_OUTPUT = {"bce": "sigmoid", "vae_bce": "sigmoid"}
# Fraction bits of each format. They set the spacing of its numbers.
FRACTION = {"float64": 52, "float32": 23, "float16": 10, "bfloat16": 7}


@dataclass(frozen=True)
class Question:
    """A question about your loss: its kind, its model and its present value.

    Attributes:
        loss: One of mse, bce, bce_logits, vae_bce and cross_entropy.
        bottleneck: Narrowest width, or None for no bottleneck.
        observed: Present loss, in `unit`, or None.
        activation: Activation of the hidden layers: identity if all are affine, None if unknown.
        output: Last activation. For cross_entropy, softmax means that the loss receives probabilities.
        smoothing: Label smoothing of cross_entropy.
        n_classes: Number of classes of cross_entropy.
        dtype: Format in which the loss is computed.
        batch_size: Rows of a minibatch, B.

    Raises:
        InvalidExperiment: If a field is invalid. The message names the field, the value and the fix.
    """

    loss: str
    bottleneck: int | None = None
    observed: float | None = None
    activation: str | None = None
    output: str | None = None
    smoothing: float = 0.0
    n_classes: int | None = None
    dtype: str = "float32"
    batch_size: int = 128

    def __post_init__(self) -> None:
        object.__setattr__(self, "loss", str(self.loss).replace("-", "_"))
        require(self.loss in LOSSES, "loss", self.loss, f"give one of {', '.join(LOSSES)}")
        require(
            self.activation is None or self.activation in get_args(ActivationKind),
            "activation",
            self.activation,
            f"give one of {', '.join(get_args(ActivationKind))}",
        )
        if self.output is None:
            object.__setattr__(self, "output", USUAL_OUTPUT.get(self.loss, "identity"))
        require(self.output in OUTPUTS, "output", self.output, f"give one of {', '.join(OUTPUTS)}")
        require(
            self.output != "softmax" or self.loss == "cross_entropy",
            "output",
            self.output,
            f"{self.loss} judges each feature separately, and a softmax couples them: use it with loss='cross_entropy'",
        )
        require(self.dtype in FRACTION, "dtype", self.dtype, f"give one of {', '.join(FRACTION)}")
        self._check_numbers()

    def _check_numbers(self) -> None:
        is_number = self.observed is None or (isinstance(self.observed, int | float) and math.isfinite(self.observed))
        require(is_number, "observed", self.observed, "give the loss as a finite number")
        for name, least in (("bottleneck", 1), ("n_classes", 2), ("batch_size", 1)):
            value = getattr(self, name)
            is_count = value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= least)
            require(is_count, name, value, f"give a whole number of at least {least}")
        require(0 <= self.smoothing <= 1, "smoothing", self.smoothing, "give a number in [0, 1]")
        for name in ("smoothing", "n_classes"):
            require(
                self.loss == "cross_entropy" or not getattr(self, name),
                name,
                getattr(self, name),
                f"{self.loss} has no classes: leave it out, or give loss='cross_entropy'",
            )
        require(
            self.loss != "cross_entropy" or self.bottleneck is None,
            "bottleneck",
            self.bottleneck,
            "the rows are the targets, so the floor of cross-entropy does not depend on it: leave it out",
        )

    @property
    def unit(self) -> str:
        """Unit of the loss."""
        return {
            "mse": "squared error per feature",
            "vae_bce": "nats per row, summed over features",
            "cross_entropy": "nats per row",
        }.get(self.loss, "nats per feature")

    @property
    def is_affine(self) -> bool:
        """Whether the layers are known to be one affine map."""
        return self.activation == "identity"


@dataclass(frozen=True)
class ReferenceValue:
    """A value on the scale of the loss.

    Attributes:
        name: Name of the value.
        value: Value, in the unit of the question.
        note: Reason for the value, or its computation.
        is_bound: Whether no parameters of your model get below the value.
        error: Standard error of a value from a sample; 0 if the value is exact.
    """

    name: str
    value: float
    note: str
    is_bound: bool = False
    error: float = 0.0


@dataclass(frozen=True)
class Advice:
    """A possible change, the floor that it would give, and the cost of predicting the mean after it."""

    change: str
    floor: float
    mean_cost: float | None = None


@dataclass(frozen=True)
class Diagnosis:
    """A finding about the rows, the output, the rounding, or the position of the observed loss."""

    id: str
    statement: str


@dataclass(frozen=True)
class Anatomy:
    """The parts of a loss on given rows. All numbers are in `question.unit`.

    A floor is None if it does not apply.

    Attributes:
        question: Question about the loss.
        count: Number of rows.
        features: Number of features, or of classes.
        low: Least target.
        high: Largest target.
        reference_values: Floors, the cost of predicting the mean and the observed loss, in ascending order.
        sentence: Summary of these values.
        advices: Possible changes, with the floor that each would give.
        diagnoses: Findings about the rows and the observed loss.
        notes: Details of the computation.
    """

    question: Question
    count: int
    features: int
    low: float
    high: float
    reference_values: tuple[ReferenceValue, ...]
    sentence: str
    advices: tuple[Advice, ...]
    diagnoses: tuple[Diagnosis, ...]
    notes: tuple[str, ...]

    @property
    def entropy(self) -> float:
        """Entropy of the targets, which no model can remove: 0 for MSE, -inf for BCE of targets outside [0, 1]."""
        return value(self.reference_values, ENTROPY)

    @property
    def mean_cost(self) -> float:
        """Loss of predicting each column's mean."""
        return value(self.reference_values, MEAN)

    @property
    def output_floor(self) -> float | None:
        """Floor of an output that cannot leave its range."""
        return self._value(OUTPUT)

    @property
    def class_floor(self) -> float | None:
        """Floor of affine layers with a sigmoid output under BCE."""
        return self._value(CLASS)

    @property
    def bottleneck_floor(self) -> float | None:
        """Floor of affine layers with the bottleneck under MSE.

        Under BCE it has no closed form. The value is then one that affine layers reach.
        """
        return self._value(BOTTLENECK)

    def _value(self, name: str) -> float | None:
        return None if at(self.reference_values, name) is None else value(self.reference_values, name)

    @property
    def floor(self) -> float:
        """Highest bound that holds for your model."""
        return floor(self.reference_values)

    @property
    def left(self) -> float:
        """Possible gain of training: the observed loss, or the cost of predicting the mean, minus the floor."""
        return (self.mean_cost if self.question.observed is None else self.question.observed) - self.floor


ENTROPY, OUTPUT, CLASS, BOTTLENECK, MEAN, OBSERVED, TRAINED = (
    "entropy of the targets",
    "range of the output",
    "class floor",
    "bottleneck floor",
    "predicting the mean",
    "your loss",
    "trained here",
)


def at(reference_values: Iterable[ReferenceValue], name: str) -> ReferenceValue | None:
    """Return the reference value of that name, or None."""
    return next((level for level in reference_values if level.name == name), None)


def value(reference_values: Iterable[ReferenceValue], name: str) -> float:
    """Return the value of that name, which must be present."""
    found = at(reference_values, name)
    assert found is not None, name
    return found.value


def floor(reference_values: Iterable[ReferenceValue]) -> float:
    """Return the highest bound."""
    return max(level.value for level in reference_values if level.is_bound)


def format_number(number: float) -> str:
    """Format a number with four decimals if its size is 0 or in [0.01, 100), else with four digits."""
    return f"{number:.4f}" if number == 0 or 0.01 <= abs(number) < 100 else f"{number:.4g}"
