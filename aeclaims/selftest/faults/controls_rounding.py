"""Sound stacks that differ by rounding, or by luck: the suite must hold on them."""

from __future__ import annotations

from typing import Any

import numpy as np

from aeclaims.experiment import Uniform
from aeclaims.selftest.faults.fault import Fault
from aeclaims.selftest.faults.lazy_imports import torch
from aeclaims.selftest.faults.optimizer import by_hand
from aeclaims.selftest.faults.patches import ADAM, LINEAR, both, passing, replaced, returning
from aeclaims.selftest.faults.probes import called, trained

SOUND = "reasoning: the same, up to rounding"


def in_float64(stock: Any) -> Any:
    return lambda x, w, b=None: stock(x.double(), w.double(), None if b is None else b.double()).to(x.dtype)


def in_two_sums(stock: Any) -> Any:
    def linear(x: Any, w: Any, b: Any = None) -> Any:
        half = w.shape[-1] // 2
        return stock(x[..., half:], w[..., half:]) + stock(x[..., :half], w[..., :half], b)

    return linear


def mirrored(stock: Any) -> Any:
    """Mirror uniform rows as 1 - u, on the grid of u, so that they stay in [0, 1)."""

    def draw(spec: Any, *args: Any) -> Any:
        drawn = stock(spec, *args)
        return np.float32(1 - 2.0**-24) - drawn if isinstance(spec, Uniform) else drawn

    return draw


def in_other_terms(stock: Any) -> Any:
    """Compute MSE of -(x - y) against zeros: another order of the same operations."""
    return lambda y, x, *rest, **kwargs: (
        stock(-(x - y), torch.zeros_like(x), *rest, **kwargs) if y.shape == x.shape else stock(y, x, *rest, **kwargs)
    )


CONTROLS = (
    Fault("control.adam_by_hand", "Adam as Kingma and Ba write it down", SOUND, "other roundings", replaced(by_hand(), ADAM),
          trained()),
    Fault("control.adam_on_lists", "Adam on lists of tensors", SOUND, "none, or other roundings",
          replaced(passing(unless="fused", foreach=True), "torch.optim.Adam.__init__"), trained()),
    Fault("control.products_in_float64", "layers in float64, then rounded", SOUND, "other roundings", replaced(in_float64,
          LINEAR), trained()),
    Fault("control.products_in_two_sums", "products are added up in two halves, the second first", SOUND, "other roundings",
          replaced(in_two_sums, LINEAR), trained()),
    Fault("control.squares_of_differences", "MSE as the square of x - y", SOUND, "none, or other roundings",
          replaced(in_other_terms, "torch.nn.functional.mse_loss"), trained()),
    Fault("control.other_seeds", "other seeds", "luck", "other numbers", both(), called(lambda: 0),
          options=("--claims-seed-base", "5000")),
    Fault("control.mirrored_rows", "uniform rows are 1 - u, not u", "luck", "other rows, also for the reference",
          replaced(mirrored, "aeclaims.start._draw"), trained()),
    Fault("control.mirrored_numbers", "torch.rand returns 1 - u, not u", "luck", "other numbers",
          replaced(returning(lambda u: (1 - torch.finfo(u.dtype).eps / 2) - u), "torch.rand"), called(lambda: torch.rand(8))),
    Fault("control.stock_loop", "nothing", "the stack as it is, one seed at a time", "none", both(), called(lambda: 0),
          backend="torch-loop"),
    Fault("control.stock_compiled", "nothing, with compilers' caches off", "the stack as it is, compiled", "none", both(),
          called(lambda: 0), backend="torch"),
)  # fmt: skip
