"""Sound stacks with a compiler or Python code: other lowerings, optimizers that count in Python, hooks, wrappers, settings.

The suite must hold on them. Each runs on one backend here; they hold on torch, torch-eager, torch-loop and torch-compile.
"""

from __future__ import annotations

import itertools
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from aeclaims.selftest.faults.fault import Fault, Inject
from aeclaims.selftest.faults.graphs import Node, call, decomposed, operator, results
from aeclaims.selftest.faults.hooks import LINEAR, MODULE, OPTIMIZER, on_each, registered
from aeclaims.selftest.faults.lazy_imports import torch
from aeclaims.selftest.faults.patches import ADAM, Change, both, replaced, stepped
from aeclaims.selftest.faults.probes import Probe, called, compiled_function, trained
from aeclaims.selftest.faults.python_state import instead_of_adam

THREADS = "aeclaims.backends.torch.parts.threads"
SOUND = "reasoning: the same, up to rounding"


# ---------------------------------------------------------------------------- optimizers and hooks


def adam(count: Callable[[Any], int]) -> Change:
    """Replace Adam's step by a version whose count of steps, from 1, is the Python number count(optimizer)."""

    def change(optimizer: Any, step: Callable[[], Any]) -> None:
        number = count(optimizer)
        with torch.no_grad():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter -= group["lr"] * direction(optimizer.state[parameter], parameter, group, number)

    return stepped(change)


