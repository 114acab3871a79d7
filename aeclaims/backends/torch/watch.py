"""A watch for functions that torch.compile leaves uncompiled: torch may run them as Python without a warning."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from aeclaims.backends.torch.compile import NOTHING_COMPILED
from aeclaims.errors import NotSupported

T = TypeVar("T")


class Watch(nn.Module):
    """A part of a network that returns its input, and notes calls that were not compiled.

    As a part of the traced code, it sees each program separately if dynamo breaks the graph. It costs nothing: dynamo takes the
    condition for a constant, so that neither the note nor a guard is part of a program.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ran_plainly = False

    def forward(self, values: T) -> T:
        """Return the values unchanged."""
        if not torch.compiler.is_compiling():
            self.ran_plainly = True
        return values

    def over(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the same function or network, followed by this watch."""
        if isinstance(function, nn.Module):
            return nn.Sequential(function, self)
        return lambda *given: self(function(*given))

    def require_compiled(self) -> None:
        """Raise NotSupported if a call was not compiled since the note was cleared."""
        if self.ran_plainly:
            raise NotSupported(NOTHING_COMPILED)
