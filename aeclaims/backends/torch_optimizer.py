"""What the user's own optimizer does, tried out once: whether it works, and whether it can train a population at once.

Stacked parameters are one tensor for all replicas. An optimizer that treats each number by itself trains each replica as it
would alone; one that takes a norm of the tensor, orthogonalises it or draws random numbers does not. It is not asked which it
is: three replicas take a few steps stacked and alone, and one of them is changed.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn

from aeclaims.backends.torch import parts as torch_parts
from aeclaims.own_optimizer import InvalidOptimizer, OwnOptimizer, one_line

# Of one replica: two affine layers, as torch holds them.
SHAPES: Final = {"weight 1": (3, 2), "bias 1": (3,), "weight 2": (2, 3), "bias 2": (2,)}
# What clips at a norm does so at some of these, whatever its threshold; so does what divides by one.
SCALES: Final = (1e-3, 1.0, 1e3)
# More than it takes RAdam (6) or a lookahead of 5 or 10 steps to change what they do.
STEPS: Final = 12
# Stacked and alone, the same arithmetic is done in another order of memory: rounding errors of float64, STEPS times grown.
ROUNDING: Final = 1e-9
Tensors = list[torch.Tensor]


@dataclass(frozen=True)
class Optimizer:
    """The user's own optimizer as it was found to be.

    alone: why it cannot train stacked parameters; empty where it can.
    eager: why its steps cannot be compiled; empty where nothing is known that forbids it.
    needs_closure: whether its step must be handed a function that computes loss and gradients.
    is_capturable: whether it says that its steps may be captured in a CUDA graph.
    """

    own: OwnOptimizer
    factory: Callable[..., Any]
    alone: str = ""
    eager: str = ""
    needs_closure: bool = False
    is_capturable: bool = False

    def __call__(self, parameters: list[nn.Parameter], lr: float) -> Any:
        """An optimizer of these parameters, with that learning rate where the user gave none."""
        return _made(self.own, self.factory, parameters, lr)


def tried(own: OwnOptimizer, device: str) -> Optimizer:
    """Find and try it; raises InvalidOptimizer, in one line, where it cannot be made, cannot step or changes nothing."""
    # Apple's GPUs have no double precision.
    where = "cpu" if torch.device(device).type == "mps" else device
    factory = own.find()
    devices = [where] if torch.device(where).type == "cuda" else []
    with torch.random.fork_rng(devices), torch_parts.threads(1), torch_parts.default_dtype(torch.float64):
        made = _checked(own, factory, where)
        needs_closure = _needs_closure(own, factory, where)
        first = Trial(own, factory, where, needs_closure)
        ended = [first.alone(replica) for replica in range(len(SCALES))]
        _check_changed(own, first, ended)
        alone = "its step needs a closure" if needs_closure else _why_alone(made, first, ended)
        eager = "" if alone else _why_eager(first)
        groups = getattr(made, "param_groups", [])
    return Optimizer(own, factory, alone, eager, needs_closure, bool(groups) and all(g.get("capturable") for g in groups))


def _made(own: OwnOptimizer, factory: Callable[..., Any], parameters: list[nn.Parameter], lr: float) -> Any:
    return factory(parameters, **{"lr": lr, **dict(own.arguments)})


def _checked(own: OwnOptimizer, factory: Callable[..., Any], device: str) -> Any:
    """An optimizer as the factory makes it, which can step."""
    parameters = [nn.Parameter(values) for values in Trial(own, factory, device).initial(0)]
    try:
        made = _made(own, factory, parameters, 1e-3)
    except Exception as error:
        raise InvalidOptimizer(f"{own}: it could not be made of a network's weights and biases ({one_line(error)}); give a "
                               "class or function that takes (parameters, lr=...), and the arguments after it") from None
    for method in ("step", "zero_grad"):
        if not callable(getattr(made, method, None)):
            raise InvalidOptimizer(f"{own}: it made a {type(made).__name__}, which has no {method}(): that is no optimizer")
    return made


def _needs_closure(own: OwnOptimizer, factory: Callable[..., Any], device: str) -> bool:
    try:
        Trial(own, factory, device).alone(1, steps=1)
    except Exception as error:
        try:
            Trial(own, factory, device, needs_closure=True).alone(1, steps=1)
        except Exception:
            raise InvalidOptimizer(f"{own}: its step raised {one_line(error)}, without and with a closure") from None
        return True
    return False


def _check_changed(own: OwnOptimizer, trial: "Trial", ended: Sequence[Tensors]) -> None:
    unchanged = [name for place, name in enumerate(SHAPES)
                 if any(torch.equal(values[place], trial.initial(replica)[place]) for replica, values in enumerate(ended))]
    if unchanged:
        raise InvalidOptimizer(f"{own}: {STEPS} steps left {', '.join(unchanged)} of a small network unchanged, whose gradients "
                               "are not 0; give an optimizer that trains all the parameters that it is handed")


def _why_alone(made: Any, trial: "Trial", ended: Sequence[Tensors]) -> str:
    """Why it cannot train stacked parameters; empty where it can."""
    if not isinstance(made, torch.optim.Optimizer):
        return "it is no torch.optim.Optimizer"
    try:
        stacked = trial.stacked()
        for replica, values in enumerate(ended):
            if not all(torch.allclose(ours[replica], own, rtol=ROUNDING, atol=0, equal_nan=True)
                       for ours, own in zip(stacked, values, strict=True)):
                return "it does not work elementwise: a replica among others takes other steps than alone"
        for changed in range(len(SCALES)):
            kept = [replica for replica in range(len(SCALES)) if replica != changed]
            if not all(_same_bits(ours[kept], theirs[kept])
                       for ours, theirs in zip(stacked, trial.stacked(changed), strict=True)):
                return "it does not work elementwise: one replica's gradients move the others"
    except Exception as error:
        return f"it does not take stacked parameters ({one_line(error)})"
    return ""


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a, b) or torch.equal(a.view(torch.int64), b.view(torch.int64))


def _why_eager(trial: "Trial") -> str:
    """Why a compiled step could do something else: it keeps what changes in Python, or step() is more than its class says."""
    seen: list[Any] = []
    trial.stacked(watch=lambda optimizer: seen.append(numbers(vars(optimizer))))
    optimizer = trial.optimizer
    if "step" in vars(optimizer) or not inspect.isfunction(type(optimizer).step):
        return "its step is not its class's"
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        return "hooks hang on its step"
    # The first step makes the state.
    if any(now != seen[0] for now in seen):
        return "it counts in Python, not in a tensor"
    return ""


def numbers(value: Any, inside: tuple[int, ...] = ()) -> Any:
    """All of an optimizer's state that is not in tensors, as something that can be compared."""
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, torch.Tensor) or id(value) in inside:
        return type(value).__name__
    inside = (*inside, id(value))
    if isinstance(value, Mapping):
        return [(id(key) if isinstance(key, torch.Tensor) else str(key), numbers(one, inside)) for key, one in value.items()]
    if isinstance(value, list | tuple | set):
        return [numbers(one, inside) for one in value]
    return [type(value).__name__, numbers(getattr(value, "__dict__", None), inside)]


