"""Each check of torch itself holds on stock torch, and fails where torch is made wrong in ways that were reported of it."""

from contextlib import ExitStack
from unittest import mock

import numpy as np
import pytest

from aeclaims import Backend
from aeclaims.backends import Lacking, get
from aeclaims.conformance import test_optimizers, test_random, test_torch
from aeclaims.judge import ClaimFailed, Judge
from aeclaims.stack import Stack

CHECKS = [value for module in (test_random, test_torch, test_optimizers) for name, value in vars(module).items()
          if name.startswith("test_")]  # fmt: skip
NAMES = {check.__name__: check for check in CHECKS}


def judged(check, dtype="float32"):
    judge = Judge()
    check(Stack(get("torch-eager"), dtype, (0, 1)), judge)
    return judge


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("check", CHECKS, ids=NAMES)
def test_the_check_holds_on_stock_torch_and_leaves_its_generator_alone(check, dtype):
    import torch

    state = torch.random.get_rng_state()
    judge = judged(check, dtype)
    assert judge.judged
    assert not judge.not_exercised
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("check", CHECKS, ids=NAMES)
def test_what_does_not_train_with_torch_is_not_exercised(check):
    with pytest.raises(Lacking, match="backend mine does not train with torch"):
        check(Stack(Backend("mine", lambda experiment, start: None), "float32", (0, 1)), Judge())


# ------------------------------------------------------------------------------------------- faults


def returning(change):
    """A function whose result is changed."""
    return lambda stock: lambda *args, **kwargs: change(stock(*args, **kwargs))


def repeated_slice(values):
    return values[:1].expand_as(values) if values.dim() >= 3 else values


def fours(values):
    return values.reshape(-1)[::4].repeat_interleave(4)[: values.numel()].reshape(values.shape)


def with_replacement(stock):
    import torch

    return lambda count, **kwargs: torch.randint(count, (count,), **kwargs)


def always_the_same(stock):
    import torch

    def first(count, **kwargs):
        return stock(count, generator=torch.Generator().manual_seed(1), **kwargs)

    return first


def initialised(change):
    """nn.Linear whose parameters are changed once they are drawn."""
    def fault(stock):
        def reset(self):
            import torch

            stock(self)
            with torch.no_grad():
                change(self)
        return reset
    return fault


def scaled(name, factor):
    return initialised(lambda layer: getattr(layer, name).mul_(factor))


def stepped(change):
    """An optimizer that does something else before or after its step."""
    def fault(stock):
        def step(self, closure=None):
            return change(self, lambda: stock(self))
        return step
    return fault


def frozen(is_frozen):
    """Parameters that are silently not updated."""
    def change(optimizer, step):
        import torch

        own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        before = [parameter.detach().clone() for parameter in own]
        step()
        with torch.no_grad():
            for place, (parameter, value) in enumerate(zip(own, before, strict=True)):
                if is_frozen(place, len(own), parameter):
                    parameter.copy_(value)
    return stepped(change)


def grouped(**values):
    """Settings that are not what was asked for."""
    def change(optimizer, step):
        for group in optimizer.param_groups:
            group.update({name: value(group[name]) if callable(value) else value for name, value in values.items()})
        step()
        for group in optimizer.param_groups:
            if "lr" in values:
                group["lr"] /= 1.1
    return stepped(change)


def eps_inside_the_root(optimizer, step):
    for group in optimizer.param_groups:
        group["eps"] = 1e-4  # sqrt(v + 1e-8) is about sqrt(v) + 1e-4 where v is small
    step()


def counted_one_more(optimizer, step):
    step()
    for state in optimizer.state.values():
        if state["step"] == 1:
            state["step"] += 1


def decoupled_decay(optimizer, step):
    import torch

    with torch.no_grad():
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.mul_(1 - group["lr"] * 1e-2)
    step()


def rounded_to_bfloat16(optimizer, step):
    import torch

    step()
    with torch.no_grad():
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.copy_(parameter.bfloat16())


def lower_precision(bits):
    """Operands of products rounded to so many bits."""
    def rounded(values):
        import torch

        mantissa, exponent = torch.frexp(values.detach())
        return torch.ldexp(torch.round(mantissa * 2**bits) / 2**bits, exponent)

    return lambda stock: lambda a, b, *rest: stock(rounded(a), rounded(b), *rest)


def slope_ignored(stock):
    return lambda values, negative_slope=0.01, inplace=False: stock(values, 0.01, inplace)


def clamped_at_ten(stock):
    return lambda y, x, weight=None, reduction="mean": stock(y.clamp(4.5e-5, 1 - 4.5e-5), x, reduction=reduction)


def naive_logits(stock):
    def loss(z, x, weight=None, pos_weight=None, reduction="mean"):
        value = (1 + z.exp()).log() - x * z
        return value if reduction == "none" else value.mean()
    return loss


