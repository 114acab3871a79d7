"""Helpers of the checks of torch itself: torch on the device under test, and judges of numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from aeclaims.conformance.stack import Stack
from aeclaims.dtypes import FORMATS
from aeclaims.errors import NotSupported
from aeclaims.judging.judge import P_VALUES, Judge

WHY_P = f"a sound generator fails with one part in {P_VALUES:,} of the suite's error rate"


class Torch(NamedTuple):
    """torch, and the device and dtype under test.

    Attributes:
        module: The module torch.
        device: torch's name of the device.
        dtype: torch's dtype.
        eps: Distance from 1 to the next larger number of that dtype.
    """

    module: Any
    device: str
    dtype: Any
    eps: float

    def tensor(self, values: Any, *, requires_grad: bool = False) -> Any:
        """Return the values as a tensor of that dtype on that device."""
        return self.module.tensor(np.asarray(values), dtype=self.dtype, device=self.device, requires_grad=requires_grad)


def under_test(stack: Stack) -> Torch:
    """Return torch on the stack's device and in its dtype.

    Raises:
        NotSupported: If the stack does not train with torch.
    """
    if not stack.backend.is_torch:
        raise NotSupported(f"backend {stack.backend.name} does not train with torch")
    import torch

    return Torch(torch, stack.backend.device, getattr(torch, stack.dtype), FORMATS[stack.dtype].eps)


@contextmanager
def seeded(torch: Torch, seed: int) -> Iterator[None]:
    """Seed the global generators, and restore those of the host and of CUDA afterwards."""
    devices = [torch.device] if torch.module.device(torch.device).type == "cuda" else []
    with torch.module.random.fork_rng(devices=devices):
        torch.module.manual_seed(seed)
        yield


def host(values: Any) -> Any:
    """Return a tensor's numbers in float64, as an array."""
    return np.asarray(values.detach().double().cpu().numpy())


def number(
    judge: Judge, value: float, *, what: str, reason: str, at_least: float = -np.inf, at_most: float = np.inf
) -> None:
    """Judge that one number lies within its bounds."""
    judge.all_within([value], at_least=at_least, at_most=at_most, seeds=(0,), what=what, reason=reason)


def close(judge: Judge, seen: Any, oracle_run: Any, allowed: Any, *, what: str, reason: str) -> None:
    """Judge that each number is within its allowed distance of the oracle's. Its index stands for the seed."""
    off = np.abs(np.asarray(seen, np.float64) - oracle_run).ravel()
    judge.all_within(
        off,
        at_most=np.broadcast_to(allowed, np.shape(oracle_run)).ravel(),
        seeds=range(off.size),
        what=what,
        reason=reason,
    )
