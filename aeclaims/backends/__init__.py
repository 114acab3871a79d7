"""The registry of backends, and `train`, which passes a start to one of them."""

import importlib
import inspect
import os
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from aeclaims.backends.backend import DTYPES, Backend, Tolerance, Train, no_skipping, one_line
from aeclaims.dtypes import REDUCED
from aeclaims.errors import InvalidBackend, InvalidOptimizer, InvalidRun, NotSupported, UnknownBackend
from aeclaims.experiment import Adam, Experiment
from aeclaims.run import Run
from aeclaims.start import Start, checked

if TYPE_CHECKING:
    from aeclaims.backends.torch.compile import Compilation
    from aeclaims.backends.torch.custom_optimizers import CustomOptimizer

__all__ = [
    "BACKENDS",
    "DTYPES",
    "GROUP",
    "Backend",
    "InvalidBackend",
    "InvalidOptimizer",
    "NotSupported",
    "Tolerance",
    "Train",
    "UnknownBackend",
    "check_name",
    "get",
    "no_skipping",
    "one_line",
    "train",
    "train_from",
]

# The group of entry points under which other packages register backends.
GROUP = "aeclaims.backends"
TORCH = ("torch", "torch-eager", "torch-compile", "torch-cudagraph", "torch-loop")
COMPILED = ("torch", "torch-compile")
CACHE = "TORCHINDUCTOR_CACHE_DIR"


def _numba(
    device: str, optimizer: "CustomOptimizer | None" = None, compilation: "Compilation | None" = None
) -> Backend:
    if device != "cpu":
        raise UnknownBackend(f"device {device!r}: numba runs on the CPU only; give 'cpu', or a torch backend")
    try:
        from aeclaims.backends.numba import population
    except Exception as error:  # numba reads settings at import, such as NUMBA_NUM_THREADS
        raise UnknownBackend(
            f"backend 'numba': numba cannot be imported ({one_line(error)}); repair numba, or give a torch backend"
        ) from None

    return Backend("numba", population.train)


def _oracle(
    device: str, optimizer: "CustomOptimizer | None" = None, compilation: "Compilation | None" = None
) -> Backend:
    if device != "cpu":
        raise UnknownBackend(f"device {device!r}: oracle runs on the CPU only; give 'cpu', or a torch backend")
    from aeclaims.backends import oracle

    return Backend("oracle", oracle.train)


def _torch(
    name: str,
    device: str,
    optimizer: "CustomOptimizer | None" = None,
    compilation: "Compilation | None" = None,
) -> Backend:
    try:
        import torch
    except Exception as error:  # torch reads settings at import, such as TORCH_LOGS
        raise UnknownBackend(
            f"backend {name!r}: torch cannot be imported ({one_line(error)}); install or repair torch, or give 'numba'"
        ) from None
    if folder := os.environ.get(CACHE):
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:  # torch 2.13 makes it with the first optimizer, which fails if it cannot
            raise UnknownBackend(
                f"{CACHE}={folder}: torch cannot make this folder ({one_line(error)}); give one that it can write to"
            ) from None
    try:
        torch.zeros(1, device=device).item()  # the device meta makes tensors without numbers
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UnknownBackend(
            f"device {device!r}: torch cannot use it ({reason}); give one of {', '.join(_torch_devices())}"
        ) from None
    if name == "torch-cudagraph" and torch.device(device).type != "cuda":
        raise UnknownBackend(
            f"device {device!r}: {name} captures CUDA graphs; give 'cuda', or the backend torch or torch-eager"
        )
    if compilation is not None:
        compilation.check()
    # Apple's GPUs have no double precision.
    unsupported = {"float64": "Apple's GPUs have no double precision"} if torch.device(device).type == "mps" else {}
    reduced = tuple(format for format in REDUCED if _can_round_products(device, format))
    stock = _torch_trainer(name, device, compilation)
    counts = name == "torch-cudagraph" or (compilation is not None and compilation.scope == "step")
    if optimizer is None:
        return Backend(name, stock, device, unsupported, is_torch=True, reduced=reduced, counts_on_device=counts)
    trainer, note = _with_optimizer(name, stock, device, optimizer, compilation)
    return Backend(
        name, trainer, device, unsupported, is_torch=True, reduced=reduced, optimizer=str(optimizer), note=note
    )


