"""Lazy imports of torch and the reference: when a fault is injected, not when faults are listed, which must not take a second."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch as torch
    from torch import nn as nn
    from torch.nn import functional as functional
    from torch.utils import data as data

    from aeclaims.backends.numba import kernel as kernel
    from aeclaims.backends.numba import population

    numba_population = population
else:

    class _Lazy:
        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            return getattr(importlib.import_module(self._name), attribute)

    torch, nn, functional, data = map(_Lazy, ("torch", "torch.nn", "torch.nn.functional", "torch.utils.data"))
    kernel, numba_population = map(_Lazy, ("aeclaims.backends.numba.kernel", "aeclaims.backends.numba.population"))