def dead_at_zero(stock):
    return lambda z, x, *rest, **kwargs: stock(z.where(z.abs() > 1e-3, z.detach()), x, *rest, **kwargs)


def broadcast(stock):
    return lambda y, x, *rest, **kwargs: stock(y, x[:1].expand_as(x), *rest, **kwargs)


def summed_over_features(stock):
    return lambda y, x, *rest, **kwargs: stock(y, x, *rest, **kwargs) * y.shape[-1]


def half_accumulated(stock):
    return lambda y, x, *rest, **kwargs: ((y - x) ** 2).half().mean().to(y.dtype)


def meant_over_rows(stock):
    def loss(z, x, *rest, reduction="mean", **kwargs):
        return stock(z, x, *rest, reduction=reduction, **kwargs) * (z.shape[-1] if reduction == "mean" else 1)
    return loss


def accumulated_in_half(stock):
    def loss(p, x, weight=None, reduction="mean"):
        value = stock(p, x, reduction="none")
        return value if reduction == "none" else value.half().mean().to(p.dtype)
    return loss


def wrong_backward(stock):
    def leaky(values, slope=0.01, inplace=False):
        return stock(values, slope) + (values - values.detach()) * (1 - slope) * (values < 0)
    return leaky


# The checks, by short names.
UNIFORM = test_random.test_uniform_numbers_are_uniform
SLICES = test_random.test_slices_calls_and_seeds_differ_and_a_seed_repeats
NORMAL = test_random.test_normal_numbers_are_normal
BITS = test_random.test_bernoulli_numbers_have_their_share
ORDERS = test_random.test_permutations_hold_each_row_once_and_are_uniform
LAYERS = test_random.test_layers_start_as_documented
LOADER = test_random.test_a_loader_visits_each_row_once_and_shuffles_anew
ACTIVATIONS = test_torch.test_activations
PROBABILITIES = test_torch.test_log_loss_of_probabilities
LOGITS = test_torch.test_log_loss_on_logits
SQUARES = test_torch.test_squared_error
NAN = test_torch.test_nan_stays_visible
PRODUCTS = test_torch.test_products_are_rounded_as_the_dtype_rounds
ON_ADAM = test_optimizers.test_adam_on_small_gradients
ON_SGD = test_optimizers.test_sgd_on_small_gradients
CLEARED = test_optimizers.test_zero_grad_clears_every_gradient
# Where torch is made wrong.
RAND, BERNOULLI, PERMUTE, RESET = "torch.rand", "torch.bernoulli", "torch.randperm", "torch.nn.Linear.reset_parameters"
ADAM, SGD = "torch.optim.Adam.step", "torch.optim.SGD.step"
MSE, LEAKY = "torch.nn.functional.mse_loss", "torch.nn.functional.leaky_relu"
BCE = "torch.nn.functional.binary_cross_entropy"
LOAD = "torch.utils.data.DataLoader.__init__"
FAULTS = {
    "data.uniform_099": (UNIFORM, RAND, returning(lambda u: u * 0.99)),
    "data.rand_coarse": (UNIFORM, RAND, returning(lambda u: (u * 256).floor() / 256)),
    "data.rand_dup4": (UNIFORM, RAND, returning(fours)),
    "data.rand_skew": (UNIFORM, RAND, returning(lambda u: u**1.06)),
    "data.rand_reaches_one": (UNIFORM, RAND, returning(lambda u: (u * 1.00001).clamp(max=1))),
    "data.rand_slices_equal": (SLICES, RAND, returning(repeated_slice)),
    "engine.shared_seed": (SLICES, "torch.manual_seed",
                           lambda stock: lambda seed: stock(0)),
    "data.randn_narrow": (NORMAL, "torch.randn", returning(lambda z: z.clamp(-3, 3) * 0.98)),
    "data.bernoulli_048": (BITS, BERNOULLI,
                           lambda stock: lambda p: stock(p * 0.96)),
    "loop.perm_with_repeats": (ORDERS, PERMUTE, with_replacement),
    "loop.same_order": (ORDERS, PERMUTE, always_the_same),
    "loop.perm_rotates_only": (ORDERS, PERMUTE,
                               lambda stock: lambda count, **where: stock(count, **where).sort().values.roll(
                                   int(stock(count)[0]) // 2)),
    "init.gain_sqrt6": (LAYERS, RESET, scaled("weight", 6**0.5)),
    "init.tenth": (LAYERS, RESET, scaled("weight", 0.1)),
    "init.zero": (LAYERS, RESET, scaled("weight", 0)),
    "init.bias_zero": (LAYERS, RESET, scaled("bias", 0)),
    "loop.drop_last": (LOADER, LOAD,
                       lambda stock: lambda self, *args, **kwargs: stock(self, *args, **{**kwargs, "drop_last": True})),
    "loop.not_shuffled": (LOADER, LOAD,
                          lambda stock: lambda self, *args, **kwargs: stock(self, *args, **{**kwargs, "shuffle": False})),
    "data.target_misaligned": (LOADER,
                               "torch.utils.data.TensorDataset.__getitem__",
                               lambda stock: lambda self, at: (stock(self, at)[0], stock(self, at - (at == 500))[1])),
    "fwd.leaky_slope_001": (ACTIVATIONS, LEAKY, slope_ignored),
    "bwd.leaky_slope_wrong": (ACTIVATIONS, LEAKY, wrong_backward),
    "fwd.tanh_coarse": (ACTIVATIONS, "torch.tanh", returning(lambda y: y * (1 + 1e-5))),
    "loss.bce_clamp_10": (PROBABILITIES, BCE, clamped_at_ten),
    "loss.bce_overflow": (LOGITS, f"{BCE}_with_logits", naive_logits),
    "loss.zero_grad_at_zero_logit": (LOGITS,
                                     f"{BCE}_with_logits", dead_at_zero),
    "loss.bce_mean_over_rows_only": (LOGITS, f"{BCE}_with_logits", meant_over_rows),
    "loss.bce_fp16_accumulate": (PROBABILITIES, BCE, accumulated_in_half),
    "loss.mse_broadcast": (SQUARES, MSE, broadcast),
    "loss.sum_over_features": (SQUARES, MSE, summed_over_features),
    "loss.fp16_accumulate": (SQUARES, MSE, half_accumulated),
    "meas.isnan_blind": (NAN, "torch.isnan", returning(lambda seen: seen & False)),
    "meas.isfinite_blind": (NAN, "torch.isfinite", returning(lambda seen: seen | True)),
    "num.tf32_matmul": (PRODUCTS, "torch.nn.functional.linear", lower_precision(11)),
    "num.bf16_matmul": (PRODUCTS, "torch.Tensor.__matmul__", lower_precision(8)),
    "opt.eps_inside_sqrt": (ON_ADAM, ADAM, stepped(eps_inside_the_root)),
    "opt.eps_1e-3": (ON_ADAM, ADAM, grouped(eps=1e-3)),
    "opt.beta2_099": (ON_ADAM, ADAM, grouped(betas=(0.9, 0.99))),
    "opt.amsgrad_on": (ON_ADAM, "torch.optim.Adam.__init__",
                       lambda stock: lambda self, *args, **kwargs: stock(self, *args, **kwargs, amsgrad=True)),
    "opt.lr_plus_10pct": (ON_ADAM, ADAM, grouped(lr=lambda lr: lr * 1.1)),
    "opt.weight_decay_adamw": (ON_ADAM, ADAM, stepped(decoupled_decay)),
    "opt.step_off_by_one": (ON_ADAM, ADAM, stepped(counted_one_more)),
    "opt.params_bf16": (ON_ADAM, ADAM, stepped(rounded_to_bfloat16)),
    "opt.first_param_not_updated": (ON_ADAM, ADAM,
                                    frozen(lambda place, count, parameter: place == 0)),
    "opt.last_param_not_updated": (ON_SGD, SGD,
                                   frozen(lambda place, count, parameter: place == count - 1)),
    "opt.noncontiguous_not_updated": (ON_ADAM, ADAM,
                                      frozen(lambda place, count, parameter: not parameter.is_contiguous())),
    "loop.double_step": (ON_SGD, SGD, stepped(lambda optimizer, step: (step(), step()))),
    "opt.dampening": (ON_SGD, SGD, grouped(dampening=0.1)),
    "loop.no_zero_grad": (CLEARED, "torch.optim.Adam.zero_grad",
                          lambda stock: lambda self, set_to_none=True: None),
    "loop.zero_grad_skips_bias": (
        CLEARED, "torch.optim.Adam.zero_grad",
        lambda stock: lambda self, set_to_none=True: [p.grad.zero_() for p in self.param_groups[0]["params"] if p.dim() > 1]),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_the_fault_makes_the_check_fail(fault):
    import importlib

    import torch.utils.data  # noqa: F401

    check, place, change = FAULTS[fault]
    *owner, name = place.split(".")
    target = importlib.import_module("torch")
    for part in owner[1:]:
        target = getattr(target, part)
    with ExitStack() as context:
        context.enter_context(mock.patch.object(target, name, change(getattr(target, name))))
        with pytest.raises(ClaimFailed):
            judged(check)


def test_every_check_has_a_fault():
    assert {check for check, _, _ in FAULTS.values()} == set(CHECKS)


def test_the_error_rate_of_p_values_is_split_over_all_of_them():
    from aeclaims.conformance import direct

    counted = []

    def counting(judge, value, *, what, because, **bounds):
        if direct.WHY_P in because:
            counted.append(what)

    with mock.patch.object(test_random, "number", counting):
        for check in CHECKS:
            if check.__module__.endswith("test_random"):
                check(Stack(get("torch-eager"), "float32", (0, 1)), Judge())
    assert len(counted) == direct.P_VALUES
    assert np.isclose(direct.LEAST_P * direct.P_VALUES, 1e-6)
