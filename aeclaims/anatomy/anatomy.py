"""What is asked about a loss, and what theory answers: `Question`, `Level`, `Advice`, `Diagnosis` and `Anatomy`."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from aeclaims.experiment import ActivationKind, require

LOSSES = ("mse", "bce", "bce_logits", "vae_bce", "cross_entropy")
OUTPUTS = ("identity", "sigmoid", "relu", "leaky_relu", "tanh", "softmax")
# What the output is where nobody says so: what each loss is meant for.
USUAL_OUTPUT = {"bce": "sigmoid", "vae_bce": "sigmoid"}
# Bits of the fraction, which set a number's spacing.
FRACTION = {"float64": 52, "float32": 23, "float16": 10, "bfloat16": 7}


@dataclass(frozen=True)
class Question:
    """Somebody's loss: which, of what model, and how far it has come.

    bottleneck: the narrowest width, None for no bottleneck. activation: of the hidden layers, identity where all are affine; None
    where nobody said. output: the last activation; for cross_entropy, softmax means that the loss is handed probabilities.
    smoothing, n_classes: of cross_entropy's labels. observed: the loss as it stands, in `unit`. dtype: what it is computed in.
    Raises InvalidExperiment, naming the field, the value and the way out.
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
            f"{self.loss} judges each feature by itself: a softmax couples them; give it to cross_entropy",
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
            "the floor of cross-entropy does not depend on it: the rows are the targets; leave it out",
        )

    @property
    def unit(self) -> str:
        """What the loss is a mean of."""
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
    """A value on the scale of the loss. is_bound: no parameters of the model asked about get below it.

    error: the standard error of a value from a sample, 0 where it is exact.    note: why it lies there, or how it was found.
    """

    name: str
    value: float
    note: str
    is_bound: bool = False
    error: float = 0.0


@dataclass(frozen=True)
class Advice:
    """Something to change, and the floor that it would give; with what predicting the mean would then cost."""

    change: str
    floor: float
    mean_cost: float | None = None


@dataclass(frozen=True)
class Diagnosis:
    """Something found in the rows, or in where the observed loss lies."""

    id: str
    statement: str


@dataclass(frozen=True)
class Anatomy:
    """What a loss is made of, on rows that were looked at; all numbers in `question.unit`.

    entropy: the targets' own, irreducible by any model. output_floor: the same for an output that cannot leave its range.
    class_floor: of affine layers with a sigmoid. bottleneck_floor: of affine layers through the code; under BCE a value that
    they reach, for their floor has no closed form. Each is None where it does not apply. mean_cost: what predicting each
    column's mean costs. floor: the highest bound that holds for the model asked about. left: what training can win: the
    observed loss, or the mean's cost, less the floor.
    levels: all of these in ascending order.    sentence: the same in plain words.    notes: how it was computed.
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
        """The targets' own part of the loss: 0 for MSE, -inf for BCE of targets outside [0, 1]."""
        return value(self.reference_values, ENTROPY)

    @property
    def mean_cost(self) -> float:
        """The loss of predicting each column's mean."""
        return value(self.reference_values, MEAN)

    @property
    def output_floor(self) -> float | None:
        """The floor of an output that cannot leave its range."""
        return self._value(OUTPUT)

    @property
    def class_floor(self) -> float | None:
        """The floor of affine layers with a sigmoid output under BCE."""
        return self._value(CLASS)

    @property
    def bottleneck_floor(self) -> float | None:
        """The floor of affine layers through the code under MSE; under BCE a value that they reach."""
        return self._value(BOTTLENECK)

    def _value(self, name: str) -> float | None:
        return None if at(self.reference_values, name) is None else value(self.reference_values, name)

    @property
    def floor(self) -> float:
        """The highest bound that holds for the model asked about."""
        return floor(self.reference_values)

    @property
    def left(self) -> float:
        """What training can win."""
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
    """The level of that name."""
    return next((level for level in reference_values if level.name == name), None)


def value(reference_values: Iterable[ReferenceValue], name: str) -> float:
    """The value of the level of that name, which is among them."""
    found = at(reference_values, name)
    assert found is not None, name
    return found.value


def floor(reference_values: Iterable[ReferenceValue]) -> float:
    """The highest of the levels that are bounds."""
    return max(level.value for level in reference_values if level.is_bound)


def format_number(number: float) -> str:
    """Four digits after the point where that says something, else four digits."""
    return f"{number:.4f}" if number == 0 or 0.01 <= abs(number) < 100 else f"{number:.4g}"
