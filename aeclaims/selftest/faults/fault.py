"""The record of a fault, and the context that injects it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from aeclaims import start
from aeclaims.backends.torch.compile import quiet
from aeclaims.claims import setups
from aeclaims.conformance import loops, stack
from aeclaims.selftest.faults.lazy_imports import torch
from aeclaims.selftest.faults.probes import Probe
from aeclaims.theory import floors

Inject = Callable[[], AbstractContextManager[None]]
# Caches of earlier trainings, filled by parts that a fault may change.
KEPT = (start._rows, start._parameters, floors.epoch_entropy, setups.class_floor, stack._path, loops.oracle_states)


@dataclass(frozen=True)
class Fault:
    """One way in which training silently goes wrong; or, as a control, another way in which it goes right.

    Attributes:
        id: Family, a dot, and a name; or H and a number, for faults of a suite like this one.
        does: The fault in words.
        origin: Source of the fault: a published issue (a number alone is pytorch/pytorch's), an operator of DeepCrime
            (ISSTA 2021), a case of TrainCheck (OSDI 2025), or reasoning.
        expected: Expected effect.
        change: Context that injects the fault.
        shows: Probe whose numbers the fault changes.
        backend: Backend under which the suite must catch the fault.
        options: Further options of pytest.
        equivalent: Proof that no check can notice the fault; empty if there is none.
    """

    id: str
    does: str
    origin: str
    expected: str
    change: Inject
    shows: Probe
    backend: str = "torch-eager"
    options: tuple[str, ...] = ()
    equivalent: str = ""

    @property
    def layer(self) -> str:
        """Name of the family: data, init, fwd, ..., or suite."""
        return self.id.partition(".")[0] if "." in self.id else "suite"

    @contextmanager
    def inject(self) -> Iterator[None]:
        """Inject the fault and empty all caches; on exit, also after an error, restore the sound stack."""
        with ExitStack() as context:
            context.callback(_forget)
            if self.backend.startswith("torch"):  # conformance compiles plain loops on each torch backend
                context.enter_context(nothing_compiled())
            context.enter_context(self.change())
            _forget()
            yield

    def fingerprint(self) -> bytes:
        """Return all bytes of the probe's numbers."""
        return b"".join(np.ascontiguousarray(values).tobytes() for values in self.shows(self.backend))


def _forget() -> None:
    for function in KEPT:
        function.cache_clear()


@contextmanager
def nothing_compiled() -> Iterator[None]:
    """Reuse no compiled program from memory or disk, and leave none behind.

    Graphs are compiled anew. Libraries of g++ are reused by the hash of their C++ source and command: if a fault changes a
    kernel, it changes the source. With `force_disable_caches`, g++ would rebuild all libraries and their headers, and one
    compiled step would take 70 s instead of 11 s.
    """
    from torch._functorch import config as gradients

    with quiet():
        from torch._inductor import compile_fx, config  # noqa: F401  importing compile_fx warns; quiet() hides it
    with config.patch(fx_graph_cache=False, fx_graph_remote_cache=False), gradients.patch(enable_autograd_cache=False):
        _forget_programs()
        try:
            yield
        finally:
            _forget_programs()


def _forget_programs() -> None:
    from torch._inductor.utils import clear_caches

    torch.compiler.reset()
    clear_caches()
