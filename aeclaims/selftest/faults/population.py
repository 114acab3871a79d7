"""Faults of populations: replicas that leak into each other, or replicas that are treated differently."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from aeclaims.selftest.faults.fault import Fault
from aeclaims.selftest.faults.lazy_imports import torch
from aeclaims.selftest.faults.patches import POPULATION, given, parameters, replaced, stepping
from aeclaims.selftest.faults.probes import called, trained
from aeclaims.start import Array, LayerParameters, Parameters, Start


def of_replicas(change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Change the gradients, shape (S, ...), before each step of a population's optimizer."""

    def before(optimizer: Any, step: Callable[[], Any]) -> None:
        with torch.no_grad():
            for parameter in parameters(optimizer):
                if parameter.grad is not None:
                    parameter.grad.copy_(change(parameter.grad.clone()))
        step()

    return stepping(before)


def shared_moments(optimizer: Any, step: Callable[[], Any]) -> None:
    step()
    for state in optimizer.state.values():
        if "exp_avg_sq" in state:
            state["exp_avg_sq"].copy_(state["exp_avg_sq"].mean(dim=0, keepdim=True).expand_as(state["exp_avg_sq"]))


def without_last(optimizer: Any, step: Callable[[], Any]) -> None:
    kept = [parameter[-1:].detach().clone() for parameter in parameters(optimizer)]
    step()
    with torch.no_grad():
        for parameter, last in zip(parameters(optimizer), kept, strict=True):
            if len(parameter) > 1:
                parameter[-1:] = last


class FirstOnly(Start):
    """A start whose replicas all have the rows and parameters of the first."""

    def rows(self) -> Array:
        """Return the first seed's rows for every seed."""
        return _like_first(super().rows())

    def parameters(self) -> Parameters:
        """Return the first seed's parameters for every seed."""
        return tuple(LayerParameters(*map(_like_first, layer)) for layer in super().parameters())


def _like_first(values: Array) -> Array:
    return np.repeat(values[:1], len(values), axis=0)


def one_seed(stock: Any) -> Any:
    def begin(self: Any, start: Any, **settings: Any) -> None:
        stock(self, FirstOnly(start.experiment, start.seeds, start.dtype), **settings)
        self.start = start

    return begin


def swapped(gradient: torch.Tensor) -> torch.Tensor:
    return gradient[[1, 0, *range(2, len(gradient))]] if len(gradient) > 1 else gradient


def beyond_16(gradient: torch.Tensor) -> torch.Tensor:
    gradient[16:17] *= 1.01
    return gradient


FAULTS = (
    Fault("engine.crosstalk", "5 % of the next replica's gradient leaks into each", "#197636, #136299; candle PR3960",
          "replicas pull on each other: slower, correlated", of_replicas(lambda g: g + 0.05 * g.roll(-1, 0)), trained()),
    Fault("engine.crosstalk_in_rounding", "1e-7 of all replicas' gradients leaks into each",
          "reasoning: a sum over the wrong axis",
          "no statistic sees it", of_replicas(lambda g: g + 1e-7 * g.mean(dim=0, keepdim=True)), trained()),
    Fault("engine.shared_seed", "all replicas are the first", "#5059, #3880, fairseq#1383", "no spread between seeds",
          replaced(one_seed, f"{POPULATION}.__init__"), trained()),
    Fault("engine.manual_seed_ignored", "torch.manual_seed takes 0 for every seed", "#5059, #3880 family",
          "no spread between seeds",
          replaced(given(lambda seed: 0), "torch.manual_seed"), called(lambda: (torch.manual_seed(5), torch.rand(4))[1])),
    Fault("engine.v_shared_by_replicas", "Adam's second moments are averaged over replicas", "a reduction over the wrong axis",
          "slow replicas slower, more spread", stepping(shared_moments), trained()),
    Fault("engine.last_replica_not_trained", "the last of several replicas is never written",
          "chunks off by one; ColossalAI PR633", "one seed stays at its start", stepping(without_last), trained()),
    Fault("engine.gradients_swapped", "the first two replicas receive each other's gradients", "#175188 class, strides",
          "two seeds go astray", of_replicas(swapped), trained()),
    Fault("engine.replica_16", "the 17th replica's gradients are 1 % too large", "reasoning: the rest of a vector of lanes",
          "one seed of many is a little faster under SGD", of_replicas(beyond_16), trained(seeds=range(17))),
)  # fmt: skip
