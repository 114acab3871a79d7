"""--claims-quick from outside: what it selects, under which marker."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def selected(pytester, monkeypatch):
    """The tests that are selected, by the names of their files and their own."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run(*options):
        result = pytester.runpytest_subprocess("--pyargs", "aeclaims", "--co", "-q", "-p", "no:cacheprovider", *options)
        return set(re.findall(r"(\w+)\.py::(.+)", result.stdout.str()))

    return run


def test_claims_mean_quick_checks_of_conformance_too(selected):
    quick, all_claims, conformance = (selected("-m", *options) for options in (
        ("claims", "--claims-quick"), ("claims",), ("conformance", "--claims-quick")))
    files = {file for file, _ in quick}
    assert files >= {"test_torch", "test_random", "test_optimizers", "test_path", "test_population", "test_suite"}
    assert conformance < quick
    assert quick - conformance < all_claims
    assert not {file for file, _ in all_claims} & {file for file, _ in conformance}
    assert any("eigenvalue_floor" in test for _, test in quick)


def test_every_setups_gradient_and_each_loss_and_optimizer_is_walked(selected):
    from aeclaims.conformance.paths import QUICK, SETUPS

    quick = selected("-m", "conformance", "--claims-quick")
    assert sum("test_gradients" in test for _, test in quick) == len(SETUPS)
    walked = [SETUPS[name] for name in QUICK]
    assert {experiment.loss for experiment in walked} == {"mse", "bce", "bce_logits"}
    assert {type(experiment.optimizer).__name__ for experiment in walked} == {"Adam", "SGD"}


def test_rungs_of_the_ladder_are_not_quick(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    result = pytester.runpytest_subprocess("--pyargs", "aeclaims", "-m", "conformance", "--claims-quick", "--claims-ladder")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "no rung is selected" in result.stderr.str()
