"""`pytest -m conformance` from outside: on the backend of the page, on broken ones, on JAX, on another package's."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "write-a-backend.md").read_text()
(SOURCE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def conformance(pytester, monkeypatch):
    """Runs the command of the page, in a folder with my_backend.py."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (command,) = re.findall(r"^pytest (--pyargs aeclaims.conformance .*)$", PAGE, re.MULTILINE)

    def run(source, *options, backend="my_backend:BACKEND"):
        (pytester.path / "my_backend.py").write_text(source)
        pytester.syspathinsert()
        words = [backend if word == "my_backend:BACKEND" else word for word in command.split()]
        return pytester.runpytest_subprocess(*words, "-p", "no:cacheprovider", "--claims-json", "out.json", *options)

    return run


def verdicts(pytester):
    return {claim["id"]: claim for claim in json.loads((pytester.path / "out.json").read_text())["claims"]}


def test_the_pages_backend_passes_and_what_it_lacks_is_not_exercised(conformance, pytester):
    result = conformance(SOURCE)
    assert result.ret == pytest.ExitCode.OK
    found = verdicts(pytester)
    assert {claim["verdict"] for claim in found.values()} == {"held", "not exercised"}
    assert found["path: SGD"]["verdict"] == found["gradient: affine layers, MSE, Adam"]["verdict"] == "held"
    assert found["independence: SGD"]["verdict"] == found["alone: SGD"]["verdict"] == "held"
    assert found["path: tanh"]["reason"] == "backend mine lacks tanh (not written yet) and adam (not written yet)"
    assert sum(claim["verdict"] == "held" for claim in found.values()) >= 10


def test_a_backend_that_is_wrong_in_one_place_is_named_with_that_place(conformance):
    wrong = SOURCE.replace("bias -= rate *", "bias -= (0.99 if weight is layers[-1][0] else 1) * rate *")
    assert wrong != SOURCE
    result = conformance(wrong, "-k", "gradients")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([
        "claim gradient: affine layers, MSE, Adam failed on backend my_backend:BACKEND",
        "  says:   gradients are those of the oracle (paths.py; conformance)",
        "  gradient of the bias of layer 2 in step 1, relative to the largest parameter",
    ])  # fmt: skip
    assert "Traceback" not in result.stdout.str()


def test_the_replay_command_of_a_check_fails_again(conformance, pytester):
    fault = "                bias[[seed == 3 for seed in start.seeds]] *= 1.01\n"
    wrong = SOURCE.replace("                bias -=", f"{fault}                bias -=")
    assert wrong != SOURCE
    conformance(wrong, "-k", "gradients and affine")
    replay = verdicts(pytester)["gradient: affine layers, MSE, Adam"]["replay"]
    assert replay == (
        "aeclaims run 'gradient: affine layers, MSE, Adam' --seeds 1 --seed-base 3 --backend my_backend:BACKEND"
    )
    again = pytester.run(sys.executable, "-m", *shlex.split(replay))
    assert again.ret == 1
    again.stdout.fnmatch_lines(["claim gradient: affine layers, MSE, Adam failed on backend my_backend:BACKEND"])


