"""Stages of a training stack, from the plainest to the most compiled: `--claims-bisect` names the first that deviates."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from aeclaims import backends
from aeclaims.backends import Backend, Lacking

if TYPE_CHECKING:
    from aeclaims.backends.torch.compile import Compilation

Stage = Callable[[str, "Compilation | None"], Backend]


def _plain(name: str) -> Stage:
    return lambda device, asked: backends.get(name, device)


def _compiled_by(compiler: str) -> Stage:
    """The loop, its step compiled by one of torch's partial compilers."""
    def stage(device: str, asked: "Compilation | None") -> Backend:
        from aeclaims.backends.torch.compile import Compilation

        return backends.get("torch-compile", device, compilation=Compilation(backend=compiler, scope="step"))

    return stage


def _compiled(name: str) -> Stage:
    """The backend, compiled as --claims-compile asks, else its step by inductor."""
    def stage(device: str, asked: "Compilation | None") -> Backend:
        from aeclaims.backends.torch.compile import Compilation

        default = Compilation(scope="step" if name == "torch-compile" else "model")
        return backends.get(name, device, compilation=asked or default)

    return stage


def _captured(device: str, asked: "Compilation | None") -> Backend:
    if device.partition(":")[0] != "cuda":
        raise Lacking(f"a CUDA graph needs a CUDA device, and this is {device}")
    return backends.get("torch-cudagraph", device)


STAGES: dict[str, Stage] = {
    "loop": _plain("torch-loop"),
    "loop, compiled by eager": _compiled_by("eager"),
    "loop, compiled by aot_eager": _compiled_by("aot_eager"),
    "loop, compiled by aot_eager_decomp_partition": _compiled_by("aot_eager_decomp_partition"),
    "loop, compiled": _compiled("torch-compile"),
    "population": _plain("torch-eager"),
    "population, compiled": _compiled("torch"),
    "population, CUDA graph": _captured,
}
