"""Faults of gradients: of one function, of a layer, or on their way to the optimizer."""

from __future__ import annotations

from typing import Any

from aeclaims.experiment import SIGMOID, leaky_relu
from aeclaims.selftest.faults.fault import Fault
from aeclaims.selftest.faults.lazy_imports import torch
from aeclaims.selftest.faults.patches import ADAM, LINEAR, SGD, counted, forwarded, replaced, sloped, with_gradients
from aeclaims.selftest.faults.probes import hidden, short, trained, with_slope

BOTH = (ADAM, SGD)


def leaky(stock: Any) -> Any:
    return lambda x, slope=0.01, inplace=False: stock(x, slope) + (x - x.detach()) * (1 - slope) * (x < 0)


def transposed(optimizer: Any, gradients: list[Any]) -> list[Any]:
    return [g.mT if g.dim() > 1 and g.shape[-1] == g.shape[-2] else g for g in gradients]


def zeroed(optimizer: Any, gradients: list[Any]) -> list[Any]:
    return [g * 0 for g in gradients] if counted(optimizer) % 100 == 0 else gradients


def clipped(optimizer: Any, gradients: list[Any]) -> list[Any]:
    """Clip gradients to a norm of 1e-3; if replicas are stacked, each replica's."""
    replicas = len(gradients[0]) if gradients[0].dim() == 3 else 1
    norms = torch.cat([g.reshape(replicas, -1) for g in gradients], dim=1).norm(dim=1)
    factors = (1e-3 / (norms + 1e-6)).clamp(max=1)
    return [(g.reshape(replicas, -1) * factors[:, None]).reshape(g.shape) for g in gradients]


def delayed(optimizer: Any, gradients: list[Any]) -> list[Any]:
    before = getattr(optimizer, "gradients_before", None) or [g * 0 for g in gradients]
    optimizer.gradients_before = gradients
    return before


def divided_again(optimizer: Any, gradients: list[Any]) -> list[Any]:
    return [g / 128 for g in gradients]


def first_layer_halved(optimizer: Any, gradients: list[Any]) -> list[Any]:
    return [g / 2 if place < 2 else g for place, g in enumerate(gradients)]


def in_bfloat16(optimizer: Any, gradients: list[Any]) -> list[Any]:
    return [g.bfloat16().to(g.dtype) for g in gradients]


def small_ones_flushed(optimizer: Any, gradients: list[Any]) -> list[Any]:
    return [g.where(g.abs() > 6e-5, 0.0) for g in gradients]


FAULTS = (
    Fault("bwd.leaky_slope_wrong", "leaky ReLU goes back with slope 1", "#31938; chainer#5898",
          "biased on negative units: slower",
          replaced(leaky, "torch.nn.functional.leaky_relu"), trained(hidden(leaky_relu(0.1)))),
    Fault("bwd.grads_transposed", "square weights receive their gradient transposed", "#175188, #118115 class, strides",
          "wrong direction for square layers: slow or stuck", replaced(with_gradients(transposed), *BOTH), trained()),
    Fault("bwd.zeroed_1pct", "one step in 100 sees no gradient", "#84803, #96600; Baichuan2#86 (TrainCheck)",
          "Adam moves on by its momentum: 1 % slower", replaced(with_gradients(zeroed), *BOTH), trained(short(epochs=40))),
    Fault("bwd.clip_1e-3", "gradients are clipped to a norm of 1e-3", "DeepCrime OCG; #148259, #31367",
          "early steps weigh less", replaced(with_gradients(clipped), *BOTH), trained()),
    Fault("bwd.delayed_one_step", "each step applies the gradient of the step before", "step before backward (TrainCheck family)",
          "same floor, one step more", replaced(with_gradients(delayed), *BOTH), trained()),
    Fault("bwd.divided_again", "gradients are divided by the minibatch's size a second time", "transformers#40052 family",
          "Adam hides it, except through eps; SGD is 128 times slower", replaced(with_gradients(divided_again), *BOTH),
          trained()),
    Fault("bwd.layer_halved", "the first layer's gradients are halved", "reasoning: a factor of one parameter group",
          "Adam hides it; SGD does not", replaced(with_gradients(first_layer_halved), *BOTH), trained()),
    Fault("bwd.bf16", "gradients are rounded to bfloat16", "reasoning: reduced between workers in low precision",
          "directions off by 0.4 %", replaced(with_gradients(in_bfloat16), *BOTH), trained()),
    Fault("bwd.fp16_underflow", "gradients below 6e-5 are zero", "reasoning: float16 without loss scaling",
          "training ends where gradients are small", replaced(with_gradients(small_ones_flushed), *BOTH),
          trained(short(epochs=20))),
    Fault("bwd.tanh", "tanh goes back with 1 - y, not 1 - y^2", "reasoning: a slip in a kernel", "biased gradients",
          replaced(lambda stock: lambda x: sloped(stock(x), x, 1 - stock(x)), "torch.tanh"), trained(hidden())),
    Fault("bwd.sigmoid", "the sigmoid goes back with 1/4, its largest slope", "reasoning: a straight-through estimate",
          "gradients of saturated units too large", replaced(lambda stock: lambda x: sloped(stock(x), x, 0 * x + 0.25),
                                                             "torch.sigmoid"), trained(hidden(SIGMOID))),
    Fault("bwd.relu_at_zero", "ReLU goes back with slope 1 at exactly 0", "reasoning: >= for >",
          "none, unless inputs are exactly 0",
          replaced(lambda stock: lambda x, inplace=False: sloped(stock(x), x, (x >= 0).to(x.dtype)), "torch.nn.functional.relu"),
          with_slope("ReLU", [0.0, 1.0])),
    Fault("bwd.input_detached", "no gradient flows through the inputs of layers: only the last learns",
          "reasoning: a stray detach()",
          "a random encoder", replaced(lambda stock: lambda x, *rest: stock(x.detach(), *rest), LINEAR), trained()),
    Fault("bwd.weights_rounded", "gradients flow back through weights of bfloat16", "reasoning: autocast of one direction",
          "gradients of inner layers off by 0.4 %",
          replaced(lambda stock: lambda x, w, *rest: forwarded(stock(x, w, *rest), stock(x, w.bfloat16().to(w.dtype), *rest)),
          LINEAR), trained()),
)  # fmt: skip
