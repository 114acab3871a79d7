"""Faults of optimizers: their settings, moments, counts of steps, and writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aeclaims import experiment
from aeclaims.selftest.faults.fault import Fault
from aeclaims.selftest.faults.lazy_imports import torch
from aeclaims.selftest.faults.patches import (
    ADAM,
    SGD,
    counted,
    frozen,
    parameters,
    passing,
    replaced,
    stepped,
    with_settings,
)
from aeclaims.selftest.faults.probes import called, short, trained

momentum = trained(short(optimizer=experiment.SGD(lr=0.1, momentum=0.9, weight_decay=0.01)))
decay = trained(short(optimizer=experiment.Adam(lr=3e-3, weight_decay=0.01)))

Divisor = Callable[[Any, float, float], Any]


def by_hand(divisor: Divisor = lambda v, correction, eps: (v / correction).sqrt() + eps, late: int = 0) -> Any:
    """Replace Adam's step by the one of Kingma and Ba's paper.

    Args:
        divisor: Function of the second moment, its correction and eps.
        late: Number of steps that the count is too high.
    """

    def change(optimizer: Any, step: Callable[[], Any]) -> None:
        with torch.no_grad():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter -= group["lr"] * _direction(
                            optimizer.state[parameter], parameter, group, divisor, late
                        )

    return stepped(change)


def _direction(state: dict[str, Any], parameter: Any, group: dict[str, Any], divisor: Any, late: int) -> Any:
    if not state:
        state |= {
            "step": torch.zeros(()),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    state["step"] += 1
    count, (beta1, beta2) = float(state["step"]) + late, group["betas"]
    gradient = parameter.grad + group["weight_decay"] * parameter
    first = state["exp_avg"].mul_(beta1).add_((1 - beta1) * gradient)
    second = state["exp_avg_sq"].mul_(beta2).add_((1 - beta2) * gradient**2)
    return (first / (1 - beta1**count)) / divisor(second, 1 - beta2**count, group["eps"])


def decayed(optimizer: Any, step: Callable[[], Any]) -> None:
    with torch.no_grad():
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.mul_(1 - group["lr"] * 1e-2)
    step()


def in_bfloat16(optimizer: Any, step: Callable[[], Any]) -> None:
    step()
    with torch.no_grad():
        for parameter in parameters(optimizer):
            parameter.copy_(parameter.bfloat16())


def moments_in_bfloat16(optimizer: Any, step: Callable[[], Any]) -> None:
    step()
    for state in optimizer.state.values():
        for name in state.keys() & {"exp_avg", "exp_avg_sq", "momentum_buffer"}:
            state[name] = state[name].bfloat16().to(state[name].dtype)


def plain(optimizer: Any, step: Callable[[], Any]) -> None:
    with torch.no_grad():
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter -= group["lr"] * parameter.grad


def nesterov(optimizer: Any, step: Callable[[], Any]) -> None:
    has_momentum = optimizer.param_groups[0]["momentum"] > 0
    with_settings(nesterov=lambda own: has_momentum)(lambda self: step())(optimizer)


def forgetting(optimizer: Any, step: Callable[[], Any]) -> None:
    if counted(optimizer) % 100 == 0:
        optimizer.state.clear()
    step()


def slowing(optimizer: Any, step: Callable[[], Any]) -> None:
    count = counted(optimizer)
    with_settings(lr=lambda lr: lr * 0.999**count)(lambda self: step())(optimizer)


def without_last(stock: Any) -> Any:
    """Drop the last tensor of each list in the arguments."""

    def function(*lists: Any, **kwargs: Any) -> Any:
        return stock(*(own[:-1] if isinstance(own, list) else own for own in lists), **kwargs)

    return function


def strided() -> Any:
    """Take a step on a non-contiguous parameter."""
    own = torch.nn.Parameter(torch.ones(3, 2)[:, 0])
    own.grad = torch.ones(3)
    torch.optim.Adam([own]).step()
    return own


def is_late(optimizer: Any, place: int, parameter: Any) -> bool:
    """Return whether this is step 301 or later; the first parameter counts the steps."""
    return (counted(optimizer) if place == 0 else optimizer.steps_counted) > 300


def on_small(kind: str) -> Any:
    """Return a probe of three steps of one of Adam's implementations."""

    def steps() -> Any:
        own = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
        optimizer = torch.optim.Adam(own, foreach=kind == "foreach", fused=kind == "fused")
        for _ in range(3):
            for parameter in own:
                parameter.grad = torch.full((3,), 1e-3)
            optimizer.step()
        return own

    return called(steps)


