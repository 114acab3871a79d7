"""What trains: the table of backends, and `train`, which hands one of them an experiment and a start."""

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy.typing as npt

from aeclaims.experiment import Experiment
from aeclaims.run import InvalidRun, Run
from aeclaims.start import Start, check_dtype, check_seeds

Train = Callable[[Experiment, Start], Run]


class UnknownBackend(ValueError):
    """No such backend, device or dtype; the message lists the right ones."""


@dataclass(frozen=True)
class Backend:
    """What trains, on one device: `train(experiment, start) -> Run`."""

    name: str
    train: Train
    device: str = "cpu"
    dtypes: tuple[str, ...] = ("float32", "float64")


def _reference(device: str) -> Backend:
    if device != "cpu":
        raise UnknownBackend(f"device {device!r}: the reference runs on the CPU only; give 'cpu', or a torch backend")
    from aeclaims.backends import reference

    return Backend("reference", reference.train)


def _torch(name: str, module: str, device: str, **settings: Any) -> Backend:
    try:
        import torch
    except ImportError as error:
        raise UnknownBackend(f"backend {name!r}: torch cannot be imported ({error}); "
                             "install torch, or give 'reference'") from None
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
    dtypes = ("float32",) if torch.device(device).type == "mps" else ("float32", "float64")
    return Backend(name, partial(train, device=device, **settings), device, dtypes)


def _torch_devices() -> list[str]:
    import torch

    found = ["cpu"]
    if torch.cuda.is_available():
        found += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


BACKENDS: dict[str, Callable[[str], Backend]] = {
    "torch": partial(_torch, "torch", "torch_population", is_compiled=True),
    "torch-eager": partial(_torch, "torch-eager", "torch_population", is_compiled=False),
    "torch-cudagraph": partial(_torch, "torch-cudagraph", "torch_cudagraph"),
    "torch-loop": partial(_torch, "torch-loop", "torch_loop"),
    "reference": _reference,
}


def check_name(name: str) -> str:
    """`name`, if it is one of ours or has the form package.module:name; else raises UnknownBackend with the list."""
    package, colon, attribute = name.partition(":")
    if name in BACKENDS or (colon and package and attribute):
        return name
    raise UnknownBackend(f"backend {name!r}: give one of {', '.join(BACKENDS)}, or package.module:name of your own")


def get(name: str, device: str = "cpu") -> Backend:
    """The backend of that name on that device.

    package.module:name is a Backend, or a function train(experiment, start) -> Run.
    Raises UnknownBackend, listing what there is, where the name, its import or the device fails.
    """
    check_name(name)
    if name in BACKENDS:
        return BACKENDS[name](device)
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownBackend(f"backend {name!r}: {error}; give one of {', '.join(BACKENDS)}, or a "
                             "package.module:name that can be imported") from None
    if isinstance(found, Backend):
        return found
    if not callable(found):
        raise UnknownBackend(f"backend {name!r} is a {type(found).__name__}; "
                             "give a Backend, or a function train(experiment, start) -> Run")
    return Backend(name, found, device)


def train(
    experiment: Experiment,
    *,
    seeds: Iterable[int],
    backend: str | Backend = "torch",
    device: str = "cpu",
    dtype: npt.DTypeLike = "float32",
) -> Run:
    """Train `experiment` once for each of `seeds`, all together.

    backend: torch, torch-eager, torch-loop, reference, package.module:name, or a Backend.    dtype: float32 or float64.
    Returns a Run.    Raises InvalidExperiment (seeds, dtype), UnknownBackend, and InvalidRun where the backend hands
    back something else than a run of this start.
    """
    start = Start(experiment, check_seeds(seeds), check_dtype(dtype))
    chosen = backend if isinstance(backend, Backend) else get(backend, device)
    if start.dtype.name not in chosen.dtypes:
        raise UnknownBackend(f"dtype {start.dtype.name!r}: {chosen.name} on {chosen.device} has "
                             f"{' and '.join(chosen.dtypes)} only")
    try:
        run = chosen.train(experiment, start)
    except InvalidRun as error:
        raise InvalidRun(f"backend {chosen.name}: {error}") from None
    if not isinstance(run, Run):
        raise InvalidRun(f"backend {chosen.name} returned a {type(run).__name__}; a Run is expected")
    if run.start != start:
        raise InvalidRun(f"backend {chosen.name} returned a run of another start, with seeds {run.seeds}; "
                         f"{start.seeds} were asked for")
    return run