def test_the_page_shows_what_such_a_failure_says(conformance):
    wrong = SOURCE.replace("bias -= rate *", "bias -= (0.99 if weight is layers[-1][0] else 1) * rate *")
    result = conformance(wrong, "-k", "gradients and affine")
    (shown,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    for line in shown.splitlines():
        assert line in [printed.rstrip() for printed in result.outlines] or line.startswith("  found")


BROKEN = {
    "returns nothing": (SOURCE.replace("    return Run(", "    Run("), "returned a NoneType; a Run is expected"),
    "wrong shapes": (SOURCE.replace("Run(start, epoch_loss,", "Run(start, epoch_loss[:, :1],"), "epoch_loss has shape"),
    "NaN": (SOURCE.replace("    return Run(start, epoch_loss", "    return Run(start, epoch_loss * np.nan"), "nan"),
    "raises": (SOURCE.replace("    rows =", "    raise RuntimeError('bus error')\n    rows ="), "bus error"),
    "somebody else's seeds": (
        SOURCE.replace("return Run(start,", "start = type(start)(start.experiment, (77,), start.dtype)\n    "
                       "epoch_loss, layers = epoch_loss[:, :1], [(w[:1], b[:1]) for w, b in layers]\n    return Run(start,"),
        "another start, with seeds"),
    "the untouched start": (SOURCE.replace("tuple(LayerParameters(weight, bias) for weight, bias in layers)", "start.parameters()"),
                            "gradient of the bias of layer 2"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
def test_what_a_broken_backend_does_is_one_line_and_the_json_is_written(conformance, pytester, fault):
    source, said = BROKEN[fault]
    assert source != SOURCE
    result = conformance(source, "-k", "gradients and (affine or SGD)")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    found = verdicts(pytester)
    assert found["gradient: affine layers, MSE, Adam"]["verdict"] == "failed"
    assert said in result.stdout.str()
    assert len(found) >= 3


WRONG = {
    "name": ('BACKEND = Backend("", train)', "Backend.name = '': give a name"),
    "train": ('BACKEND = Backend("mine", None)', "Backend.train = None: give a function"),
    "unsupported": ('BACKEND = Backend("mine", train, unsupported={"float99": "why"})', "Backend.unsupported = 'float99': give names of float32"),
    "reason": ('BACKEND = Backend("mine", train, unsupported={"tanh": ""})', "Backend.unsupported['tanh'] = '': give the reason"),
    "list": ('BACKEND = Backend("mine", train, unsupported=["tanh"])',
             "Backend.unsupported = ['tanh']: give a dictionary"),
    "dtype": ('BACKEND = Backend("mine", train, tolerances={"half": 3})',
              "Backend.tolerances = 'half': give one of float64, float32"),
    "tolerance": ('BACKEND = Backend("mine", train, tolerances={"float32": 3})',
                  "Backend.tolerances['float32'] = 3: give a Tolerance"),
    "evidence": ('from aeclaims import Tolerance\nBACKEND = Tolerance(3, "")', "Tolerance.evidence = '': give the measured value"),
    "times": ('from aeclaims import Tolerance\nBACKEND = Tolerance(0.5, "so")',
              "Tolerance.times = 0.5: give a number of at least 1"),
    "flag": ('BACKEND = Backend("mine", train, is_torch="yes")', "Backend.is_torch = 'yes': give True or False"),
    "kind": ("BACKEND = 3", "is a int; give a Backend"),
    "factory": ("def BACKEND(device): return 3", "called with a device it returned a int"),
    "import": ("import no_such_package", "No module named 'no_such_package'"),
    "error": ("1 / 0", "ZeroDivisionError: division by zero"),
}  # fmt: skip


@pytest.mark.parametrize("fault", WRONG)
def test_a_malformed_record_is_refused_with_the_fields_name(conformance, fault):
    lines, said = WRONG[fault]
    result = conformance(f"{SOURCE}\n{lines}\n", "-k", "SGD")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stderr.str()
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_a_function_of_the_device_is_handed_the_device(conformance):
    source = f'{SOURCE}\ndef on(device):\n    return Backend(f"mine on {{device}}", train, device, unsupported=BACKEND.unsupported)\n'
    result = conformance(
        source, "-k", "gradients and (tanh or SGD)", "--claims-device", "abacus", backend="my_backend:on"
    )
    assert result.ret == pytest.ExitCode.OK
    assert "backend mine on abacus lacks tanh" in result.stdout.str()


def test_a_backend_of_another_package_is_found_by_its_name(conformance, pytester):
    folder = pytester.path / "mine-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[aeclaims.backends]\nabacus = my_backend:BACKEND\n")
    result = conformance(SOURCE, "-k", "SGD", backend="abacus")
    assert result.ret == pytest.ExitCode.OK
    assert "backend abacus, device cpu" in result.stdout.str()
    unknown = conformance(SOURCE, backend="abakus")
    listed = "torch, torch-eager, torch-compile, torch-cudagraph, torch-loop, numba, oracle, abacus"
    assert f"give one of {listed}, or" in unknown.stderr.str()


def test_the_oracle_is_judged_by_all_but_its_own_path(conformance, pytester):
    result = conformance(SOURCE, "-k", "SGD", backend="oracle")
    assert result.ret == pytest.ExitCode.OK
    found = verdicts(pytester)
    assert found["alone: SGD"]["verdict"] == found["independence: SGD"]["verdict"] == "held"
    for id in ("gradient: SGD", "path: SGD"):
        assert found[id]["verdict"] == "not exercised"
        assert found[id]["reason"] == "the oracle is not compared with itself"


def test_numba_passes_and_is_judged_by_the_oracle(conformance, pytester):
    result = conformance(SOURCE, "-k", "not torch", backend="numba")
    assert result.ret == pytest.ExitCode.OK
    found = verdicts(pytester)
    judged = [id for id in found if id.partition(":")[0] in ("gradient", "path", "crowd", "long path")]
    assert len(judged) >= 50
    assert {found[id]["verdict"] for id in judged} == {"held"}
    assert any(
        found[id]["measured"].get("loss, share of the allowed deviation", 0) > 0 for id in judged
    )  # two implementations, not one


def test_jax_passes_all_of_it(conformance, pytester):
    pytest.importorskip("jax", reason="not exercised: the extra [jax] is not installed")
    result = conformance(SOURCE, backend="examples.jax_backend:BACKEND")
    assert result.ret == pytest.ExitCode.OK
    held = {id for id, claim in verdicts(pytester).items() if claim["verdict"] == "held"}
    assert len(held) >= 75
    assert len((ROOT / "examples" / "jax_backend.py").read_text().splitlines()) < 150


def test_plain_pytest_and_claims_leave_the_conformance_checks_out(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    result = pytester.runpytest_subprocess("--pyargs", "aeclaims.conformance", "-m", "claims", "-p", "no:cacheprovider")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
