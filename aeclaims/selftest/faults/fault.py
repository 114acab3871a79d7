"""What a fault says of itself, and how it is put in: `Fault`."""

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
# What is kept of earlier trainings, and computed by parts that a fault may change.
KEPT = (start._rows, start._parameters, floors.epoch_entropy, setups.class_floor, stack._path, loops.oracle_states)


@dataclass(frozen=True)
class Fault:
    """One way in which training goes wrong in silence; or, as a control, another way in which it goes right.

    id: its family, a dot, its name; or H and a number for faults of a suite like this one.
    does: what is wrong.    origin: where it was met: a published issue (numbers alone are pytorch/pytorch's), an operator of
    DeepCrime (ISSTA 2021), a case of TrainCheck (OSDI 2025), or reasoning.    expected: the effect to be expected.
    change: the context in which it is in.    shows: what it changes, for whoever wants to see that it does.
    backend: under which one it is to be met.    options: with which options of pytest besides.
    equivalent: where no check could tell, the proof of it.
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
        """The family: data, init, fwd, ..., or suite."""
        return self.id.partition(".")[0] if "." in self.id else "suite"

    @contextmanager
    def inject(self) -> Iterator[None]:
        """The fault is in, and nothing computed without it is served; afterwards all is as it was, also after an error."""
        with ExitStack() as context:
            context.callback(_forget)
            if self.backend.startswith("torch"):  # conformance compiles plain loops on each of them
                context.enter_context(nothing_compiled())
            context.enter_context(self.change())
            _forget()
            yield

    def fingerprint(self) -> bytes:
        """All bits of what it shows."""
        return b"".join(np.ascontiguousarray(values).tobytes() for values in self.shows(self.backend))


def _forget() -> None:
    for function in KEPT:
        function.cache_clear()


@contextmanager
def nothing_compiled() -> Iterator[None]:
    """No program from before is taken over, here or from a disk; none from within is left behind.

    Graphs are compiled anew. Libraries that g++ made are found again by the hash of their C++ source and of the command: a fault
    that changes a kernel changes its source. `force_disable_caches` would have g++ make all of them anew, and its headers: then
    one compiled step takes 70 s in place of 11 s.
    """
    from torch._functorch import config as gradients

    with quiet():
        from torch._inductor import compile_fx, config  # noqa: F401  importing compile_fx warns, here unseen
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
