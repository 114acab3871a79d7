"""Faults of initialisation: parameters whose start differs from the documentation, or from the given values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aeclaims.selftest.faults.fault import Fault
from aeclaims.selftest.faults.lazy_imports import nn, torch
from aeclaims.selftest.faults.patches import POPULATION, Change, every, replaced
from aeclaims.selftest.faults.probes import called, trained

RESET = "torch.nn.Linear.reset_parameters"
layers = called(lambda: [values for _ in range(2) for values in nn.Linear(3, 4).parameters()])


def drawn_then(change: Callable[[Any], Any]) -> Change:
    """Change the parameters of nn.Linear after they are drawn."""

    def fault(stock: Any) -> Any:
        def reset(self: Any) -> None:
            stock(self)
            with torch.no_grad():
                change(self)

        return reset

    return fault


def zero_instead(stock: Any, last: Any, layer: Any) -> None:
    stock(layer)
    nn.init.zeros_(layer.weight)


def always_the_same(stock: Any) -> Any:
    def reset(self: Any) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            stock(self)

    return reset


def normal(layer: Any) -> None:
    layer.weight.normal_(0, (3 * layer.in_features) ** -0.5)


def transposed(stock: Any) -> Any:
    def initial(self: Any, *args: Any) -> Any:
        found = stock(self, *args)
        with torch.no_grad():
            for values in found.values():
                if values.dim() == 3 and values.shape[1] == values.shape[2]:
                    values.copy_(values.mT.clone())
        return found

    return initial


FAULTS = (
    Fault("init.gain_sqrt6", "weights start within sqrt(6 / inputs), not 1 / sqrt(inputs)", "#15314, #19376; DeepCrime WCI",
          "initial loss 3 to 6 times as high, leaves the saddle sooner", replaced(drawn_then(lambda own: own.weight.mul_(6**0.5)),
          RESET), layers),
    Fault("init.tenth", "weights start ten times too small", "#1667 family, wrong deviation; DeepCrime WCI",
          "longer on the saddle, same floor", replaced(drawn_then(lambda own: own.weight.mul_(0.1)), RESET), layers),
    Fault("init.last_layer_skipped", "one layer in two keeps weights of zero",
          "flash-linear-attention#753, transformers#17877 family", "a zero decoder at first, mildly slower", replaced(every(2,
          zero_instead), RESET), layers),
    Fault("init.zero", "all weights start at zero", "DeepCrime WCI", "symmetry is never broken: only the mean is learnt",
          replaced(drawn_then(lambda own: own.weight.zero_()), RESET), layers),
    Fault("init.bias_zero", "biases start at zero", "DeepCrime WRB; Keras' default", "a little sooner", replaced(
          drawn_then(lambda own: own.bias.zero_()), RESET), layers),
    Fault("init.all_layers_alike", "each layer draws the same numbers", "#5059 family, one stream for all",
          "layers of one shape start as copies", replaced(always_the_same, RESET), layers),
    Fault("init.normal", "weights start normal, of the same variance", "DeepCrime WCI", "moments below the fourth do not show it",
          replaced(drawn_then(normal), RESET), layers),
    Fault("init.fan_out", "the bound of weights is computed from the number of outputs", "reasoning: Kaiming's mode fan_out",
          "widening layers start too small, narrowing ones too large", replaced(
              drawn_then(lambda own: own.weight.mul_((own.in_features / own.out_features) ** 0.5)), RESET), layers),
    Fault("init.square_transposed", "square weights are handed over transposed", "reasoning: a port between layouts",
          "another start of the same distribution", replaced(transposed, f"{POPULATION}.stack"), trained()),
)  # fmt: skip
