"""What trains: the table of backends, and `train`, which hands one of them an experiment and a start."""

import importlib
import inspect
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import numpy.typing as npt

from aeclaims.backends.record import DTYPES, Backend, InvalidBackend, Lacking, Tolerance, Train, UnknownBackend
from aeclaims.experiment import Adam, Experiment
from aeclaims.formats import REDUCED
from aeclaims.own_optimizer import InvalidOptimizer, OwnOptimizer
from aeclaims.run import InvalidRun, Run
from aeclaims.start import Start, checked

__all__ = ["BACKENDS", "DTYPES", "GROUP", "LADDER", "Backend", "InvalidBackend", "Lacking", "Tolerance", "Train",
           "UnknownBackend", "check_name", "get", "rung", "train", "train_from"]

# The entry points by which other packages offer backends under a name of their own.
GROUP = "aeclaims.backends"


def _numba(device: str, own: OwnOptimizer | None = None) -> Backend:
    if device != "cpu":
        raise UnknownBackend(f"device {device!r}: numba runs on the CPU only; give 'cpu', or a torch backend")
    from aeclaims.backends.numba import population as numba_population

    return Backend("numba", numba_population.train)


def _torch(name: str, module: str, device: str, own: OwnOptimizer | None = None, **settings: Any) -> Backend:
    try:
        import torch
    except ImportError as error:
        raise UnknownBackend(f"backend {name!r}: torch cannot be imported ({error}); "
                             "install torch, or give 'numba'") from None
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UnknownBackend(f"device {device!r}: torch cannot use it ({reason}); give one of "
                             f"{', '.join(_torch_devices())}") from None
    train = importlib.import_module(f"aeclaims.backends.{module}").train
    if name == "torch-cudagraph" and torch.device(device).type != "cuda":
        raise UnknownBackend(f"device {device!r}: {name} captures CUDA graphs; give 'cuda', or the backend torch or torch-eager")
    # Apple's GPUs have no double precision.
    lacks = {"float64": "Apple's GPUs have no double precision"} if torch.device(device).type == "mps" else {}
    reduced = tuple(format for format in REDUCED if _can_round_products(device, format))
    stock = partial(train, device=device, **settings)
    if own is None:
        return Backend(name, stock, device, lacks, is_torch=True, reduced=reduced)
    trains, note = _with_own(name, stock, device, own)
    return Backend(name, trains, device, lacks, is_torch=True, reduced=reduced, optimizer=str(own), note=note)


def _with_own(name: str, stock: Callable[..., Run], device: str, own: OwnOptimizer) -> tuple[Train, str]:
    """What trains with an optimizer of the user's own, and a line that says so where it is not that backend as it is."""
    import torch

    from aeclaims.backends import torch_compiling, torch_optimizer
    from aeclaims.backends.torch import loop as torch_loop
    from aeclaims.backends.torch import population as torch_population

    tried = torch_optimizer.tried(own, device)
    if tried.alone:
        by_itself = partial(torch_loop.train, device=device, own=tried, needs_closure=tried.needs_closure)
        note = "" if name == "torch-loop" else f"{own} is trained by torch-loop, one seed at a time: {tried.alone}"
        return partial(_by_optimizer, by_itself, stock), note
    reason = ""
    if name == "torch" and torch.device(device).type == "cpu":
        reason = tried.eager or torch_compiling.why_not(tried, device)
    if name == "torch-cudagraph" and not tried.is_capturable:
        reason = "nothing says that its steps can be captured; capturable=true does, where it knows that"
    if reason:
        eager = partial(torch_population.train, device=device, is_compiled=False, own=tried)
        return partial(_by_optimizer, eager, stock), f"{own} is trained by torch-eager: {reason}"
    return partial(stock, own=tried), ""


def _by_optimizer(of_adam: Train, others: Train, experiment: Experiment, start: Start) -> Run:
    return (of_adam if isinstance(experiment.optimizer, Adam) else others)(experiment, start)


def _can_round_products(device: str, format: str) -> bool:
    """Whether torch's autocast does so there; where it does not, it warns, or raises, and leaves products as they are."""
    import torch

    try:
        with warnings.catch_warnings(action="ignore"), torch.autocast(torch.device(device).type, getattr(torch, format)):
            product = torch.nn.functional.linear(*(torch.ones(1, 1, device=device, requires_grad=True) for _ in range(2)))
        # The first gradient on a CUDA device warns that cuBLAS had no context yet; torch then makes one.
        with warnings.catch_warnings(action="ignore"):
            product.sum().backward()  # type: ignore[no-untyped-call]
    except (RuntimeError, NotImplementedError):
        return False
    return bool(product.dtype == getattr(torch, format))


def _torch_devices() -> list[str]:
    import torch

    found = ["cpu"]
    if torch.cuda.is_available():
        found += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


BACKENDS: dict[str, Callable[..., Backend]] = {
    "torch": partial(_torch, "torch", "torch.population", is_compiled=True),
    "torch-eager": partial(_torch, "torch-eager", "torch.population", is_compiled=False),
    "torch-cudagraph": partial(_torch, "torch-cudagraph", "torch.cudagraph"),
    "torch-loop": partial(_torch, "torch-loop", "torch.loop"),
    "numba": _numba,
}


