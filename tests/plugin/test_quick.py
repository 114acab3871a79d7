"""--claims-quick from outside: the tests that it selects, for each marker."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def selected(pytester, monkeypatch):
    """The selected tests, by the names of file and test."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run(*options):
        result = pytester.runpytest_subprocess("--pyargs", "aeclaims", "--co", "-q", "-p", "no:cacheprovider", *options)
        return re.findall(r"(\w+)\.py::(.+)", result.stdout.str())

    return run


def test_claims_mean_quick_checks_of_conformance_too(selected):
    quick, all_claims, conformance = (
        set(selected("-m", *options))
        for options in (("claims", "--claims-quick"), ("claims",), ("conformance", "--claims-quick"))
    )
    files = {file for file, _ in quick}
    assert files >= {"test_torch", "test_random", "test_optimizers", "test_path", "test_population", "test_suite"}
    assert conformance < quick
    assert quick - conformance < all_claims
    assert not {file for file, _ in all_claims} & {file for file, _ in conformance}


def test_checks_that_are_soon_done_come_before_trainings_that_are_worth_compiling(selected):
    long = {
        "test_probabilities_round_to_one_and_logits_do_not",
        "test_bernoulli_rows_bring_log_loss_below_1e_3",
        "test_the_sigmoid_model_ends_on_the_class_floor_of_its_rows",
        "test_no_seed_gets_below_the_floor_of_its_rows",
        "test_mse_brings_the_model_that_log_loss_does_not_bring_to_zero",
        "test_binary_rows_bring_log_loss_to_zero",
        "test_the_number_of_rows_changes_nothing_where_the_number_of_steps_is_the_same",
    }
    order = [test for _, test in selected("-m", "claims", "--claims-quick")]
    assert set(order[-len(long) :]) == long


@pytest.mark.parametrize("backend", ["torch-loop", "torch-compile"])
def test_on_a_loop_long_trainings_are_not_quick(selected, backend):
    quick = ("-m", "claims", "--claims-quick")
    population, loop = set(selected(*quick)), set(selected(*quick, "--claims-backend", backend))
    left_out = {test for _, test in population - loop}
    assert left_out > {
        "test_bernoulli_rows_bring_log_loss_below_1e_3",
        "test_no_model_and_no_learning_rate_gets_below_the_entropy",
    }
    assert loop < population
    assert {file for file, _ in population - loop} == {"test_beyond", "test_linear", "test_sigmoid", "test_summary"}


def test_a_hundred_compiled_set_ups_are_not_quick(selected):
    quick = ("-m", "claims", "--claims-quick")
    left_out = set(selected(*quick)) - set(selected(*quick, "--claims-compile", "backend=aot_eager"))
    assert {test for _, test in left_out} == {"test_no_model_and_no_learning_rate_gets_below_the_entropy"}


CHECKS = """
    import multiprocessing
    import time
    from aeclaims import Adam, Experiment, Uniform, affine
    from aeclaims.judging.claim import claim, conformance
    from aeclaims.judging.judge import Proportion

    EXPERIMENT = Experiment(rows=Uniform(features=2), model=affine(2, 2), loss="mse", optimizer=Adam(), epochs=2, n_rows=9)

    @claim("trained", source="here", statement="it trains", kind="observation", proportions=(Proportion(at_least=0.5),), is_quick=True,
           trains=[EXPERIMENT])
    def test_trained(train, judge):
        run = train(EXPERIMENT)
        judge.proportion(run.final_loss > 0, Proportion(at_least=0.5), seeds=run.seeds, what="loss", reason="it is a square")

    @conformance("meanwhile", statement="others train", source="here", is_quick=True)
    def test_meanwhile(stack, judge):
        patience = time.monotonic() + 60
        while not multiprocessing.active_children() and time.monotonic() < patience:
            time.sleep(0.01)
        judge.all_within([len(multiprocessing.active_children())], at_least=1, at_most=1, seeds=[0], what="copies", reason="so")
"""


def test_meanwhile_a_copy_trains_what_takes_long(pytester, claims):
    pytester.makepyfile(test_checks=CHECKS)
    claims("--claims-quick", "--claims-processes", "2", backend="torch-eager").assert_outcomes(passed=2, deselected=2)


def test_on_the_reference_too_as_many_seeds_train_as_can_fail(pytester, claims):
    pytester.makepyfile(test_checks=CHECKS)
    for options, seeds in ((), 256), (("--claims-quick",), 26):
        claims("-k", "trained", "--claims-json", "out.json", *options).assert_outcomes(passed=1, deselected=3)
        assert json.loads((pytester.path / "out.json").read_text())["claims"][0]["seeds"] == seeds


def test_every_setups_gradient_and_each_loss_and_optimizer_is_walked(selected):
    from aeclaims.conformance.paths import QUICK, SETUPS

    quick = selected("-m", "conformance", "--claims-quick")
    assert sum("test_gradients" in test for _, test in quick) == len(SETUPS)
    walked = [SETUPS[name] for name in QUICK]
    assert {experiment.loss for experiment in walked} == {"mse", "bce", "bce_logits"}
    assert {type(experiment.optimizer).__name__ for experiment in walked} == {"Adam", "SGD"}


def test_stages_of_the_bisection_are_not_quick(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    result = pytester.runpytest_subprocess(
        "--pyargs", "aeclaims", "-m", "conformance", "--claims-quick", "--claims-bisect"
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--claims-bisect and --claims-quick exclude each other" in result.stderr.str()
