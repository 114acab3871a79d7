"""What the checks of torch itself share: where torch is under test, and how much a p-value may err."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from aeclaims.conformance.stack import Stack
from aeclaims.dtypes import FORMATS
from aeclaims.errors import NotSupported
from aeclaims.judging.judge import P_VALUES, Judge

WHY_P = f"sound random numbers are rejected with one part in {P_VALUES:,} of the suite's error rate"


class Torch(NamedTuple):
    """torch, and where and in which dtype it is under test."""

    module: Any
    device: str
    dtype: Any
    eps: float

    def tensor(self, values: Any, *, requires_grad: bool = False) -> Any:
        """The values as a tensor under test."""
        return self.module.tensor(np.asarray(values), dtype=self.dtype, device=self.device, requires_grad=requires_grad)


def under_test(stack: Stack) -> Torch:
    """torch as the stack trains with it; raises NotSupported where it does not."""
    if not stack.backend.is_torch:
        raise NotSupported(f"backend {stack.backend.name} does not train with torch")
    import torch

    return Torch(torch, stack.backend.device, getattr(torch, stack.dtype), FORMATS[stack.dtype].eps)


@contextmanager
def seeded(torch: Torch, seed: int) -> Iterator[None]:
    """The global generators begin at a seed; those of the host and of CUDA are afterwards as they were."""
    devices = [torch.device] if torch.module.device(torch.device).type == "cuda" else []
    with torch.module.random.fork_rng(devices=devices):
        torch.module.manual_seed(seed)
        yield


def host(values: Any) -> Any:
    """A tensor's numbers, in float64."""
    return np.asarray(values.detach().double().cpu().numpy())


def number(
    judge: Judge, value: float, *, what: str, reason: str, at_least: float = -np.inf, at_most: float = np.inf
) -> None:
    """One number lies within its bounds."""
    judge.all_within([value], at_least=at_least, at_most=at_most, seeds=(0,), what=what, reason=reason)


def close(judge: Judge, seen: Any, oracle_run: Any, allowed: Any, *, what: str, reason: str) -> None:
    """Every number is as near to the truth as allowed; its place in the list stands for the seed."""
    off = np.abs(np.asarray(seen, np.float64) - oracle_run).ravel()
    judge.all_within(
        off,
        at_most=np.broadcast_to(allowed, np.shape(oracle_run)).ravel(),
        seeds=range(off.size),
        what=what,
        reason=reason,
    )