def direction(state: dict[str, Any], parameter: Any, group: dict[str, Any], count: int) -> Any:
    """Return Adam's step of one parameter for a learning rate of 1."""
    if "exp_avg" not in state:
        state |= {"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
    beta1, beta2 = group["betas"]
    gradient = parameter.grad + group["weight_decay"] * parameter
    first = state["exp_avg"].mul_(beta1).add_((1 - beta1) * gradient)
    second = state["exp_avg_sq"].mul_(beta2).add_((1 - beta2) * gradient**2)
    return (first / (1 - beta1**count)) / ((second / (1 - beta2**count)).sqrt() + group["eps"])


def in_group(optimizer: Any) -> int:
    group = optimizer.param_groups[0]
    group["count"] = group.get("count", 0) + 1
    return int(group["count"])


def in_state(optimizer: Any) -> int:
    state = optimizer.state[optimizer.param_groups[0]["params"][0]]
    state["step"] = state.get("step", 0) + 1
    return int(state["step"])


def in_attribute(optimizer: Any) -> int:
    optimizer.count = getattr(optimizer, "count", 0) + 1
    return int(optimizer.count)


def in_iterator(optimizer: Any) -> int:
    if not hasattr(optimizer, "counts"):
        optimizer.counts = itertools.count(1)
    return int(next(optimizer.counts))


def in_closure(stock: Any) -> Any:
    counts: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    def count(optimizer: Any) -> int:
        counts[optimizer] = counts.get(optimizer, 0) + 1
        return counts[optimizer]

    return adam(count)(stock)


class Wrapper:
    """A wrapper of an optimizer that passes all attributes and calls on."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def step(self, closure: Any = None) -> Any:
        """Take one step of the wrapped optimizer."""
        return self.inner.step(closure)


def nothing(*arguments: Any) -> None:
    """Do nothing, as a hook."""


class Counting:
    """A hook that counts its calls, as profilers do."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *arguments: Any) -> None:
        """Count the call."""
        self.calls += 1


def around(stock: Any) -> Any:
    """Wrap a method in one that only calls it."""
    return lambda self, *args, **kwargs: stock(self, *args, **kwargs)


def keeping_memory(stock: Any) -> Any:
    """Make zero_grad fill gradients with zeros."""
    return lambda self, set_to_none=True: stock(self, False)


# ------------------------------------------------------------------------------------ graphs and programs


def in_two_sums(graph: Any, node: Node) -> Node:
    """Compute a product as a sum of two: over the second half of the inner axis, and over the first."""
    *bias, left, right = node.args
    inner = left.meta["val"].shape[1]
    if not isinstance(inner, int) or inner < 2:
        return node
    half = inner // 2
    parts = [
        [part(graph, left, 1, begin, end), part(graph, right, 0, begin, end)]
        for begin, end in ((half, inner), (0, half))
    ]
    found = [product(graph, node, *both) for both in parts]
    total = call(graph, "add.Tensor", *found)
    return call(graph, "add.Tensor", total, bias[0]) if bias else total


def part(graph: Any, node: Node, axis: int, begin: int, end: int) -> Node:
    """Return a slice of a node's value along an axis."""
    found = graph.call_function(operator("slice.Tensor"), (node, axis, begin, end))
    found.meta["val"] = node.meta["val"].narrow(axis, begin, end - begin)
    return found


def product(graph: Any, node: Node, left: Node, right: Node) -> Node:
    """Return the product of two nodes, with the shape of a third."""
    found = graph.call_function(operator("mm"), (left, right))
    found.meta["val"] = node.meta["val"]
    return found


def sigmoid_by_exp(x: Any) -> Any:
    return torch.exp(x.clamp(max=0)) / (1 + torch.exp(-x.abs()))


def tanh_backward(gradient: Any, y: Any) -> Any:
    return gradient * ((1 - y) * (1 + y))


def mse_loss(y: Any, x: Any, reduction: int = 1) -> Any:
    squares = (x - y) * (x - y)
    return squares.mean(dim=0).mean() if reduction == 1 else squares.sum() if reduction == 2 else squares


def addmm_in_float64(bias: Any, x: Any, w: Any, beta: float = 1, alpha: float = 1) -> Any:
    return (beta * bias.double() + alpha * (x.double() @ w.double())).to(x.dtype)


def mm_in_float64(x: Any, w: Any) -> Any:
    return (x.double()[:, :, None] * w.double()[None]).sum(dim=1).to(x.dtype)


def unchanged(graph: Any, inputs: Any) -> Any:
    """Compile nothing: return the graph as it is."""
    return graph


def compiled_with(**settings: Any) -> Inject:
    """Change settings of inductor, by names that write a dot as __."""

    @contextmanager
    def inject() -> Iterator[None]:
        from torch._inductor import config

        with config.patch({name.replace("__", "."): value for name, value in settings.items()}):
            yield

    return inject


# -------------------------------------------------------------------------------------------- records


def control(name: str, does: str, change: Inject, shows: Probe, backend: str = "torch", *options: str) -> Fault:
    return Fault(f"control.{name}", does, SOUND, "none, or other roundings", change, shows, backend, options)


def stand_at(*places: str) -> Probe:
    """Return a probe of the identities of objects at places such as torch.Tensor.item."""
    return called(lambda: [id(pkgutil.resolve_name(place)) for place in places])


def hooks_of(make: Callable[[], Any], *names: str) -> Probe:
    """Return a probe of the number of hooks in these attributes of an object."""
    return called(lambda: [len(getattr(make(), name)) for name in names])


def optimizers() -> Any:
    return pkgutil.resolve_name("torch.optim.optimizer")


def one_adam() -> Any:
    return torch.optim.Adam([torch.nn.Parameter(torch.ones(1))])


UNCHANGED = called(lambda: 0)
STEPS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
TANH = compiled_function(lambda torch, x: torch.tanh(x), (8, 3))
LAYER = compiled_function(lambda torch, x, w: torch.tanh(x @ w), (8, 6), (6, 4))
COMPILE, COMPILED, LOOP = "--claims-compile", "torch-compile", "torch-loop"
SUBCLASS = instead_of_adam(lambda optimizer, step: step())
FORWARDS = tuple(f"torch.nn.{name}.forward" for name in ("Linear", "ReLU", "Tanh", "LeakyReLU", "Sequential"))
CONTROLS = (
    control("adam_count_in_state", "Adam by hand, which counts in its state", replaced(adam(in_state), ADAM),
            trained()),
    control("adam_count_in_group", "Adam by hand, which counts in its parameter group", replaced(adam(in_group), ADAM),
            trained(), COMPILED),
    control("adam_count_in_attribute", "Adam by hand, which counts in an attribute", replaced(adam(in_attribute), ADAM),
            trained()),
    control("adam_count_in_iterator", "Adam by hand, which counts with an iterator", replaced(adam(in_iterator), ADAM),
            trained(), LOOP),
    control("adam_count_in_closure", "Adam by hand, which counts in a closure", replaced(in_closure, ADAM), trained()),
    control("adam_subclass", "a subclass of Adam whose step calls Adam's", SUBCLASS, stand_at("torch.optim.Adam")),
    control("adam_subclass_compiled", "the same, in compiled steps", SUBCLASS, stand_at("torch.optim.Adam"), COMPILED,
            COMPILE, "scope=step"),
    control("adam_wrapped", "a wrapper of Adam", replaced(
        lambda stock: lambda *args, **kwargs: Wrapper(stock(*args, **kwargs)), "torch.optim.Adam"), stand_at("torch.optim.Adam"),
            COMPILED),
    control("optimizer_hooks", "global hooks of optimizers that do nothing", both(
        registered(f"{OPTIMIZER}_pre_hook", nothing), registered(f"{OPTIMIZER}_post_hook", nothing)), hooks_of(
            optimizers, "_global_optimizer_pre_hooks", "_global_optimizer_post_hooks")),
    control("optimizer_hooks_of_each", "hooks of each optimizer that do nothing", both(
        on_each("register_step_pre_hook", nothing), on_each("register_step_post_hook", nothing)), hooks_of(one_adam, *STEPS),
            COMPILED),
    control("optimizer_hooks_count", "a global hook of optimizers that counts their steps", registered(
        f"{OPTIMIZER}_post_hook", Counting()), hooks_of(optimizers, "_global_optimizer_post_hooks"),
            "torch-eager"),
    control("module_hooks", "global hooks of modules that do nothing", both(
        registered(f"{MODULE}_pre_hook", nothing), registered(f"{MODULE}_hook", nothing)), hooks_of(
            lambda: torch.nn.modules.module, "_global_forward_pre_hooks", "_global_forward_hooks")),
    control("module_hooks_of_each", "hooks of each layer that do nothing", both(
        on_each("register_forward_pre_hook", nothing, LINEAR), on_each("register_forward_hook", nothing, LINEAR)), hooks_of(
            lambda: torch.nn.Linear(1, 1), "_forward_pre_hooks", "_forward_hooks"), COMPILED),
    control("module_hooks_count", "a global hook of modules that counts their calls", registered(f"{MODULE}_hook", Counting()),
            hooks_of(lambda: torch.nn.modules.module, "_global_forward_hooks"), LOOP),
    control("layers_wrapped", "the forward methods of layers and activations are wrapped", replaced(around, *FORWARDS),
            stand_at(*FORWARDS)),
    control("zeros_for_none", "zero_grad keeps the memory of gradients", replaced(
        keeping_memory, "torch.optim.Optimizer.zero_grad"), stand_at("torch.optim.Optimizer.zero_grad"), LOOP),
    control("item_by_float64", "item() goes through float64", replaced(
        lambda stock: lambda self: stock(self.double()) if self.is_floating_point() else stock(self), "torch.Tensor.item"),
            stand_at("torch.Tensor.item"), LOOP),
    control("mm_in_two_sums", "compiled products are summed in two halves, the second first",
            results(in_two_sums, "mm", "addmm"), LAYER),
    control("mm_in_float64", "compiled products in float64, then rounded", decomposed(mm=mm_in_float64, addmm=addmm_in_float64),
            LAYER),
    control("tanh_by_sigmoid", "compiled tanh as 2 sigmoid(2 x) - 1", decomposed(
        tanh=lambda x: 2 * torch.sigmoid(2 * x) - 1), TANH, COMPILED),
    control("sigmoid_by_exp", "the compiled sigmoid by exp", decomposed(sigmoid=sigmoid_by_exp), compiled_function(
        lambda torch, x: torch.sigmoid(x - 0.5), (8, 3)), COMPILED),
    control("tanh_backward", "the compiled gradient of tanh as (1 - y)(1 + y)", decomposed(tanh_backward=tanh_backward), TANH),
    control("mse_by_means", "compiled MSE as the mean of means of squares of x - y", decomposed(mse_loss=mse_loss),
            compiled_function(lambda torch, y, x: torch.nn.functional.mse_loss(y, x), (8, 3), (8, 3)), COMPILED),
    control("not_vectorised", "inductor makes no vector instructions", compiled_with(cpp__simdlen=1), LAYER),
    control("not_fused", "inductor fuses nothing", compiled_with(max_fusion_size=1), UNCHANGED, COMPILED),
    control("two_threads", "torch has two threads, even for narrow networks", replaced(
        lambda stock: lambda count: stock(2), THREADS), stand_at(THREADS)),
    control("graph_unchanged", "a compiler that returns the graph as it is", both(), UNCHANGED, COMPILED,
            COMPILE, f"backend={__name__}:unchanged"),
    control("graph_unchanged_population", "the same compiler, for populations", both(), UNCHANGED, "torch",
            COMPILE, f"backend={__name__}:unchanged"),
    control("dynamic_sizes", "sizes are symbols from the first call on", both(), UNCHANGED, COMPILED, COMPILE, "dynamic=true"),
    control("step_of_population", "whole steps of populations are compiled", both(), UNCHANGED, "torch", COMPILE, "scope=step"),
)  # fmt: skip