def _torch_trainer(name: str, device: str, compilation: "Compilation | None") -> Callable[..., Run]:
    """Return the training function of that name. It takes a start, and a custom optimizer as `own`."""
    from aeclaims.backends.torch import cudagraph, loop, population
    from aeclaims.backends.torch.compile import Compilation

    match name:
        case "torch-loop":
            return partial(loop.train, device=device)
        case "torch-compile":
            return partial(loop.train, device=device, compilation=compilation or Compilation())
        case "torch-cudagraph":
            return partial(cudagraph.train, device=device)
        case "torch" if compilation is None:
            return partial(population.train_by_default, device=device)
        case _:
            return partial(population.train, device=device, compilation=compilation)


def _with_optimizer(
    name: str,
    stock: Callable[..., Run],
    device: str,
    custom: "CustomOptimizer",
    compilation: "Compilation | None" = None,
) -> tuple[Train, str]:
    """Return a training function with a custom optimizer, and a note if another backend than the named one trains."""
    from aeclaims.backends.torch import custom_optimizers, population

    trial = custom_optimizers.try_out(custom, device)
    if trial.loop_reason or name in ("torch-loop", "torch-compile"):
        base = "torch-compile" if compilation is not None or name == "torch-compile" else "torch-loop"
        alone = partial(_torch_trainer(base, device, compilation), own=custom, needs_closure=trial.needs_closure)
        note = "" if name == base else f"{custom} is trained by {base}, one seed at a time: {trial.loop_reason}"
        return partial(_by_optimizer, alone, stock), note
    if name == "torch-cudagraph" and not trial.is_capturable:
        eager = partial(population.train, device=device, own=custom)
        return partial(_by_optimizer, eager, stock), (
            f"{custom} is trained by torch-eager: its parameter groups do not set capturable; try capturable=true"
        )
    return partial(stock, own=custom), ""


def _by_optimizer(of_adam: Train, others: Train, start: Start) -> Run:
    return (of_adam if isinstance(start.experiment.optimizer, Adam) else others)(start)


def _can_round_products(device: str, format: str) -> bool:
    """Return whether torch's autocast rounds products to that format on that device.

    If it cannot, it warns or raises, and leaves products as they are.
    """
    import torch

    # The first gradient on a CUDA device warns that cuBLAS had no context yet; torch then makes one.
    with warnings.catch_warnings(action="ignore"):
        try:
            with torch.autocast(torch.device(device).type, getattr(torch, format)):
                product = torch.nn.functional.linear(
                    *(torch.ones(1, 1, device=device, requires_grad=True) for _ in range(2))
                )
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
    **{name: partial(_torch, name) for name in TORCH}, "numba": _numba, "oracle": _oracle,
}  # fmt: skip


def offered() -> dict[str, EntryPoint]:
    """Return the backends of other packages, by name. They cannot replace a shipped backend."""
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in BACKENDS}


def check_name(name: str) -> str:
    """Return `name` if it is a shipped backend, a registered one, or of the form package.module:name.

    Raises:
        UnknownBackend: If it is none of these; the message lists the valid names.
    """
    package, colon, attribute = name.partition(":")
    if name in BACKENDS or (colon and package and attribute) or name in offered():
        return name
    raise UnknownBackend(
        f"backend {name!r}: give one of {', '.join([*BACKENDS, *offered()])}, or your own as package.module:name"
    )


