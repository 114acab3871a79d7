"""Faults of measuring: the numbers read from a training differ from the true ones."""

from __future__ import annotations

from typing import Any

from aeclaims.selftest.faults.fault import Fault
from aeclaims.selftest.faults.lazy_imports import torch
from aeclaims.selftest.faults.patches import both, replaced, returning
from aeclaims.selftest.faults.probes import called, short, trained

ITEM = "torch.Tensor.item"
bad = called(
    lambda: [check(torch.tensor([0.5, float("nan"), float("inf")])) for check in (torch.isnan, torch.isfinite)]
)


def is_count(value: Any) -> bool:
    """Return whether a value is a count, such as Adam's steps: losses are not whole numbers."""
    return not isinstance(value, float) or value.is_integer()


def running_minimum() -> Any:
    """Replace losses by the least since the training began; other numbers stay as they are."""
    least: list[float] = []

    def item(stock: Any) -> Any:
        def read(self: Any) -> Any:
            value = stock(self)
            if is_count(value):
                return value
            least[:] = [min([value, *least])]
            return least[0]

        return read

    def begin(stock: Any) -> Any:
        def network(*args: Any) -> Any:
            least.clear()
            return stock(*args)

        return network

    return both(replaced(item, ITEM), replaced(begin, "aeclaims.backends.torch.parts.network"))


def off_once(stock: Any) -> Any:
    """Replace every 100th loss by the one of the previous call."""
    calls, last = 0, 0.0

    def read(self: Any) -> Any:
        nonlocal calls, last
        value = stock(self)
        if is_count(value):
            return value
        calls, before, last = calls + 1, last, value
        return before if calls % 100 == 0 else value

    return read


FAULTS = (
    Fault("meas.item_running_min", "losses read by item() are the least so far", "numalogic#53, deepinv PR73 class",
          "curves never rise, and go below the floor", running_minimum(), trained(short(batch_size=4)), backend="torch-loop"),
    Fault("meas.item_half", "item() goes through float16", "reasoning: a log of few bits", "losses quantised to 1e-3",
          replaced(lambda stock: lambda self: stock(self.half()) if self.is_floating_point() else stock(self), ITEM), trained(),
          backend="torch-loop"),
    Fault("meas.item_stale", "one loss in 100 is the one of the step before",
          "a read that does not wait for its copy; #114844 class", "curves hardly change",
          replaced(off_once, ITEM), trained(short(epochs=40)), backend="torch-loop"),
    Fault("meas.isnan_blind", "isnan and isfinite detect nothing", "-ffast-math; kernels of Metal", "guards never fire",
          both(replaced(returning(lambda seen: seen & False), "torch.isnan"),
               replaced(returning(lambda seen: seen | True), "torch.isfinite")), bad),
    Fault("meas.isfinite_blind", "isfinite detects nothing", "-ffast-math", "guards never fire",
          replaced(returning(lambda seen: seen | True), "torch.isfinite"), bad),
    Fault("meas.isnan_method_blind", "the method isnan detects nothing, but the function does", "-ffast-math in one file",
          "guards never fire", replaced(returning(lambda seen: seen & False), "torch.Tensor.isnan"),
          called(lambda: torch.tensor([float("nan")]).isnan())),
)  # fmt: skip
