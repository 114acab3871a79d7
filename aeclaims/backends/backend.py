"""The record of a backend: its name, its training function, the features that it lacks, and its tolerances."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from aeclaims.dtypes import FORMATS, REDUCED
from aeclaims.errors import InvalidBackend, NotSupported
from aeclaims.experiment import SGD, Experiment, FixedRows
from aeclaims.run import Run
from aeclaims.start import Start

Train = Callable[[Start], Run]
DTYPES = ("float32", "float64")
# Features that a backend may lack. It must have affine layers, and epochs with a short last minibatch.
SUPPORTABLE = (
    *DTYPES,
    "mse",
    "bce",
    "bce_logits",
    "relu",
    "leaky_relu",
    "tanh",
    "sigmoid",
    "adam",
    "sgd",
    "momentum",
    "weight decay",
    "given rows",
    "gradients that add up",
)

# The exceptions of pytest.skip, pytest.xfail and unittest. This module imports none of these.
SKIPPING = ("Skipped", "XFailed", "SkipTest")


@dataclass(frozen=True)
class Tolerance:
    """Extra tolerance of a backend: a factor on the rounding errors of a dtype along the path, with its evidence.

    Attributes:
        times: Factor, at least 1.
        evidence: The measured value, and the cause.
    Raises:
        InvalidBackend: If a field is invalid. The message names the field.
    """

    times: float
    evidence: str

    def __post_init__(self) -> None:
        _require(
            isinstance(self.times, int | float) and 1 <= self.times < float("inf"),
            "Tolerance.times",
            self.times,
            "give a number of at least 1",
        )
        _require(
            isinstance(self.evidence, str) and bool(self.evidence.strip()),
            "Tolerance.evidence",
            self.evidence,
            "give the measured value, and the cause",
        )


@dataclass(frozen=True)
class Backend:
    """The record of a backend on one device.

    Attributes:
        name: Name of the backend.
        train: Training function, train(start) -> Run. The start holds its experiment.
        device: Name of the device, for messages and for the checks of torch itself.
        unsupported: Features that it cannot train, with the reasons, such as
            {"float64": "this device has no double precision"}. The keys are names of SUPPORTABLE.
        tolerances: Extra tolerances by dtype, if the rounding errors of that dtype do not explain the deviations.
        is_deterministic: Whether two trainings from one start are equal to the last bit.
        is_torch: Whether torch trains on that device. If so, conformance checks torch itself there, too.
        reduced: Formats to which it rounds products if a start's `products` names them: bfloat16, float16.
        optimizer: Your custom optimizer, which trains in Adam's place; empty if there is none.
        counts_on_device: Whether Adam counts its steps in a float32 tensor, as torch's compiled and captured steps do. If so,
            its bias corrections round to float32: 1 - 0.999^2 is off by 1.5e-5 at most, and the first steps by half of that.
        note: Line of the report on how the backend trains, if its name does not tell.
    Raises:
        InvalidBackend: If a field is invalid. The message names the field.
    """

    name: str
    train: Train
    device: str = "cpu"
    unsupported: Mapping[str, str] = field(default_factory=dict)
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    is_deterministic: bool = True
    is_torch: bool = False
    reduced: tuple[str, ...] = ()
    optimizer: str = ""
    note: str = ""
    counts_on_device: bool = False

    def __post_init__(self) -> None:
        _require(isinstance(self.name, str) and bool(self.name), "Backend.name", self.name, "give a name")
        _require(callable(self.train), "Backend.train", self.train, "give a function train(start) -> Run")
        _require(
            isinstance(self.device, str) and bool(self.device),
            "Backend.device",
            self.device,
            "give a name, such as 'cpu'",
        )
        for flag in ("is_deterministic", "is_torch", "counts_on_device"):
            _require(
                isinstance(getattr(self, flag), bool), f"Backend.{flag}", getattr(self, flag), "give True or False"
            )
        _require(
            isinstance(self.reduced, tuple) and set(self.reduced) <= set(REDUCED),
            "Backend.reduced",
            self.reduced,
            f"give a tuple of some of {', '.join(REDUCED)}",
        )
        for where, value in (("unsupported", self.unsupported), ("tolerances", self.tolerances)):
            _require(isinstance(value, Mapping), f"Backend.{where}", value, "give a dictionary")
        for what, reason in self.unsupported.items():
            _require(what in SUPPORTABLE, "Backend.unsupported", what, f"give names of {', '.join(SUPPORTABLE)}")
            _require(
                isinstance(reason, str) and bool(reason.strip()),
                f"Backend.unsupported[{what!r}]",
                reason,
                "give the reason",
            )
        for dtype, tolerance in self.tolerances.items():
            _require(dtype in FORMATS, "Backend.tolerances", dtype, f"give one of {', '.join(FORMATS)}")
            _require(isinstance(tolerance, Tolerance), f"Backend.tolerances[{dtype!r}]", tolerance, "give a Tolerance")

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Names of the formats that it supports."""
        return (*(dtype for dtype in DTYPES if dtype not in self.unsupported), *self.reduced)

    def granted(self, dtype: str) -> float:
        """Return the factor on the usual rounding errors of that dtype that the record grants."""
        tolerance = self.tolerances.get(dtype)
        return tolerance.times if tolerance else 1.0

    def check(self, experiment: Experiment, dtype: npt.DTypeLike) -> None:
        """Raise NotSupported if the training needs a feature that the backend lacks."""
        lacking = [
            f"{what} ({self.unsupported[what]})" for what in needs(experiment, dtype) if what in self.unsupported
        ]
        if lacking:
            raise NotSupported(f"backend {self.name} lacks {' and '.join(lacking)}")


def needs(experiment: Experiment, dtype: npt.DTypeLike) -> list[str]:
    """Return the names of SUPPORTABLE that a training needs."""
    kinds = [activation.kind for activation in experiment.model.activations]
    optimizer = experiment.optimizer
    is_needed = {
        np.dtype(dtype).name: True, experiment.loss: True, type(optimizer).__name__.lower(): True,
        "momentum": isinstance(optimizer, SGD) and optimizer.momentum > 0, "weight decay": optimizer.weight_decay > 0,
        "given rows": isinstance(experiment.rows, FixedRows), "gradients that add up": not experiment.zero_grad,
    }  # fmt: skip
    return [what for what in SUPPORTABLE if is_needed.get(what) or what in kinds]


def _require(is_valid: bool, where: str, value: object, way_out: str) -> None:
    if not is_valid:
        raise InvalidBackend(f"{where} = {value!r}: {way_out}")


@contextmanager
def no_skipping(who: str) -> Iterator[None]:
    """Raise an error if your code skips the test: else a report would say that the stack lacks a feature."""
    try:
        yield
    except BaseException as error:  # pytest derives its exceptions from it
        if type(error).__name__ in SKIPPING:
            raise RuntimeError(f"{who} skipped the test: {one_line(error)}") from error
        raise


def one_line(error: BaseException) -> str:
    """Return an error's type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
