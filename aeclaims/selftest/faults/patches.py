"""How faults are put in: what stands at a place in torch, or in a backend, is replaced while a context lasts."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from aeclaims.selftest.faults.fault import Inject
from aeclaims.selftest.faults.lazy_imports import torch

# From what stands there to what is to stand there. What it counts or keeps begins anew whenever the fault is put in.
Change = Callable[[Any], Any]

ADAM, SGD = "torch.optim.Adam.step", "torch.optim.SGD.step"
LINEAR = "torch.nn.functional.linear"
POPULATION = "aeclaims.backends.torch.population.Population"
COMPILE = "aeclaims.backends.torch.compile.Compilation.__call__"


def replaced(change: Change, *places: str) -> Inject:
    """What stands at each place, such as torch.rand, is changed."""

    @contextmanager
    def inject() -> Iterator[None]:
        with ExitStack() as stack:
            for place in places:
                owner, _, name = place.rpartition(".")
                target = pkgutil.resolve_name(owner)
                stack.enter_context(mock.patch.object(target, name, change(getattr(target, name))))
            yield

    return inject


def both(*changes: Inject) -> Inject:
    """Several changes, which are one fault together."""

    @contextmanager
    def inject() -> Iterator[None]:
        with ExitStack() as stack:
            for change in changes:
                stack.enter_context(change())
            yield

    return inject


def returning(change: Callable[[Any], Any]) -> Change:
    """A function whose result is changed."""
    return lambda stock: lambda *args, **kwargs: change(stock(*args, **kwargs))


def given(change: Callable[..., Any]) -> Change:
    """A function whose first arguments are changed: as many as `change` takes, and it returns."""
    count = change.__code__.co_argcount

    def changed(stock: Any) -> Any:
        def function(*args: Any, **kwargs: Any) -> Any:
            first = change(*args[:count])
            return stock(*(first if count > 1 else (first,)), *args[count:], **kwargs)

        return function

    return changed


def passing(*, unless: str = "", **settings: Any) -> Change:
    """A function, or a method, that is handed other keyword arguments, unless it was handed one that contradicts them."""
    return lambda stock: (
        lambda *args, **kwargs: stock(*args, **(kwargs if kwargs.get(unless) else {**kwargs, **settings}))
    )


def every(count: int, otherwise: Callable[..., Any]) -> Change:
    """A function whose every count-th call does something else: `otherwise(stock, last, *args)`, last the arguments before."""

    def changed(stock: Any) -> Any:
        calls = 0
        last: tuple[Any, ...] = ()

        def function(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls, last
            calls += 1
            before, last = last, args
            return otherwise(stock, before, *args, **kwargs) if calls % count == 0 else stock(*args, **kwargs)

        return function

    return changed


def forwarded(value: Any, exact: Any) -> Any:
    """The value, with the gradient of what it should be."""
    return exact + (value - exact).detach()


def sloped(value: Any, by: Any, slope: Any) -> Any:
    """The value, with that slope by what it was computed from."""
    return value.detach() + (by - by.detach()) * slope.detach()


# --------------------------------------------------------------------------------------- optimizers


def stepped(change: Callable[[Any, Callable[[], Any]], Any]) -> Change:
    """An optimizer's step that does something else: change(optimizer, its own step)."""

    def changed(stock: Any) -> Any:
        def step(self: Any, closure: Any = None) -> Any:
            return change(self, lambda: stock(self))

        return step

    return changed


def with_settings(**changes: Callable[[Any], Any]) -> Change:
    """An optimizer whose settings are others than those asked for."""

    def change(optimizer: Any, step: Callable[[], Any]) -> None:
        with ExitStack() as stack:
            for group in optimizer.param_groups:
                stack.enter_context(mock.patch.dict(group, {name: to(group[name]) for name, to in changes.items()}))
            step()

    return stepped(change)


def parameters(optimizer: Any) -> list[torch.Tensor]:
    """Its parameters, in their order: of each layer the weight, then the bias."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def counted(optimizer: Any) -> int:
    """Which step of its own this is, from 1."""
    optimizer.steps_counted = getattr(optimizer, "steps_counted", 0) + 1
    return int(optimizer.steps_counted)


def with_gradients(change: Callable[[Any, list[torch.Tensor]], list[torch.Tensor]]) -> Change:
    """An optimizer that is handed other gradients than backward computed: change(optimizer, gradients)."""

    def before(optimizer: Any, step: Callable[[], Any]) -> None:
        with torch.no_grad():
            gradients = [parameter.grad for parameter in parameters(optimizer) if parameter.grad is not None]
            for gradient, changed in zip(gradients, change(optimizer, [g.clone() for g in gradients]), strict=True):
                gradient.copy_(changed)
        step()

    return stepped(before)


def frozen(is_frozen: Callable[[Any, int, torch.Tensor], bool]) -> Change:
    """An optimizer that does not write to some parameters: is_frozen(optimizer, place, parameter)."""

    def change(optimizer: Any, step: Callable[[], Any]) -> None:
        own = parameters(optimizer)
        kept = {place: one.detach().clone() for place, one in enumerate(own) if is_frozen(optimizer, place, one)}
        step()
        with torch.no_grad():
            for place, before in kept.items():
                own[place].copy_(before)

    return stepped(change)


# -------------------------------------------------------------------------------------- populations


def populations(change: Callable[[Any], None]) -> Inject:
    """Populations that are changed once they are made."""

    def made(stock: Any) -> Any:
        def begin(self: Any, *args: Any, **kwargs: Any) -> None:
            stock(self, *args, **kwargs)
            change(self)

        return begin

    return replaced(made, f"{POPULATION}.__init__")


def stepping(change: Callable[[Any, Callable[[], Any]], Any]) -> Inject:
    """Populations whose optimizer, and no other, does something else in its step."""

    def set_step(population: Any) -> None:
        optimizer, step = population.optimizer, population.optimizer.step
        optimizer.step = lambda: change(optimizer, step)

    return populations(set_step)


# ---------------------------------------------------------------------------------- compiled functions


def compiled_as(change: Callable[[Any, Callable[..., Any]], Callable[..., Any]]) -> Inject:
    """torch.compile returns something else to backends and checks: change(the function, its compiled form)."""
    return replaced(lambda stock: lambda self, function: change(function, stock(self, function)), COMPILE)


def optimizer_of(function: Any) -> Any:
    """The optimizer whose step a function takes, if it is a method of a loop or of a population."""
    return getattr(getattr(function, "__self__", None), "optimizer", None)
