"""Custom optimizers: `package.module:name,lr=0.01` as --claims-optimizer takes it, and a trial that shows how it can train.

A population keeps the parameters of all replicas in one tensor. An elementwise optimizer trains each replica as it would alone.
An optimizer that takes a norm, orthogonalises a tensor or draws random numbers does not. The trial trains three replicas
stacked, flattened and alone, and changes one of them.
"""

import ast
import math
import pkgutil
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

import torch
from torch import Tensor, nn

from aeclaims.backends.backend import one_line
from aeclaims.backends.torch import parts
from aeclaims.errors import InvalidOptimizer

Tensors = list[Tensor]
Layout = Callable[[list[Tensors]], Tensors]  # from the tensors of each replica to those that an optimizer gets
Value = float | bool | tuple[float, ...]
EXAMPLES: Final = "one, true, false, or (0.9,0.99)"
FORM: Final = "give package.module:name, and arguments after it, such as torch.optim:NAdam,lr=0.002"
# One replica of the trial: two affine layers, as torch holds them.
SHAPES: Final = {"weight 1": (3, 2), "bias 1": (3,), "weight 2": (2, 3), "bias 2": (2,)}
SCALES: Final = (1e-3, 1.0, 1e3)  # curvatures of the losses: any threshold of a norm lies between some gradients
REPLICAS: Final = range(len(SCALES))
# RAdam (6 steps) and lookahead optimizers (5 or 10) change their rule in fewer steps.
STEPS: Final = 12
# Another order of memory changes sums by rounding errors of float64, which grow in STEPS steps.
ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class CustomOptimizer:
    """Your optimizer, called as name(parameters, lr=..., **arguments)."""

    text: str
    arguments: tuple[tuple[str, Value], ...] = ()

    def __str__(self) -> str:
        return self.text

    def __call__(self, parameters: Sequence[Tensor], lr: float) -> Any:
        """Make an optimizer of these parameters, with that learning rate if you gave none."""
        try:
            return pkgutil.resolve_name(self.text.partition(",")[0])(parameters, **{"lr": lr, **dict(self.arguments)})
        except (Exception, SystemExit) as error:  # the user's module and class may raise anything
            why = f"it cannot be imported, or made for a network's weights and biases ({one_line(error)})"
            raise InvalidOptimizer(f"{self}: {why}; {FORM}") from None


@dataclass(frozen=True)
class Trial:
    """The reason if an optimizer cannot train stacked parameters; whether steps need a closure, and can be captured."""

    loop_reason: str = ""
    needs_closure: bool = False
    is_capturable: bool = False