def get(
    name: str,
    device: str = "cpu",
    optimizer: "CustomOptimizer | None" = None,
    compilation: "Compilation | None" = None,
) -> Backend:
    """Return the backend of that name on that device.

    Args:
        name: A shipped backend's name, an entry point of the group aeclaims.backends, or package.module:name. The object there
            is a Backend, a function train(start) -> Run, or a function backend(device) -> Backend.
        device: torch's name of the device.
        optimizer: A custom optimizer in Adam's place, on a torch backend.
        compilation: Settings of torch.compile, on the backends torch and torch-compile.
    Returns:
        The backend.
    Raises:
        UnknownBackend: If the name, its import, its record, the device or the compiler is wrong. The message lists valid ones.
        InvalidOptimizer: If the optimizer cannot train.
    Example:
        >>> get("numba").name
        'numba'
    """
    check_name(name)
    if optimizer is not None and name not in TORCH:
        raise InvalidOptimizer(
            f"{optimizer}: backend {name!r} takes no torch optimizer; give --claims-backend one of {', '.join(TORCH)}"
        )
    if compilation is not None and name not in COMPILED:
        raise UnknownBackend(
            f"backend {name!r} does not call torch.compile; give --claims-backend one of {', '.join(COMPILED)}, "
            "or leave --claims-compile out"
        )
    if name in BACKENDS:
        return BACKENDS[name](device, optimizer, compilation)
    found = _found(name)
    if callable(found) and not isinstance(found, Backend) and _takes_device(found):
        found = found(device)
        if not isinstance(found, Backend):
            raise InvalidBackend(
                f"backend {name!r}: called with a device it returned a {type(found).__name__}; "
                "return a Backend, or take a start and return a Run"
            )
    if isinstance(found, Backend):
        return found
    if not callable(found):
        raise UnknownBackend(
            f"backend {name!r} is a {type(found).__name__}; give a Backend, a function "
            "train(start) -> Run, or a function backend(device) -> Backend"
        )
    return Backend(name, found, device)


def _found(name: str) -> Any:
    module, colon, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute) if colon else offered()[name].load()
    except UnknownBackend as error:
        raise UnknownBackend(f"backend {name!r}: {error}") from None
    except (Exception, SystemExit) as error:  # the module of another package may raise anything at import
        raise UnknownBackend(
            f"backend {name!r}: {type(error).__name__}: {error}; give one of "
            f"{', '.join([*BACKENDS, *offered()])}, or a package.module:name that can be imported"
        ) from None


def _takes_device(function: Callable[..., Any]) -> bool:
    """Return whether `device` is the only required argument of a function.

    If it is, the function makes a backend. If not, the function is the training function of a backend.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return [parameter.name for parameter in parameters if parameter.default is parameter.empty] == ["device"]


def train(
    experiment: Experiment,
    *,
    seeds: Iterable[int],
    backend: str | Backend = "torch",
    device: str = "cpu",
    dtype: npt.DTypeLike = "float32",
) -> Run:
    """Train `experiment` once for each of `seeds`, all together.

    Args:
        experiment: The training set-up.
        seeds: Seeds of the replicas.
        backend: A Backend, or a name: torch, torch-eager, torch-loop, numba, oracle, or package.module:name.
        device: torch's name of the device.
        dtype: float32 or float64; or bfloat16 or float16, to which products are then rounded.
    Returns:
        The run of all seeds.
    Raises:
        InvalidExperiment: If the seeds or the dtype are invalid.
        UnknownBackend: If the backend or the device does not exist, or if the backend lacks the dtype.
        NotSupported: If the training needs a feature that the backend lacks.
        InvalidRun: If the backend returns anything but a run of this start.
    """
    return train_from(
        checked(experiment, seeds, dtype), backend if isinstance(backend, Backend) else get(backend, device)
    )


def train_from(start: Start, backend: Backend) -> Run:
    """Train from a start with a backend.

    Raises:
        UnknownBackend: If the backend lacks the dtype.
        NotSupported: If the training needs a feature that the backend lacks.
        InvalidRun: If the backend returns anything but a run of this start.
    """
    if start.format.name not in backend.dtypes:
        raise UnknownBackend(
            f"dtype {start.format.name!r}: {backend.name} on {backend.device} has {' and '.join(backend.dtypes)} only"
        )
    backend.check(start.experiment, start.dtype)
    try:
        with no_skipping(f"backend {backend.name}"):
            run = backend.train(start)
    except InvalidRun as error:
        raise InvalidRun(f"backend {backend.name}: {error}") from None
    if not isinstance(run, Run):
        raise InvalidRun(f"backend {backend.name} returned a {type(run).__name__}; a Run is expected")
    if run.start != start:
        raise InvalidRun(
            f"backend {backend.name} returned a run of another start, with seeds {run.seeds}; "
            f"{start.seeds} were requested"
        )
    return run
