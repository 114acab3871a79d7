"""Hooks of optimizers and modules, global or for each object, and changes that they make late."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aeclaims.selftest.faults.fault import Inject
from aeclaims.selftest.faults.lazy_imports import torch
from aeclaims.selftest.faults.patches import counted, parameters, replaced

OPTIMIZER, MODULE = "torch.optim.optimizer.register_optimizer_step", "torch.nn.modules.module.register_module_forward"
LINEAR = "torch.nn.Linear.__init__"
# Step or call at which a late hook begins to change something.
LATE = 500
Hook = Callable[..., Any]


def registered(register: str, hook: Hook) -> Inject:
    """Register a global hook by a function of torch."""

    @contextmanager
    def inject() -> Iterator[None]:
        handle = pkgutil.resolve_name(register)(hook)
        try:
            yield
        finally:
            handle.remove()

    return inject


def on_each(method: str, hook: Hook, owner: str = "torch.optim.Optimizer.__init__") -> Inject:
    """Register a hook on each new optimizer or module by one of its methods."""

    def made(stock: Any) -> Any:
        def begin(self: Any, *args: Any, **kwargs: Any) -> None:
            stock(self, *args, **kwargs)
            getattr(self, method)(hook)

        return begin

    return replaced(made, owner)


def late(change: Callable[[Any], None], begins: int = LATE) -> Hook:
    """Return a hook of optimizers that calls change(optimizer) from a step on."""

    def hook(optimizer: Any, args: Any, kwargs: Any) -> None:
        if counted(optimizer) >= begins:
            with torch.no_grad():
                change(optimizer)

    return hook


def rounded(optimizer: Any) -> None:
    for parameter in parameters(optimizer):
        parameter.copy_(parameter.bfloat16())


def without_momentum(optimizer: Any) -> None:
    for state in optimizer.state.values():
        if "exp_avg" in state and optimizer.steps_counted % 20 == 0:
            state["exp_avg"].zero_()


def scaled_gradients(factor: float) -> Callable[[Any], None]:
    """Multiply gradients by a factor: Adam hides a change of scale that lasts."""

    def change(optimizer: Any) -> None:
        for parameter in parameters(optimizer):
            if parameter.grad is not None:
                parameter.grad.mul_(factor)

    return change


def clipped(optimizer: Any) -> None:
    torch.nn.utils.clip_grad_norm_(parameters(optimizer), 1e-3)


def slowed(optimizer: Any) -> None:
    if optimizer.steps_counted == LATE:
        for group in optimizer.param_groups:
            group["lr"] *= 0.5


def averaged(optimizer: Any) -> None:
    """Replace the weights by their moving average once."""
    kept = optimizer.__dict__.setdefault(
        "averages", [parameter.detach().clone() for parameter in parameters(optimizer)]
    )
    for average, parameter in zip(kept, parameters(optimizer), strict=True):
        average.mul_(0.99).add_(parameter, alpha=0.01)
        if optimizer.steps_counted == LATE + 50:
            parameter.copy_(average)


# ------------------------------------------------------------------------------------ hooks of modules


def late_hook(change: Callable[[Any], Any], begins: int = LATE) -> Hook:
    """Return a forward hook that changes the outputs of layers from a call on."""

    def hook(module: Any, args: Any, output: Any) -> Any:
        return change(output) if _is_late(module, begins) else None

    return hook


def late_pre_hook(change: Callable[[Any], Any], begins: int = LATE) -> Hook:
    """Return a forward pre-hook that changes the inputs of layers from a call on."""

    def hook(module: Any, args: Any) -> Any:
        return tuple(map(change, args)) if _is_late(module, begins) else None

    return hook


def _is_late(module: Any, begins: int) -> bool:
    if not isinstance(module, torch.nn.Linear):
        return False
    calls = module.__dict__["calls_counted"] = module.__dict__.get("calls_counted", 0) + 1
    return bool(calls >= begins)
