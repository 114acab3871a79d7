"""--claims-ladder from outside: each rung is judged, and the first that leaves the reference is named."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# One set-up, so that a program is compiled once for each rung; and, where it is asked for, a fault of inductor's alone.
CONFTEST = """
    import os
    import aeclaims.conformance.test_ladder
    from aeclaims.backends.torch_compiled import CompiledSteps

    aeclaims.conformance.test_ladder.NAMES = ("SGD with momentum and decay",)
    begin, compiling = CompiledSteps.__init__, CompiledSteps.compiling

    def faulty(self, population, compiler="inductor"):
        begin(self, population, compiler)
        if compiler == "inductor":  # what it traces and compiles; the first step is torch's own
            stock = population.gradients

            def scaled(parameters, batch):
                gradients, losses = stock(parameters, batch)
                return {name: 1.01 * gradient for name, gradient in gradients.items()}, losses

            population.gradients = scaled

    def broken(self, batch):
        if self.compiler == "aot_eager":
            self._key = None
            population, self.population = self.population, None  # what it traces is not there
            self.population = type("Population", (), {"step": population.step})()
        return compiling(self, batch)

    if os.environ.get("FAULT") == "inductor":
        CompiledSteps.__init__ = faulty
    if os.environ.get("FAULT") == "no compiler":
        CompiledSteps.compiling = broken
"""


@pytest.fixture
def ladder(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider")

    def run(*options, fault=""):
        monkeypatch.setenv("FAULT", fault)
        result = pytester.runpytest_subprocess("--pyargs", "aeclaims.conformance.test_ladder", "-m", "conformance",
                                               "--claims-ladder", "--claims-json", "out.json", *options)
        written = pytester.path / "out.json"
        found = json.loads(written.read_text())["claims"] if written.exists() else []
        return result, {claim["id"].partition(": ")[2]: claim for claim in found}

    return run


def test_sound_rungs_hold_and_what_there_is_not_is_not_exercised(ladder):
    result, found = ladder()
    assert result.ret == pytest.ExitCode.OK
    assert list(found) == ["torch-loop", "torch-eager", "torch, aot_eager", "torch, inductor", "torch-cudagraph"]
    verdicts = [claim["verdict"] for claim in found.values()]
    assert verdicts[:4] == ["held"] * 4
    assert verdicts[4] == "not exercised"
    assert found["torch-cudagraph"]["because"] == "the rung torch-cudagraph needs a CUDA device, and this is cpu"
    assert "the first rung that leaves the reference: none of those exercised" in result.stdout.str()


def test_the_first_rung_that_leaves_the_reference_is_named(ladder):
    result, found = ladder("-k", "not loop", fault="inductor")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert [id for id, claim in found.items() if claim["verdict"] == "failed"] == ["torch, inductor"]
    assert "the first rung that leaves the reference: rung 4: torch, inductor" in result.stdout.str()
    assert "set-up 'SGD with momentum and decay': step 2 is the first to leave the reference's path" in result.stdout.str()
    assert "such as compiled code" in result.stdout.str()


def test_a_rung_without_a_compiler_is_not_exercised(ladder, monkeypatch):
    monkeypatch.setenv("CXX", "/no/such/compiler")
    result, found = ladder("-k", "inductor")
    assert found["torch, inductor"]["verdict"] == "not exercised"
    assert "torch could not compile the training step" in found["torch, inductor"]["because"]
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_compiler_that_fails_on_the_program_fails_its_rung(ladder):
    result, found = ladder("-k", "aot", fault="no compiler")
    assert found["torch, aot_eager"]["verdict"] == "failed"
    assert "torch could not compile the training step" in found["torch, aot_eager"]["because"]
    assert result.ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize(("options", "message"), [
    (("--claims-backend", "torch"), "--claims-ladder chooses the backends itself: leave --claims-backend out"),
    (("-k", "nothing"), "--claims-ladder: no rung is selected; give -m conformance"),
])  # fmt: skip
def test_a_contradiction_is_a_usage_error(ladder, options, message):
    result, _ = ladder(*options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str()


def test_without_the_option_rungs_are_left_out(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    result = pytester.runpytest_subprocess("--pyargs", "aeclaims.conformance.test_ladder", "-m", "conformance", "--co", "-q")
    assert "5 deselected" in result.stdout.str()
