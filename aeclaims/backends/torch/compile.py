"""The settings of torch.compile that --claims-compile gives. They are checked, and passed to torch unchanged."""

import difflib
import errno
import pkgutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from aeclaims.backends.backend import one_line
from aeclaims.errors import NotSupported, UnknownBackend

Scope = Literal["model", "step"]
Mode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
CANNOT_COMPILE: Final = "torch could not compile the training"
NOTHING_COMPILED: Final = (
    "torch.compile compiled nothing: torch is told not to compile (TORCHDYNAMO_DISABLE, TORCH_COMPILE_DISABLE, "
    "torch.compiler.set_stance, a recompile limit), TORCHDYNAMO_SUPPRESS_ERRORS hides an error, or a compiler skips every graph"
)
# Errors if the cache folder cannot be written, or is full.
UNWRITABLE: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
FLAGS: Final = {"true": True, "false": False}


@dataclass(frozen=True)
class Compilation:
    """The arguments of torch.compile, and the function that it compiles.

    Args:
        backend: A registered backend's name, or module:function.
        mode: A mode of inductor; None for torch's default.
        dynamic: Whether sizes are symbols; None lets torch decide, as it does for most users.
        fullgraph: Whether a graph break is an error.
        scope: "model" compiles the network with its loss; "step" compiles the optimizer's step with them.
    """

    backend: str = "inductor"
    mode: Mode | None = None
    dynamic: bool | None = None
    fullgraph: bool = False
    scope: Scope = "model"

    def __str__(self) -> str:
        shown = {name: value for name, value in vars(self).items() if value is not None}
        return ",".join(
            f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in shown.items()
        )

    @property
    def uses_cudagraphs(self) -> bool:
        """Whether results lie in memory that the next call overwrites."""
        return self.mode in ("reduce-overhead", "max-autotune")

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, which torch compiles at its first call."""
        import torch

        backend = pkgutil.resolve_name(self.backend) if ":" in self.backend else self.backend
        with quiet():
            compiled: Callable[..., Any] = torch.compile(
                function, backend=backend, mode=self.mode, dynamic=self.dynamic, fullgraph=self.fullgraph
            )
        return compiled

    def check(self) -> None:
        """Raise UnknownBackend if torch has no such backend, or if module:function cannot be imported."""
        import torch

        registered = torch.compiler.list_backends(exclude_tags=())
        if ":" not in self.backend and self.backend not in registered:
            near = difflib.get_close_matches(self.backend, registered, 1)
            raise UnknownBackend(
                f"backend={self.backend}: {''.join(f'{name}? ' for name in near)}give one of {', '.join(registered)}, "
                "or module:function"
            )
        if ":" in self.backend:
            try:
                found = pkgutil.resolve_name(self.backend)
            except (Exception, SystemExit) as error:  # any import of the user's module may fail
                raise UnknownBackend(
                    f"backend={self.backend}: it cannot be imported ({one_line(error)}); give "
                    f"module:function, or one of {', '.join(registered)}"
                ) from None
            if not callable(found):
                raise UnknownBackend(
                    f"backend={self.backend} is a {type(found).__name__}; give a function "
                    "(graph_module, example_inputs) -> callable"
                )
        if self.mode and self.backend != "inductor":
            raise UnknownBackend(
                f"mode={self.mode}: modes are inductor's, and the backend is {self.backend}; leave mode out"
            )


def parse(text: str) -> Compilation:
    """Parse the settings `backend=...,mode=...,dynamic=...,fullgraph=...,scope=...`, each of them optional.

    Args:
        text: Settings as name=value, separated by commas.
    Returns:
        The settings. The names of backends are checked later, by `Compilation.check`, which needs torch.
    Raises:
        UnknownBackend: If a name or a value is wrong. The message names it, and lists the valid ones.
    Example:
        >>> parse("mode=max-autotune,dynamic=true").dynamic
        True
    """
    choices: dict[str, Any] = {
        "backend": None,
        "mode": {mode: mode for mode in get_args(Mode)},
        "dynamic": FLAGS,
        "fullgraph": FLAGS,
        "scope": {scope: scope for scope in get_args(Scope)},
    }
    settings: dict[str, Any] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name not in choices or not value:
            raise UnknownBackend(f"{part.strip()!r}: give {', '.join(f'{choice}=...' for choice in choices)}")
        if name in settings:
            raise UnknownBackend(f"{name!r} occurs twice in {text!r}: give it once")
        if choices[name] is not None and value not in choices[name]:
            raise UnknownBackend(f"{name}={value}: give one of {', '.join(choices[name])}")
        settings[name] = value if choices[name] is None else choices[name][value]
    return Compilation(**settings)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the warnings that torch's own modules cause when it compiles.

    They are about deprecations, and about gradients that dynamo reads. torch 2.6 also warns that the log of a compilation leaves
    out a setting.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\.")
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf", UserWarning)
        yield


def begin_anew() -> None:
    """Let torch compile as in a new process.

    Without this, torch stops after eight programs, and makes sizes dynamic if they differ.
    """
    import torch

    with quiet():
        torch.compiler.reset()


def unsupported_reason(error: BaseException) -> str:
    """Return the reason if this torch cannot compile the training because of the machine or of dynamo.

    For any other error, it returns "".
    """
    if isinstance(error, NotSupported):
        return str(error)
    for cause in _causes(error):
        if "InvalidCxxCompiler" in _class_names(cause):
            return f"{CANNOT_COMPILE}: there is no C++ compiler ({one_line(error)})"
        if isinstance(cause, OSError) and cause.errno in UNWRITABLE:
            return f"{CANNOT_COMPILE}: it cannot write its cache ({one_line(cause)})"
    if _class_names(error) & {"TorchRuntimeError", "Unsupported"}:
        return f"{CANNOT_COMPILE}: dynamo cannot trace it ({one_line(error)})"
    return ""


def _class_names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and those that torch wrapped in it: some releases keep them as a cause, others as inner_exception."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = getattr(error, "inner_exception", None) or error.__cause__