class Trial:
    """Replicas with a quadratic loss each, in float64: scale / 2 |p - target|^2, with other targets in each step."""

    def __init__(self, own: OwnOptimizer, factory: Callable[..., Any], device: str, needs_closure: bool = False) -> None:
        self.own, self.factory, self.device, self.needs_closure = own, factory, device, needs_closure
        self.optimizer: Any = None

    def initial(self, replica: int, *, is_changed: bool = False) -> Tensors:
        """The parameters of one replica, none of them 0."""
        return self._drawn(replica, 0, is_changed)

    def alone(self, replica: int, steps: int = STEPS) -> Tensors:
        """What becomes of a replica's parameters, as torch-loop trains them."""
        targets = [self._drawn(replica, 1 + step, False) for step in range(steps)]
        return self._trained(self.initial(replica), targets, [torch.tensor(SCALES[replica], device=self.device)] * len(SHAPES))

    def stacked(self, changed: int | None = None, watch: Callable[[Any], None] = lambda optimizer: None) -> Tensors:
        """What becomes of all of them, stacked; with one of them another."""
        def stack(step: int) -> Tensors:
            drawn = [self._drawn(replica, step, replica == changed) for replica in range(len(SCALES))]
            return [torch.stack(same) for same in zip(*drawn, strict=True)]

        scales = torch.tensor(SCALES, device=self.device)
        shaped = [scales.reshape(-1, *[1] * len(shape)) for shape in SHAPES.values()]
        return self._trained(stack(0), [stack(1 + step) for step in range(STEPS)], shaped, watch)

    def _drawn(self, replica: int, step: int, is_changed: bool) -> Tensors:
        generator = torch.Generator().manual_seed(1000 * replica + 2 * step + is_changed)
        sign = -1 if step % 3 else 1  # targets on both sides
        return [(sign * (0.5 + torch.rand(shape, generator=generator))).to(self.device) for shape in SHAPES.values()]

    def _trained(self, initial: Tensors, targets: Sequence[Tensors], scales: Tensors,
                 watch: Callable[[Any], None] = lambda optimizer: None) -> Tensors:
        parameters = [nn.Parameter(values.clone()) for values in initial]
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer = optimizer = _made(self.own, self.factory, parameters, 1e-3)
        is_torchs = isinstance(optimizer, torch.optim.Optimizer)
        for target in targets:
            def closure(target: Tensors = target) -> torch.Tensor:
                # As populations do; torch-loop calls it as people do.
                optimizer.zero_grad(set_to_none=False) if is_torchs else optimizer.zero_grad()
                loss = torch.zeros((), device=self.device)
                with torch.no_grad():
                    for parameter, wanted, scale in zip(parameters, target, scales, strict=True):
                        parameter.grad = scale * (parameter - wanted)
                        loss = loss + (scale * (parameter - wanted) ** 2).sum() / 2
                return loss

            if self.needs_closure:
                optimizer.step(closure)
            else:
                closure()
                optimizer.step()
            watch(optimizer)
        return [parameter.detach().clone() for parameter in parameters]
