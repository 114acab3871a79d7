"""Stages of a training stack, from the plainest to the most compiled. `--claims-bisect` names the first that deviates."""

from dataclasses import dataclass

from aeclaims import backends
from aeclaims.backends import Backend
from aeclaims.backends.torch.compile import Compilation
from aeclaims.errors import NotSupported, UnknownBackend


@dataclass(frozen=True)
class Stage:
    """One way to run the same training.

    Args:
        backend: The backend that trains.
        compilation: The settings of its compiler; None if there is none.
        takes_settings: Whether the settings of --claims-compile, if given, replace them.
    """

    backend: str
    compilation: Compilation | None = None
    takes_settings: bool = False

    @property
    def is_loop(self) -> bool:
        """Whether it trains one seed at a time, in a plain loop."""
        return self.backend in ("torch-loop", "torch-compile")

    def settings(self, asked: Compilation | None) -> Compilation | None:
        """Return the settings of the compiler: those of --claims-compile if the stage takes them, else its own."""
        return asked if asked and self.takes_settings else self.compilation

    def on(self, device: str, asked: Compilation | None) -> Backend:
        """Return the backend of the stage on a device.

        Raises:
            NotSupported: If the device, or this torch, does not have the stage.
        """
        if self.backend == "torch-cudagraph" and device.partition(":")[0] != "cuda":
            raise NotSupported(f"a CUDA graph needs a CUDA device, and this is {device}")
        try:
            return backends.get(self.backend, device, compilation=self.settings(asked))
        except UnknownBackend as error:  # the device and the settings of --claims-compile were checked before
            raise NotSupported(f"this torch has no such stage ({error})") from None


STAGES: dict[str, Stage] = {
    "loop": Stage("torch-loop"),
    # Dynamo alone; then torch's tracing of gradients; then its decompositions and partition, which inductor compiles.
    **{
        f"loop, compiled by {compiler}": Stage("torch-compile", Compilation(backend=compiler, scope="step"))
        for compiler in ("eager", "aot_eager", "aot_eager_decomp_partition")
    },
    "loop, compiled": Stage("torch-compile", Compilation(scope="step"), takes_settings=True),
    "population": Stage("torch-eager"),
    "population, compiled": Stage("torch", Compilation(dynamic=False, scope="step"), takes_settings=True),
    "population, CUDA graph": Stage("torch-cudagraph"),
}
