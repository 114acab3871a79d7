"""Every claim holds on a sound stack and has a fault that makes it fail."""

import dataclasses
import inspect
import pkgutil
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

import aeclaims.claims
from aeclaims import Affine, Experiment, Run, train
from aeclaims.claims import setups, test_beyond, test_bottlenecks, test_linear, test_listing, test_sigmoid, test_summary
from aeclaims.judge import ClaimFailed, Judge

# The fewest seeds with which the most demanding claim can fail.
SEEDS = range(35)
COSTLY_SEEDS = range(16)


@cache
def sound(experiment: Experiment) -> Run:
    seeds = COSTLY_SEEDS if experiment.features == 10 else SEEDS
    return train(experiment, seeds=seeds, backend="reference")


def with_losses(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Run], Run]:
    """A fault in what is reported: the epoch losses, changed."""
    return lambda run: Run(run.start, change(run.epoch_loss.copy()), run.parameters)


def untrained(run: Run) -> Run:
    """An optimizer whose steps go nowhere."""
    return Run(run.start, np.broadcast_to(run.epoch_loss[0], run.epoch_loss.shape), run.start.parameters())


def biases_lost(run: Run) -> Run:
    """A final bias that was never written."""
    return Run(run.start, run.epoch_loss, tuple(Affine(w, np.zeros_like(b)) for w, b in run.parameters))


def last_layer_off(run: Run) -> Run:
    """A last layer whose gradients are not what they should be."""
    *first, (weight, bias) = run.parameters
    return Run(run.start, run.epoch_loss, (*first, Affine(weight * 0.9, bias)))


def running_minimum(run: Run) -> Run:
    """H02: the history keeps the minimum of the minibatches, not their mean."""
    return Run(run.start, run.epoch_loss * 0.9, run.parameters)


def twice_as_fast(run: Run) -> Run:
    """Each batch is stepped on twice."""
    late = np.repeat(run.epoch_loss[-1:], len(run.epoch_loss) // 2, axis=0)
    return Run(run.start, np.concatenate([run.epoch_loss[::2], late]), run.parameters)


def gradients_cleared_after_all(run: Run) -> Run:
    return sound(dataclasses.replace(run.experiment, clear_gradients=True))


halved = with_losses(lambda losses: losses / 2)
stuck = with_losses(lambda losses: np.maximum(losses, 1e-4))
one_nan = with_losses(lambda losses: np.where(np.arange(losses.shape[1]) == 3, np.nan, losses))
all_nan = with_losses(lambda losses: np.full_like(losses, np.nan))
reduced_precision = with_losses(lambda losses: losses + 1e-9)
one_seed_a_little_off = with_losses(lambda losses: losses * np.where(np.arange(losses.shape[1]) == 2, 1.001, 1))
slower = with_losses(lambda losses: np.concatenate([losses[:1], losses[:-1]]))

FAULTS = [
    (test_summary.test_bce_stays_above_the_entropy_of_uniform_rows_and_mse_does_not, [running_minimum, stuck, one_nan]),
    (test_linear.test_most_seeds_bring_mse_below_1e_5_in_fewer_than_450_epochs_and_some_do_not,
     [stuck, all_nan, twice_as_fast, one_seed_a_little_off, slower]),
    (test_linear.test_seeds_that_get_there_go_on_below_1e_11, [reduced_precision]),
    (test_sigmoid.test_no_seed_gets_below_the_floor_of_its_rows, [running_minimum, one_nan, one_seed_a_little_off, slower]),
    (test_sigmoid.test_no_model_and_no_learning_rate_gets_below_the_entropy, [halved, one_nan]),
    (test_sigmoid.test_bernoulli_rows_bring_log_loss_below_1e_3, [untrained, all_nan, one_seed_a_little_off]),
    (test_bottlenecks.test_independent_features_lose_what_does_not_fit_the_code, [untrained, biases_lost, slower]),
    (test_bottlenecks.test_redundant_features_fit_a_code_of_their_rank, [stuck, untrained]),
    (test_bottlenecks.test_affine_autoencoders_end_on_the_eigenvalue_floor, [untrained, last_layer_off]),
    (test_listing.test_most_seeds_of_the_posted_network_get_below_1e_5, [stuck, slower]),
    (test_listing.test_without_clearing_gradients_no_seed_gets_there, [gradients_cleared_after_all]),
    (test_beyond.test_the_closed_form_equals_quadrature_and_what_the_stack_cannot_undercut, [running_minimum, all_nan]),
    (test_beyond.test_what_bce_costs_above_the_entropy_is_the_divergence, [running_minimum, one_seed_a_little_off]),
    (test_beyond.test_the_sigmoid_model_ends_on_the_class_floor_of_its_rows, [untrained, biases_lost]),
]  # fmt: skip
CASES = [(claim, fault) for claim, faults in FAULTS for fault in faults]
NAMES = {id(value): name for name, value in globals().items() if callable(value)}


def judge_with(claim: Callable[..., None], stack: Callable[[Experiment], Run]) -> Judge:
    """Judge a claim on a stack, as the plugin's fixtures would."""
    judge = Judge()
    function = claim.hypothesis.inner_test if hasattr(claim, "hypothesis") else claim
    offered = {"judge": judge, "train": stack, "reference": sound}
    wanted = inspect.signature(function).parameters
    drawn = {} if function is claim else {"lr": 1e-2, "hidden": [3], "features": 2, "activation": setups._LEAKY,
                                          "n_rows": 50, "loss": "bce"}
    function(**{name: offered.get(name, drawn.get(name)) for name in wanted})
    return judge


@pytest.mark.parametrize("claim", [claim for claim, _ in FAULTS], ids=lambda claim: claim.__name__)
def test_the_claim_holds_on_a_sound_stack(claim):
    judge = judge_with(claim, sound)
    assert judge.judged
    assert not judge.not_exercised


@pytest.mark.parametrize(("claim", "fault"), CASES, ids=[f"{NAMES[id(f)]}-{c.__name__}" for c, f in CASES])
def test_the_fault_makes_the_claim_fail(claim, fault):
    with pytest.raises(ClaimFailed):
        judge_with(claim, lambda experiment: fault(sound(experiment)))


def test_every_claim_of_the_package_is_in_the_list():
    claims = set()
    for module in pkgutil.iter_modules(aeclaims.claims.__path__):
        if module.name.startswith("test_"):
            members = vars(getattr(aeclaims.claims, module.name))
            claims |= {value for name, value in members.items() if name.startswith("test_") and callable(value)}
    assert claims == {claim for claim, _ in FAULTS}
