"""Patches for faults: contexts that replace an object of torch, or of a backend."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from aeclaims.selftest.faults.fault import Inject
from aeclaims.selftest.faults.lazy_imports import torch

# From the stock object to its replacement. Each injection of a fault calls it anew, so that counters start at zero.
Change = Callable[[Any], Any]

ADAM, SGD = "torch.optim.Adam.step", "torch.optim.SGD.step"
LINEAR = "torch.nn.functional.linear"
POPULATION = "aeclaims.backends.torch.population.Population"
COMPILE = "aeclaims.backends.torch.compile.Compilation.__call__"


def replaced(change: Change, *places: str) -> Inject:
    """Replace the object at each place, such as "torch.rand"."""

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
    """Combine several changes into one fault."""

    @contextmanager
    def inject() -> Iterator[None]:
        with ExitStack() as stack:
            for change in changes:
                stack.enter_context(change())
            yield

    return inject


def returning(change: Callable[[Any], Any]) -> Change:
    """Change the result of a function."""
    return lambda stock: lambda *args, **kwargs: change(stock(*args, **kwargs))


def given(change: Callable[..., Any]) -> Change:
    """Change the first arguments of a function: as many as `change` takes and returns."""
    count = change.__code__.co_argcount

    def changed(stock: Any) -> Any:
        def function(*args: Any, **kwargs: Any) -> Any:
            first = change(*args[:count])
            return stock(*(first if count > 1 else (first,)), *args[count:], **kwargs)

        return function

    return changed


def passing(*, unless: str = "", **settings: Any) -> Change:
    """Add keyword arguments to a function's calls, except to calls in which the argument `unless` is true."""
    return lambda stock: (
        lambda *args, **kwargs: stock(*args, **(kwargs if kwargs.get(unless) else {**kwargs, **settings}))
    )


def every(count: int, otherwise: Callable[..., Any]) -> Change:
    """Replace every count-th call of a function by `otherwise(stock, last, *args)`, with `last` the previous arguments."""

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
    """Return the value, with the gradient of the exact one."""
    return exact + (value - exact).detach()


def sloped(value: Any, by: Any, slope: Any) -> Any:
    """Return the value, with that slope by the input `by`."""
    return value.detach() + (by - by.detach()) * slope.detach()


# --------------------------------------------------------------------------------------- optimizers


def stepped(change: Callable[[Any, Callable[[], Any]], Any]) -> Change:
    """Replace an optimizer's step by change(optimizer, stock step)."""

    def changed(stock: Any) -> Any:
        def step(self: Any, closure: Any = None) -> Any:
            return change(self, lambda: stock(self))

        return step

    return changed


def with_settings(**changes: Callable[[Any], Any]) -> Change:
    """Change the settings of an optimizer during its steps."""

    def change(optimizer: Any, step: Callable[[], Any]) -> None:
        with ExitStack() as stack:
            for group in optimizer.param_groups:
                stack.enter_context(mock.patch.dict(group, {name: to(group[name]) for name, to in changes.items()}))
            step()

    return stepped(change)


def parameters(optimizer: Any) -> list[torch.Tensor]:
    """Return the parameters of an optimizer in order: for each layer the weight, then the bias."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def counted(optimizer: Any) -> int:
    """Count this step of the optimizer, and return its number, from 1."""
    optimizer.steps_counted = getattr(optimizer, "steps_counted", 0) + 1
    return int(optimizer.steps_counted)


def with_gradients(change: Callable[[Any, list[torch.Tensor]], list[torch.Tensor]]) -> Change:
    """Replace the gradients before each step of an optimizer by change(optimizer, gradients)."""

    def before(optimizer: Any, step: Callable[[], Any]) -> None:
        with torch.no_grad():
            gradients = [parameter.grad for parameter in parameters(optimizer) if parameter.grad is not None]
            for gradient, changed in zip(gradients, change(optimizer, [g.clone() for g in gradients]), strict=True):
                gradient.copy_(changed)
        step()

    return stepped(before)


def frozen(is_frozen: Callable[[Any, int, torch.Tensor], bool]) -> Change:
    """Restore a parameter after each step of an optimizer if is_frozen(optimizer, place, parameter)."""

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
    """Change populations when they have been made."""

    def made(stock: Any) -> Any:
        def begin(self: Any, *args: Any, **kwargs: Any) -> None:
            stock(self, *args, **kwargs)
            change(self)

        return begin

    return replaced(made, f"{POPULATION}.__init__")


def stepping(change: Callable[[Any, Callable[[], Any]], Any]) -> Inject:
    """Replace the step of populations' optimizers, and of no others, by change(optimizer, stock step)."""

    def set_step(population: Any) -> None:
        optimizer, step = population.optimizer, population.optimizer.step
        optimizer.step = lambda: change(optimizer, step)

    return populations(set_step)


# ---------------------------------------------------------------------------------- compiled functions


def compiled_as(change: Callable[[Any, Callable[..., Any]], Callable[..., Any]]) -> Inject:
    """Replace the result of torch.compile in backends and checks by change(function, its compiled form)."""
    return replaced(lambda stock: lambda self, function: change(function, stock(self, function)), COMPILE)


def optimizer_of(function: Any) -> Any:
    """Return the optimizer of a function if it is a method of a loop or of a population."""
    return getattr(getattr(function, "__self__", None), "optimizer", None)
