"""--claims-bisect from outside: each stage is judged, and the first that deviates is named."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# One set-up, so that each stage compiles one program. If the test asks for it, there is a fault in inductor's products only.
CONFTEST = """
    import os
    import aeclaims.conformance.test_bisect
    import torch

    aeclaims.conformance.test_bisect.NAMES = ("SGD with momentum and decay",)

    def pytest_configure(config):
        if os.environ.get("FAULT") != "inductor":
            return
        from torch._inductor import config as inductor

        def scaled(graph):
            for node in list(graph.nodes):
                if node.target in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
                    with graph.inserting_after(node):
                        off = graph.call_function(torch.ops.aten.mul.Tensor, (node, 1.001))
                        off.meta = node.meta
                    node.replace_all_uses_with(off, delete_user_cb=lambda user: user is not off)

        inductor.force_disable_caches = True
        inductor.post_grad_custom_post_pass = scaled
"""
COMPILERS = """
    def identity(graph, inputs):
        return graph

    def broken(graph, inputs):
        return 1 / 0
"""
PLAIN = [
    "loop",
    "loop, compiled by eager",
    "loop, compiled by aot_eager",
    "loop, compiled by aot_eager_decomp_partition",
]
STAGES = [*PLAIN, "loop, compiled", "population", "population, compiled", "population, CUDA graph"]


@pytest.fixture
def bisect(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(mine=COMPILERS)
    pytester.syspathinsert()
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider")

    def run(*options, fault=""):
        monkeypatch.setenv("FAULT", fault)
        result = pytester.runpytest_subprocess(
            "--pyargs",
            "aeclaims.conformance.test_bisect",
            "-m",
            "conformance",
            "--claims-bisect",
            "--claims-json",
            "out.json",
            *options,
        )
        written = pytester.path / "out.json"
        found = json.loads(written.read_text())["claims"] if written.exists() else []
        return result, {claim["id"].partition(": ")[2]: claim for claim in found}

    return run


def test_sound_stages_hold_and_a_missing_one_is_not_exercised(bisect):
    result, found = bisect()
    assert result.ret == pytest.ExitCode.OK
    assert list(found) == STAGES
    assert [claim["verdict"] for claim in found.values()] == ["held"] * 7 + ["not exercised"]
    assert found["population, CUDA graph"]["reason"] == "a CUDA graph needs a CUDA device, and this is cpu"
    assert "the first stage that deviates: none of those exercised" in result.stdout.str()


def test_a_faulty_lowering_is_named_with_stage_set_up_step_layer_and_quantity(bisect):
    result, found = bisect(fault="inductor")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert [id for id, claim in found.items() if claim["verdict"] == "failed"] == ["loop, compiled"]
    assert "the first stage that deviates: stage 5: loop, compiled" in result.stdout.str()
    assert "set-up 'SGD with momentum and decay': " in result.stdout.str()
    assert "loss of step 1, relative deviation from the oracle" in result.stdout.str()


def test_settings_of_the_compiler_take_part(bisect):
    result, found = bisect("-k", "compiled]", "--claims-compile", "backend=mine:broken")
    assert {id: claim["verdict"] for id, claim in found.items()} == {
        "loop, compiled": "failed",
        "population, compiled": "failed",
    }
    assert "division by zero" in found["loop, compiled"]["reason"] + result.stdout.str()
    result, found = bisect("-k", "compiled]", "--claims-compile", "backend=mine:identity")
    assert {claim["verdict"] for claim in found.values()} == {"held"}


def test_a_stage_without_a_compiler_is_not_exercised(bisect, monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "/no/such/compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    result, found = bisect("-k", "loop and compiled]")
    assert found["loop, compiled"]["verdict"] == "not exercised"
    assert "torch could not compile the training: there is no C++ compiler" in found["loop, compiled"]["reason"]
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_stages_that_torch_leaves_uncompiled_are_not_exercised(bisect, monkeypatch):
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    result, found = bisect("-k", "not eager and not CUDA")
    assert {id: claim["verdict"] for id, claim in found.items()} == {
        "loop": "held",
        "loop, compiled": "not exercised",
        "population": "held",
        "population, compiled": "not exercised",
    }
    assert found["population, compiled"]["reason"].startswith("torch.compile compiled nothing: torch is told not to")
    assert result.ret == pytest.ExitCode.OK


@pytest.mark.parametrize(("options", "message"), [
    (("--claims-backend", "torch"), "--claims-bisect chooses the backends itself: leave --claims-backend out"),
    (("--claims-quick",), "--claims-bisect and --claims-quick exclude each other"),
    (("-k", "nothing"), "--claims-bisect: no stage is selected; give -m conformance"),
    (("-m", "claims", "-n", "2"), "--claims-bisect: no stage is selected; give -m conformance"),
])  # fmt: skip
def test_a_contradiction_is_a_usage_error(bisect, options, message):
    result, _ = bisect(*options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str()
    assert "INTERNALERROR" not in result.stdout.str()


def test_without_the_option_stages_are_left_out(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    result = pytester.runpytest_subprocess(
        "--pyargs", "aeclaims.conformance.test_bisect", "-m", "conformance", "--co", "-q"
    )
    assert "8 deselected" in result.stdout.str()