def parse(text: str) -> CustomOptimizer:
    """Parse `package.module:name[,argument=value]...`; values are numbers, true, false, and tuples of numbers.

    Raises:
        InvalidOptimizer: If a part cannot be read. The message names it.
    Example:
        >>> parse("torch.optim:NAdam,betas=(0.8,0.9)").arguments
        (('betas', (0.8, 0.9)),)
    """
    path, *given = re.split(r",(?![^(]*\))", text)  # at commas outside parentheses
    module, _, name = path.partition(":")
    if not (name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise InvalidOptimizer(f"{path!r}: {FORM}")
    arguments: dict[str, Value] = {}
    for argument in given:
        key, _, value = argument.partition("=")
        if not key.isidentifier() or key == "params" or key in arguments:
            raise InvalidOptimizer(f"{argument!r} in {text!r}: give each argument once, as name=value")
        with suppress(ValueError, SyntaxError, OverflowError):  # an integer may be larger than any float
            found = ast.literal_eval({"true": "True", "false": "False"}.get(value, value))
            numbers = found if isinstance(found, tuple) else (found,)
            if all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
                arguments[key] = found
        if key not in arguments:
            raise InvalidOptimizer(f"{argument!r:.50}: {value!r:.50} is not a finite number; give {EXAMPLES}")
    rate = arguments.get("lr", 1.0)
    if isinstance(rate, bool | tuple) or rate <= 0:
        raise InvalidOptimizer(f"lr={rate}: give a finite learning rate above 0")
    return CustomOptimizer(text, tuple(arguments.items()))


def try_out(custom: CustomOptimizer, device: str) -> Trial:
    """Train three small replicas on a device; raises InvalidOptimizer if it cannot step or leaves a parameter unchanged."""
    where = "cpu" if torch.device(device).type == "mps" else device  # Apple's GPUs have no double precision
    devices = [where] if torch.device(where).type == "cuda" else []
    with torch.random.fork_rng(devices), parts.threads(1), parts.default_dtype(torch.float64), torch.device(where):
        optimizer = custom([nn.Parameter(values) for values in _draw(0, 0)], 1e-3)
        needs_closure = _needs_closure(custom)
        try:
            alone = [_trained(custom, itemgetter(0), [replica], needs_closure) for replica in REPLICAS]
        except (Exception, SystemExit) as error:
            raise InvalidOptimizer(f"{custom}: one of its first {STEPS} steps raised {one_line(error)}") from None
        equal = [map(torch.equal, alone[replica], _draw(replica, 0)) for replica in REPLICAS]
        if unchanged := [name for name, *each in zip(SHAPES, *equal, strict=True) if any(each)]:
            left = (
                f"{STEPS} steps left {', '.join(unchanged)} of a small network unchanged, but their gradients are not"
            )
            raise InvalidOptimizer(f"{custom}: {left} 0; give an optimizer that trains all parameters")
        reason = "its step needs a closure" if needs_closure else _loop_reason(custom, optimizer, alone)
    capturable = [bool(group.get("capturable")) for group in getattr(optimizer, "param_groups", [])]
    return Trial(reason, needs_closure, bool(capturable) and all(capturable))


def _needs_closure(custom: CustomOptimizer) -> bool:
    try:
        _trained(custom, itemgetter(0), [1], steps=1)
    except (Exception, SystemExit) as error:
        try:
            _trained(custom, itemgetter(0), [1], needs_closure=True, steps=1)
        except (Exception, SystemExit):
            raise InvalidOptimizer(f"{custom}: its step raised {one_line(error)}, without and with a closure") from None
        return True
    return False


def _loop_reason(custom: CustomOptimizer, optimizer: Any, alone: list[Tensors]) -> str:
    """Return the reason if it cannot train stacked parameters; empty if it can."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        return "it is not a torch.optim.Optimizer"
    try:
        for layout in (_stacked, _flattened):
            together = _trained(custom, layout, REPLICAS)
            pairs = zip(together, layout(alone), strict=True)
            if not all(torch.allclose(a, b, rtol=ROUNDING, atol=0, equal_nan=True) for a, b in pairs):
                return "it does not work elementwise: a replica among others takes other steps than alone"
            for changed in REPLICAS:
                others = [replica for replica in REPLICAS if replica != changed]
                bits = [[tensor[others].view(torch.int64) for tensor in run]  # so that NaN equals NaN
                        for run in (together, _trained(custom, layout, REPLICAS, changed=changed))]  # fmt: skip
                if not all(map(torch.equal, *bits)):
                    return "it does not work elementwise: one replica's gradients move the others"
    except (Exception, SystemExit) as error:
        return f"it does not take stacked parameters ({one_line(error)})"
    return ""


def _trained(
    custom: CustomOptimizer, layout: Layout, replicas: Sequence[int], needs_closure: bool = False,
    changed: int | None = None, steps: int = STEPS,
) -> Tensors:  # fmt: skip
    """Return the parameters after some steps on scale / 2 |p - target|^2, with other targets in each step."""

    def laid_out(step: int) -> Tensors:
        return layout([_draw(replica, step, is_changed=replica == changed) for replica in replicas])

    scales = layout([[torch.full(shape, SCALES[replica]) for shape in SHAPES.values()] for replica in replicas])
    parameters = [nn.Parameter(values) for values in laid_out(0)]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer = custom(parameters, 1e-3)
    # Populations keep the gradient's memory; torch-loop calls zero_grad without arguments.
    settings = {"set_to_none": False} if isinstance(optimizer, torch.optim.Optimizer) else {}
    for step in range(1, steps + 1):
        targets = laid_out(step)

        def closure(targets: Tensors = targets) -> Tensor:
            optimizer.zero_grad(**settings)
            errors = [parameter.detach() - target for parameter, target in zip(parameters, targets, strict=True)]
            for parameter, scale, error in zip(parameters, scales, errors, strict=True):
                parameter.grad = scale * error
            return torch.stack([(s * error**2).sum() / 2 for s, error in zip(scales, errors, strict=True)]).sum()

        if needs_closure:
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
    return [parameter.detach().clone() for parameter in parameters]


def _draw(replica: int, step: int, *, is_changed: bool = False) -> Tensors:
    """Draw numbers other than 0 for each parameter of a replica: initial values for step 0, else targets on both sides."""
    generator = torch.Generator("cpu").manual_seed(1000 * replica + 2 * step + is_changed)
    drawn = [0.5 + torch.rand(shape, generator=generator, device="cpu") for shape in SHAPES.values()]
    return [(-values if step % 3 else values).to(torch.get_default_device()) for values in drawn]


def _stacked(replicas: list[Tensors]) -> Tensors:
    return [torch.stack(same) for same in zip(*replicas, strict=True)]


def _flattened(replicas: list[Tensors]) -> Tensors:
    return [torch.stack([torch.cat([values.flatten() for values in replica]) for replica in replicas])]