FAULTS = (
    Fault("opt.eps_inside_sqrt", "Adam divides by sqrt(v + eps)", "Flux PR448, keras#17391, sail-sg/Adan#8",
          "an eps of 1e-4: a slow tail", replaced(by_hand(divisor=lambda v, correction, eps: (v / correction + eps).sqrt()),
          ADAM), trained()),
    Fault("opt.eps_1e-3", "eps is 1e-3", "defaults of frameworks mixed up", "late training is SGD with lr / eps",
          replaced(with_settings(eps=lambda eps: 1e-3), ADAM), trained()),
    Fault("opt.no_bias_correction_v", "the second moment is not corrected", "a ported kernel", "first steps 30 times too large",
          replaced(by_hand(divisor=lambda v, correction, eps: v.sqrt() + eps), ADAM), trained()),
    Fault("opt.beta2_099", "beta2 is 0.99", "defaults mixed up", "adapts sooner, noisier",
          replaced(with_settings(betas=lambda betas: (betas[0], 0.99)), ADAM), trained()),
    Fault("opt.beta1_095", "beta1 is 0.95", "reasoning: defaults mixed up", "heavier steps",
          replaced(with_settings(betas=lambda betas: (0.95, betas[1])), ADAM), trained()),
    Fault("opt.amsgrad_on", "AMSGrad's maximum is switched on", "a flag's default", "v never falls: a slow tail",
          replaced(passing(amsgrad=True), "torch.optim.Adam.__init__"), trained(short(epochs=60))),
    Fault("opt.weight_decay_adamw", "AdamW's decay of 1e-2 is added", "AdamW's default; FlagGems#4988",
          "a floor a little higher", replaced(stepped(decayed), ADAM), trained()),
    Fault("opt.lr_plus_10pct", "the learning rate is 10 % too high", "DeepCrime HLR", "10 % faster",
          replaced(with_settings(lr=lambda lr: 1.1 * lr), ADAM, SGD), trained()),
    Fault("opt.first_param_not_updated", "the first weight is never written", "#118115, PR165267", "a random encoder",
          replaced(frozen(lambda optimizer, place, parameter: place == 0), ADAM, SGD), trained()),
    Fault("opt.noncontiguous_not_updated", "parameters that are not contiguous are never written", "#118115",
          "only transposed or strided parameters", replaced(frozen(lambda optimizer, place, own: not own.is_contiguous()), ADAM,
          SGD), called(strided)),
    Fault("opt.last_param_not_updated", "the last parameter is never written", "ColossalAI PR633; chunks off by one",
          "the last bias stays", replaced(frozen(lambda optimizer, place, own: own is parameters(optimizer)[-1]), ADAM, SGD),
          trained()),
    Fault("opt.params_bf16", "parameters are rounded to bfloat16 after each step", "DeepSpeed#1801",
          "updates below 0.4 % are lost", replaced(stepped(in_bfloat16), ADAM, SGD), trained()),
    Fault("opt.moments_bf16", "moments are kept in bfloat16", "reasoning: states of few bits",
          "a second moment that stops falling", replaced(stepped(moments_in_bfloat16), ADAM, SGD), trained()),
    Fault("opt.updates_freeze", "after 300 steps nothing is updated", "#115607 (TrainCheck), accelerate#2665", "a flat line",
          replaced(frozen(is_late), ADAM, SGD),
          trained(short(epochs=110), seeds=(0,))),
    Fault("opt.step_off_by_one", "bias corrections count one step too many", "tt-metal#53212 class", "gone after 20 steps",
          replaced(by_hand(late=1), ADAM), trained()),
    Fault("opt.sgd_for_adam", "plain SGD replaces Adam, at its rate", "DeepCrime OCH", "orders of magnitude slower",
          replaced(stepped(plain), ADAM), trained()),
    Fault("opt.momentum_ignored", "SGD has no momentum", "DeepCrime OCH; a flag that is not passed on", "ten times slower",
          replaced(with_settings(momentum=lambda own: 0.0), SGD), momentum),
    Fault("opt.dampening", "SGD's momentum is dampened by 0.1", "reasoning: a default of another framework", "10 % slower",
          replaced(with_settings(dampening=lambda own: 0.1), SGD), momentum),
    Fault("opt.nesterov", "SGD's momentum is Nesterov's", "a flag's default", "a little faster",
          replaced(stepped(nesterov), SGD), momentum),
    Fault("opt.decay_ignored", "weight decay does nothing", "DeepCrime RAW family; FlagGems#4988", "a floor that is too low",
          replaced(with_settings(weight_decay=lambda own: 0.0), ADAM, SGD), decay),
    Fault("opt.lr_decays", "the learning rate falls by 0.1 % a step", "DeepCrime HLR; a scheduler left on", "slower and slower",
          replaced(stepped(slowing), ADAM, SGD), trained()),
    Fault("opt.state_lost", "every 100th step begins with empty moments", "TrainCheck: states not restored",
          "a jump every 100 steps", replaced(stepped(forgetting), ADAM, SGD), trained(short(epochs=40))),
    Fault("opt.foreach_last_skipped", "Adam on lists of tensors omits the last one", "chunks off by one; ColossalAI PR633",
          "as opt.last_param_not_updated, if torch uses lists (on GPUs)", replaced(
              without_last, "torch.optim.adam._multi_tensor_adam"), on_small("foreach")),
    Fault("opt.fused_strided", "Adam is one kernel, which assumes contiguous parameters", "torch 2.13.0 itself, on a CPU",
          "parameters in strided memory become wrong", replaced(
              passing(unless="foreach", fused=True), "torch.optim.Adam.__init__"), called(strided)),
    Fault("opt.fused_eps", "fused Adam uses an eps of 1e-3", "arguments of a fused kernel in another order",
          "a slow tail, on GPUs", replaced(passing(eps=1e-3), "torch.optim.adam._fused_adam"), on_small("fused")),
)  # fmt: skip
