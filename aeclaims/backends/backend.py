"""What a backend says of itself: its name, what trains, what it lacks, and where it rounds more than its dtype does."""

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
# What a backend may lack. Affine layers, and minibatches of which the last is short, it cannot.
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

# The exceptions of pytest.skip, pytest.xfail and unittest, none of which is imported here.
SKIPPING = ("Skipped", "XFailed", "SkipTest")


@dataclass(frozen=True)
class Tolerance:
    """How many times further than its dtype's rounding errors a backend may be off the path, and the evidence for it."""

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
            "say what was measured, and the cause",
        )


@dataclass(frozen=True)
class Backend:
    """What trains, on one device.

    train: train(start) -> Run; the start holds its experiment.
    device: for messages, and for the checks of torch itself.
    lacks: what it cannot train, and why, such as {"float64": "this device has no double precision"}; names of SUPPORTABLE.
    tolerances: by dtype, where conformance needs more than rounding errors of that dtype explain.
    is_deterministic: whether two trainings from one start are equal to the last bit.
    is_torch: whether torch trains on that device: then torch itself is checked there, too.
    reduced: which of bfloat16 and float16 it rounds products to, where a start's `products` names it.
    optimizer: the user's own, which trains in Adam's place; empty where there is none.
    counts_on_device: whether Adam counts its steps in a tensor of float32, as in torch's compiled and captured steps. Its bias
    corrections then round to that: 1 - 0.999^2 is off by 1.5e-5 at most, and the first steps by half of that.
    note: how it trains, where that is not as its name says; a line of the report.
    Raises InvalidBackend, which names the field.
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
        """Those that it has."""
        return (*(dtype for dtype in DTYPES if dtype not in self.unsupported), *self.reduced)

    def granted(self, dtype: str) -> float:
        """How many times the usual rounding errors of that dtype are granted."""
        tolerance = self.tolerances.get(dtype)
        return tolerance.times if tolerance else 1.0

    def check(self, experiment: Experiment, dtype: npt.DTypeLike) -> None:
        """Raise NotSupported where the training needs what is lacking."""
        lacking = [
            f"{what} ({self.unsupported[what]})" for what in needs(experiment, dtype) if what in self.unsupported
        ]
        if lacking:
            raise NotSupported(f"backend {self.name} lacks {' and '.join(lacking)}")


def needs(experiment: Experiment, dtype: npt.DTypeLike) -> list[str]:
    """What of SUPPORTABLE a training needs."""
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
    """Raise an error if code of the user's skips the test: a report would say that the stack lacks something."""
    try:
        yield
    except BaseException as error:  # pytest derives its own from that
        if type(error).__name__ in SKIPPING:
            raise RuntimeError(f"{who} skipped the test: {one_line(error)}") from error
        raise


def one_line(error: BaseException) -> str:
    """An error's type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
