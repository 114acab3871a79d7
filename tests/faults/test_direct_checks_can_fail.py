"""Each check of torch itself, and of the suite's arithmetic, holds on stock torch, and fails if there is a fault."""

import pytest

from aeclaims import Backend
from aeclaims.backends import get
from aeclaims.conformance import test_optimizers, test_random, test_suite, test_torch
from aeclaims.conformance.stack import Stack
from aeclaims.errors import ClaimFailed, NotSupported
from aeclaims.judging.judge import ALPHA, P_VALUES, Judge
from aeclaims.selftest.faults import FAULTS

ON_TORCH = [value for module in (test_random, test_torch, test_optimizers) for name, value in vars(module).items()
            if name.startswith("test_")]  # fmt: skip
OWN = [value for name, value in vars(test_suite).items() if name.startswith("test_")]


def judged(check, dtype="float32"):
    judge = Judge()
    if check in OWN:
        check(judge)
    else:
        check(Stack(get("torch-eager"), dtype, (0, 1)), judge)
    return judge


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("check", [*ON_TORCH, *OWN], ids=lambda check: check.__name__)
def test_the_check_holds_on_stock_torch_and_leaves_its_generator_alone(check, dtype):
    import torch

    state = torch.random.get_rng_state()
    judge = judged(check, dtype)
    assert judge.judged
    assert not judge.not_exercised
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("check", ON_TORCH, ids=lambda check: check.__name__)
def test_what_does_not_train_with_torch_is_not_exercised(check):
    with pytest.raises(NotSupported, match="backend mine does not train with torch"):
        check(Stack(Backend("mine", lambda start: None), "float32", (0, 1)), Judge())


KILLS = {
    test_random.test_uniform_numbers_are_uniform:
        "data.uniform_099 data.rand_coarse data.rand_dup4 data.rand_skew data.rand_reaches_one",
    test_random.test_slices_calls_and_seeds_differ_and_a_seed_repeats:
        "data.rand_slices_equal data.randn_slices_equal engine.manual_seed_ignored",
    test_random.test_normal_numbers_are_normal: "data.randn_narrow",
    test_random.test_bernoulli_numbers_have_their_share: "data.bernoulli_048",
    test_random.test_permutations_hold_each_row_once_and_are_uniform:
        "loop.perm_with_repeats loop.randperm_same loop.perm_rotates_only",
    test_random.test_layers_start_as_documented:
        "init.gain_sqrt6 init.tenth init.last_layer_skipped init.zero init.bias_zero init.all_layers_alike init.normal "
        "init.fan_out",
    test_random.test_a_loader_visits_each_row_once_and_shuffles_anew: "loop.drop_last loop.not_shuffled data.target_misaligned",
    test_torch.test_activations:
        "fwd.leaky_slope_001 fwd.tanh_coarse fwd.hard_sigmoid fwd.relu6 fwd.relu_leaks bwd.leaky_slope_wrong bwd.tanh "
        "bwd.sigmoid bwd.relu_at_zero num.relu_in_bf16",
    test_torch.test_log_loss_of_probabilities: "loss.bce_clamp_10 loss.bce_epsilon loss.mean_over_rows_only loss.fp16_accumulate",
    test_torch.test_log_loss_on_logits:
        "fwd.double_sigmoid loss.bce_overflow loss.zero_grad_at_zero_logit loss.labels_smoothed loss.sum_over_features",
    test_torch.test_squared_error:
        "loss.mse_broadcast loss.mismatch_unwarned loss.sum_over_features loss.fp16_accumulate loss.mse_halved loss.absolute",
    test_torch.test_nan_stays_visible: "meas.isnan_blind meas.isfinite_blind meas.isnan_method_blind loss.nan_as_zero",
    test_torch.test_products_are_rounded_as_the_dtype_rounds:
        "num.tf32_matmul num.bf16_matmul num.products_18_bits num.matmul_only num.layers_in_fp16",
    test_optimizers.test_adam_on_small_gradients:
        "opt.eps_inside_sqrt opt.eps_1e-3 opt.no_bias_correction_v opt.beta2_099 opt.beta1_095 opt.amsgrad_on opt.lr_plus_10pct "
        "opt.weight_decay_adamw opt.step_off_by_one opt.params_bf16 opt.moments_bf16 opt.first_param_not_updated opt.fused_eps "
        "opt.noncontiguous_not_updated opt.updates_freeze opt.sgd_for_adam opt.foreach_last_skipped opt.fused_strided",
    test_optimizers.test_sgd_on_small_gradients:
        "opt.last_param_not_updated opt.momentum_ignored opt.dampening opt.nesterov opt.decay_ignored loop.double_step bwd.bf16",
    test_optimizers.test_zero_grad_clears_every_gradient: "loop.no_zero_grad loop.zero_grad_skips_bias fwd.bias_frozen_zero_grad",
    test_suite.test_epochs_to_a_bound_are_those_of_the_first_loss_below_it: "H01 H06 H07",
    test_suite.test_judges_reject_what_they_must_and_nothing_else: "H06-share H07-judge",
    test_suite.test_floors_are_those_of_the_very_rows: "H13",
}  # fmt: skip
CASES = [(check, fault) for check, faults in KILLS.items() for fault in faults.split()]


@pytest.mark.parametrize(("check", "fault"), CASES, ids=[f"{check.__name__}-{fault}" for check, fault in CASES])
def test_the_fault_makes_the_check_fail(check, fault):
    with FAULTS[fault].inject(), pytest.raises(ClaimFailed):
        judged(check)


def test_every_check_has_a_fault():
    assert set(KILLS) == {*ON_TORCH, *OWN}


def test_all_p_values_together_spend_14_parts_of_the_error_rate():
    judge = Judge()
    for check in ON_TORCH:
        if check.__module__.endswith("test_random"):
            check(Stack(get("torch-eager"), "float32", (0, 1)), judge)
    assert judge.spent == pytest.approx(14 * ALPHA / P_VALUES)
