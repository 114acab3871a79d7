"""Probes of faults: short trainings, or calls of changed functions, whose numbers are compared bit for bit."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from aeclaims import backends
from aeclaims.backends.torch.compile import Compilation, quiet
from aeclaims.experiment import SGD, TANH, Adam, Experiment, Uniform, affine, mlp
from aeclaims.selftest.faults.lazy_imports import torch

# From the name of a backend to numbers.
Probe = Callable[[str], Iterable[Any]]

# Minibatches of 16, 16 and 8 rows.
SHORT = Experiment(
    rows=Uniform(features=3),
    model=affine(3, 3, 3),
    loss="mse",
    optimizer=Adam(lr=3e-3),
    epochs=4,
    n_rows=40,
    batch_size=16,
)


def short(**changes: Any) -> Experiment:
    """Return the short training with changes."""
    return replace(SHORT, **changes)


def hidden(activation: Any = TANH) -> Experiment:
    """Return the short training with an activation between its layers."""
    return short(model=mlp(3, 4, 3, hidden=activation))


def trained(experiment: Experiment = SHORT, seeds: Iterable[int] = (0, 1, 2)) -> Probe:
    """Return a probe of a training's losses and parameters."""

    def probe(backend: str) -> Iterable[Any]:
        run = backends.train(experiment, seeds=seeds, backend=backend)
        return [run.epoch_loss, *(values for layer in run.parameters for values in layer)]

    return probe


def looped(experiment: Experiment) -> Probe:
    """Return a probe of a plain loop's losses and parameters, for any backend."""
    return lambda backend: trained(experiment, seeds=(0,))("torch-loop")


def compiled(*optimizers: Adam | SGD) -> Probe:
    """Return a probe of losses and parameters of plain loops, one for each optimizer; dynamo alone compiles their steps."""

    def probe(backend: str) -> Iterable[Any]:
        stack = backends.get("torch-compile", compilation=Compilation(backend="eager", scope="step"))
        runs = [
            backends.train(short(optimizer=optimizer), seeds=(0,), backend=stack)
            for optimizer in optimizers or (Adam(),)
        ]
        return [
            values for run in runs for values in (run.epoch_loss, *(each for layer in run.parameters for each in layer))
        ]

    return probe


def called(function: Callable[[], Any]) -> Probe:
    """Return a probe of a call's result, one tensor or several, with seeded generators."""

    def probe(backend: str) -> Iterable[Any]:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            found = function()
        return [
            values.detach().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
            for values in (found if isinstance(found, tuple | list) else [found])
        ]

    return probe


def compiled_function(function: Callable[..., Any], *shapes: tuple[int, ...], calls: int = 1) -> Probe:
    """Return a probe of results and gradients of function(torch, *tensors) under torch.compile.

    Args:
        function: Function of the module torch and tensors.
        shapes: Shapes of the tensors, which contain new random numbers in [0, 1) in each call.
        calls: Number of calls.
    """

    def call() -> Any:
        module, seen = importlib.import_module("torch"), list[Any]()  # dynamo does not trace lazy imports
        with quiet():
            compiled = torch.compile(lambda *tensors: function(module, *tensors), dynamic=False)
            for _ in range(calls):
                tensors = [torch.rand(shape).requires_grad_() for shape in shapes]
                result = compiled(*tensors)
                result.sum().backward()
                seen += [result, *(tensor.grad for tensor in tensors if tensor.grad is not None)]
        return seen

    return called(call)


def compiled_step(optimizer: Adam | SGD | None = None, **changes: Any) -> Probe:
    """Return a probe of losses and parameters of a plain loop whose step inductor compiles."""

    def probe(backend: str) -> Iterable[Any]:
        stack = backends.get("torch-compile", compilation=Compilation(scope="step"))
        experiment = short(**{"model": affine(3, 3), "epochs": 1, **changes})
        run = backends.train(experiment, seeds=(0,), backend=stack)
        return [run.epoch_loss, *(each for layer in run.parameters for each in layer)]

    return probe


def with_slope(module: str, *values: Any) -> Probe:
    """Return a probe of a torch.nn module's result, and the gradient of its sum by the first input."""

    def call() -> Any:
        tensors = [torch.tensor(numbers) for numbers in values]
        tensors[0].requires_grad_()
        result = getattr(torch.nn, module)()(*tensors)
        result.sum().backward()
        return result, tensors[0].grad

    return called(call)
