"""Tells whether torch compiled a function that was handed to torch.compile: it may run the function as Python, without a word."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from aeclaims.backends.torch.compile import NOTHING_COMPILED
from aeclaims.errors import NotSupported

T = TypeVar("T")


class Watch(nn.Module):
    """A part of a network that hands its input on, and notes the calls that nothing compiled.

    A part of the traced code sees each program apart, if dynamo breaks the graph. It costs nothing: to dynamo the condition is
    a constant, so that neither the note nor a guard is part of a program.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ran_plainly = False

    def forward(self, values: T) -> T:
        """The values, as they are."""
        if not torch.compiler.is_compiling():
            self.ran_plainly = True
        return values

    def over(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, or network, with this watch behind it."""
        if isinstance(function, nn.Module):
            return nn.Sequential(function, self)
        return lambda *given: self(function(*given))

    def require_compiled(self) -> None:
        """Raise NotSupported if a call since the note was cleared was not compiled."""
        if self.ran_plainly:
            raise NotSupported(NOTHING_COMPILED)