# From what is plainest to what is most compiled; the first that leaves the reference is where to look. By name: backend,
# its settings.
LADDER: dict[str, tuple[str, dict[str, Any]]] = {
    "torch-loop": ("torch-loop", {}),
    "torch-eager": ("torch-eager", {}),
    "torch, aot_eager": ("torch", {"compiler": "aot_eager"}),
    "torch, inductor": ("torch", {"compiler": "inductor"}),
    "torch-cudagraph": ("torch-cudagraph", {}),
}


def rung(name: str, device: str) -> Backend:
    """A rung of the ladder on that device; raises Lacking where the device has no such rung, UnknownBackend as `get`."""
    base, settings = LADDER[name]
    if base == "torch-cudagraph" and device.partition(":")[0] != "cuda":
        raise Lacking(f"the rung {name} needs a CUDA device, and this is {device}")
    found = BACKENDS[base](device)
    return replace(found, name=name, train=partial(found.train, **settings))


def offered() -> dict[str, EntryPoint]:
    """Backends of other packages, by name; a name of ours stays ours."""
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in BACKENDS}


def check_name(name: str) -> str:
    """`name`, if it is ours, another package's, or of the form package.module:name; else raises UnknownBackend with the list."""
    package, colon, attribute = name.partition(":")
    if name in BACKENDS or (colon and package and attribute) or name in offered():
        return name
    raise UnknownBackend(f"backend {name!r}: give one of {', '.join([*BACKENDS, *offered()])}, "
                         "or package.module:name of your own")


def get(name: str, device: str = "cpu", optimizer: OwnOptimizer | None = None) -> Backend:
    """The backend of that name on that device; with an optimizer of the user's own, on a torch backend.

    What stands at package.module:name, or behind an entry point of the group aeclaims.backends, is a Backend, a function
    train(experiment, start) -> Run, or a function backend(device) -> Backend.
    Raises UnknownBackend, listing what there is, where the name, its import, the record or the device fails, and InvalidOptimizer
    where the optimizer does.
    """
    check_name(name)
    with_torch = [ours for ours in BACKENDS if ours.startswith("torch")]
    if optimizer is not None and name not in with_torch:
        raise InvalidOptimizer(f"{optimizer}: backend {name!r} takes no optimizer of torch's; give --claims-backend one of "
                               f"{', '.join(with_torch)}")
    if name in BACKENDS:
        return BACKENDS[name](device, optimizer)
    found = _found(name)
    if callable(found) and not isinstance(found, Backend) and _positional(found) == 1:
        found = found(device)
        if not isinstance(found, Backend):
            raise InvalidBackend(f"backend {name!r}: called with a device it returned a {type(found).__name__}; "
                                 "return a Backend, or take (experiment, start) and return a Run")
    if isinstance(found, Backend):
        return found
    if not callable(found):
        raise UnknownBackend(f"backend {name!r} is a {type(found).__name__}; give a Backend, a function "
                             "train(experiment, start) -> Run, or a function backend(device) -> Backend")
    return Backend(name, found, device)


def _found(name: str) -> Any:
    module, colon, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute) if colon else offered()[name].load()
    except UnknownBackend as error:
        raise UnknownBackend(f"backend {name!r}: {error}") from None
    except Exception as error:  # whatever the module of somebody else does while it is imported
        raise UnknownBackend(f"backend {name!r}: {type(error).__name__}: {error}; give one of "
                             f"{', '.join([*BACKENDS, *offered()])}, or a package.module:name that can be imported") from None


def _positional(function: Callable[..., Any]) -> int | None:
    """How many arguments a function must be given, if that can be known."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty for p in parameters)


def train(
    experiment: Experiment,
    *,
    seeds: Iterable[int],
    backend: str | Backend = "torch",
    device: str = "cpu",
    dtype: npt.DTypeLike = "float32",
) -> Run:
    """Train `experiment` once for each of `seeds`, all together.

    backend: torch, torch-eager, torch-loop, reference, package.module:name, or a Backend.    dtype: float32 or float64, or
    bfloat16 or float16, which products are then rounded to.
    Returns a Run.    Raises InvalidExperiment (seeds, dtype), UnknownBackend, Lacking, and InvalidRun where the backend hands
    back something else than a run of this start.
    """
    return train_from(checked(experiment, seeds, dtype), backend if isinstance(backend, Backend) else get(backend, device))


def train_from(start: Start, backend: Backend) -> Run:
    """Train from a start; what `train` raises, where the backend's part of it fails."""
    if start.format.name not in backend.dtypes:
        raise UnknownBackend(f"dtype {start.format.name!r}: {backend.name} on {backend.device} has "
                             f"{' and '.join(backend.dtypes)} only")
    backend.check(start.experiment, start.dtype)
    try:
        run = backend.train(start.experiment, start)
    except InvalidRun as error:
        raise InvalidRun(f"backend {backend.name}: {error}") from None
    if not isinstance(run, Run):
        raise InvalidRun(f"backend {backend.name} returned a {type(run).__name__}; a Run is expected")
    if run.start != start:
        raise InvalidRun(f"backend {backend.name} returned a run of another start, with seeds {run.seeds}; "
                         f"{start.seeds} were asked for")
    return run
