"""torch and the reference, imported when a fault is put in, not when faults are listed: collecting must not cost a second."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch as torch
    from torch import nn as nn
    from torch.nn import functional as functional
    from torch.utils import data as data

    from aeclaims.backends import kernel as kernel
    from aeclaims.backends import reference as reference
else:

    class _Lazy:
        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            return getattr(importlib.import_module(self._name), attribute)

    torch, nn, functional, data = map(_Lazy, ("torch", "torch.nn", "torch.nn.functional", "torch.utils.data"))
    kernel, reference = map(_Lazy, ("aeclaims.backends.kernel", "aeclaims.backends.reference"))
