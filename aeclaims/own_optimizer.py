"""An optimizer of the user's own, in place of Adam: what `package.module:name,lr=0.01` says, and what stands there."""

import importlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Value = float | bool | tuple[float, ...]

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_FORM = "give package.module:name, and arguments after it, such as torch.optim:NAdam,lr=0.002"


class InvalidOptimizer(ValueError):
    """An optimizer that cannot be used; the message names it, what is wrong, and the way out."""


@dataclass(frozen=True)
class OwnOptimizer:
    """What makes it: called as name(parameters, lr=..., **arguments), it returns an optimizer."""

    text: str
    module: str
    name: str
    arguments: tuple[tuple[str, Value], ...] = ()

    def __str__(self) -> str:
        return self.text

    def find(self) -> Callable[..., Any]:
        """The class or factory; raises InvalidOptimizer where it cannot be imported, is not there, or cannot be called."""
        try:
            module = importlib.import_module(self.module)
        except Exception as error:  # whatever the module of somebody else does while it is imported
            raise InvalidOptimizer(f"{self.module!r} cannot be imported ({one_line(error)}); {_FORM}") from None
        try:
            found = getattr(module, self.name)
        except AttributeError:
            raise InvalidOptimizer(f"module {self.module!r} has no {self.name!r}; {_FORM}") from None
        if not callable(found):
            raise InvalidOptimizer(f"{self.module}:{self.name} is a {type(found).__name__}; give a class, or a function "
                                   "(parameters, lr=...) that returns an optimizer")
        return found  # type: ignore[no-any-return]


def parse(text: str) -> OwnOptimizer:
    """package.module:name[,argument=value]...; values are numbers, true, false, and tuples of numbers: betas=(0.9,0.99).

    Raises InvalidOptimizer, which names the part that is wrong.
    """
    path, *parts = re.split(r",(?![^(]*\))", text)  # at commas that are not in parentheses
    module, _, name = path.partition(":")
    if not (name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise InvalidOptimizer(f"{path!r}: {_FORM}")
    arguments: dict[str, Value] = {}
    for part in parts:
        key, _, value = part.partition("=")
        if not key.isidentifier() or key == "params":
            raise InvalidOptimizer(f"{part!r} in {text!r}: give arguments as name=value")
        if key in arguments:
            raise InvalidOptimizer(f"{key!r} stands twice in {text!r}: give it once")
        arguments[key] = _value(part, value)
    if not _is_rate(arguments.get("lr", 1.0)):
        raise InvalidOptimizer(f"lr={arguments['lr']}: give a finite learning rate above 0")
    return OwnOptimizer(text, module, name, tuple(arguments.items()))


def _is_rate(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _value(part: str, text: str) -> Value:
    if text in ("true", "false"):
        return text == "true"
    if text.startswith("(") and text.endswith(")"):
        return tuple(_number(part, number) for number in text[1:-1].removesuffix(",").split(","))
    return _number(part, text)


def _number(part: str, text: str) -> float:
    if _NUMBER.fullmatch(text):
        number = float(text)
        if math.isfinite(number):
            return int(text) if text.lstrip("+-").isdigit() else number
    raise InvalidOptimizer(f"{part!r}: {text!r} is not a finite number; give a number, true, false, or a tuple: (0.9,0.99)")


def one_line(error: BaseException) -> str:
    """An error's type and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
