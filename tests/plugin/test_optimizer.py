"""--claims-optimizer from outside, with a custom optimizer."""

import json
import re
import shlex
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "judge-an-optimizer.md").read_text()

CLAIMS = """
    from aeclaims.judging.claim import claim
    from aeclaims.experiment import SGD, Adam, Experiment, Uniform, affine
    from aeclaims.judging.judge import Proportion

    ADAM = Experiment(rows=Uniform(features=2), model=affine(2, 2), loss="mse", optimizer=Adam(lr=0.01), epochs=3, n_rows=90)
    PLAIN = Experiment(rows=Uniform(features=2), model=affine(2, 2), loss="mse", optimizer=SGD(lr=0.1), epochs=3, n_rows=90)
    MOST = Proportion(at_least=0.5)

    def floor(run, judge):
        judge.measure({"last": run.epoch_loss[-1].mean()}, floor=0.0)
        judge.all_within(run.epoch_loss, at_least=0.0, at_most=1e9, seeds=run.seeds, what="loss above 0", reason="it is a square")

    @claim("above", source="here", statement="the loss is above its floor, and falls", kind="theorem", trains=[ADAM])
    def test_above(train, reference, judge):
        run = train(ADAM)
        floor(run, judge)
        judge.agrees(run, reference(ADAM), roundings=1000, reason="the same start")
        if judge.is_adams("how far it falls in 3 epochs"):
            judge.all_within(run.epoch_loss[-1], at_most=1e-30, seeds=run.seeds, what="falls", reason="it does not")

    @claim("rate", source="here", statement="Adam takes 3 epochs", kind="theorem", needs_adam="3 epochs are Adam's")
    def test_rate(train, judge):
        raise AssertionError("not to be run")

    @claim("ends", source="here", statement="the loss ends on the floor", kind="theorem", trains=[ADAM])
    def test_ends(train, judge):
        run = train(ADAM)
        floor(run, judge)
        if judge.is_adams("how near it comes", is_the_claim=True):
            raise AssertionError("not to be judged")

    @claim("sgd", source="here", statement="SGD is torch's", kind="theorem", trains=[PLAIN])
    def test_sgd(train, reference, judge):
        run = train(PLAIN)
        judge.agrees(run, reference(PLAIN), roundings=1000, reason="the same start")
"""

OPTIMIZERS = """
    import torch

    class Plain(torch.optim.Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})
            print("RATE", lr)

        def each(self):
            return [p for group in self.param_groups for p in group["params"]]

        @torch.no_grad()
        def step(self, closure=None):
            for p in self.each():
                p -= self.param_groups[0]["lr"] * p.grad

    class Clipped(Plain):
        def step(self, closure=None):
            torch.nn.utils.clip_grad_norm_(self.each(), 0.1)
            super().step()

    class Blowing(Plain):
        @torch.no_grad()
        def step(self, closure=None):
            for p in self.each():
                p *= float("nan")

    class Late(Plain):
        def step(self, closure=None):
            if self.each()[0].dtype == torch.float32:
                raise RuntimeError("out of patience")
            super().step()

    class Idle(Plain):
        def step(self, closure=None):
            pass

    class FirstOnly(Plain):
        def each(self):
            return super().each()[:1]

    class Raising(Plain):
        def __init__(self, params, lr):
            raise RuntimeError("no licence")

    class Below(Plain):
        pass

    NUMBER = 3
"""


@pytest.fixture
def claims(pytester):
    pytester.makepyfile(test_claims=CLAIMS, mine=OPTIMIZERS)
    pytester.syspathinsert()
    pytester.makeini("[pytest]\naddopts = --strict-markers --strict-config -p no:cacheprovider\nfilterwarnings = error")

    def run(optimizer, *options, backend="torch-eager"):
        return pytester.runpytest_subprocess(
            "-m",
            "claims",
            "--claims-backend",
            backend,
            "--claims-json",
            "out.json",
            "--claims-optimizer",
            optimizer,
            *options,
        )

    return run


def read(pytester):
    return json.loads((pytester.path / "out.json").read_text())


def verdicts(pytester):
    return {claim["id"]: claim["verdict"] for claim in read(pytester)["claims"]}


def test_theorems_are_judged_what_is_adams_is_not_and_both_are_said(claims, pytester):
    result = claims("torch.optim:NAdam,lr=0.002")
    result.assert_outcomes(passed=2, skipped=2)
    result.stdout.fnmatch_lines([
        "aeclaims *; backend torch-eager, torch.optim:NAdam,lr=0.002 in Adam's place, device cpu, *",
        "2 held, 2 not exercised of 4 claims",
        "held without its parts for Adam: above: agreement with the reference, which trains Adam; how far it falls in 3 epochs",
        "not exercised: rate: torch.optim:NAdam,lr=0.002 trains in Adam's place: 3 epochs are Adam's",
        "not exercised: ends: *torch.optim:NAdam,lr=0.002 trains in Adam's place: how near it comes",
    ])  # fmt: skip
    found = read(pytester)
    assert found["optimizer"] == "torch.optim:NAdam,lr=0.002"
    assert verdicts(pytester) == {"above": "held", "rate": "not exercised", "ends": "not exercised", "sgd": "held"}
    above = found["claims"][0]
    assert above["left_out"] == ["agreement with the reference, which trains Adam", "how far it falls in 3 epochs"]
    assert above["note"] == ""


def test_without_it_adam_trains_and_all_is_judged(claims, pytester):
    result = pytester.runpytest_subprocess(
        "-m", "claims", "--claims-backend", "torch-eager", "--claims-json", "out.json"
    )
    result.assert_outcomes(passed=1, failed=3)
    found = read(pytester)
    assert found["optimizer"] is None
    assert {tuple(claim["left_out"]) for claim in found["claims"]} == {()}
    assert "worst deviation from the reference" in found["claims"][0]["measured"]


@pytest.mark.parametrize(("given", "rates"), [("", {"0.01"}), (",lr=0.25", {"0.25"})])
def test_the_experiments_rate_is_its_own_where_none_is_given(claims, given, rates):
    result = claims(f"mine:Plain{given}", "-rA", "-k", "above", "--claims-processes", "1")
    result.assert_outcomes(passed=1, deselected=3)
    assert set(re.findall("RATE (.*)", result.stdout.str().partition("PASSES")[2])) == rates


@pytest.mark.parametrize("backend", ["torch", "torch-eager"])
def test_what_does_not_work_elementwise_is_trained_by_torch_loop_which_is_said(claims, pytester, backend):
    result = claims("mine:Clipped", backend=backend)
    result.assert_outcomes(passed=2, skipped=2)
    line = "mine:Clipped is trained by torch-loop, one seed at a time: it does not work elementwise: *"
    result.stdout.fnmatch_lines(["aeclaims *", line, "2 held, *", line])
    assert "trained by torch-loop" in read(pytester)["claims"][0]["note"]


def test_the_setting_reaches_processes_that_train_ahead_and_workers(claims, pytester):
    alone = {}
    for options in (("--claims-processes", "1"), ("--claims-processes", "2"), ("-n", "2")):
        claims("mine:Plain,lr=0.5", *options).assert_outcomes(passed=2, skipped=2)
        losses = {claim["id"]: claim["measured"].get("last") for claim in read(pytester)["claims"]}
        alone = alone or losses
        assert losses == alone


def test_an_optimizer_that_blows_up_fails_its_claims_and_no_other(claims, pytester):
    result = claims("mine:Blowing")
    result.assert_outcomes(passed=1, failed=2, skipped=1)
    result.stdout.fnmatch_lines(["claim above failed on backend torch-eager", "*seen: *nan, bounds*"])
    assert verdicts(pytester) == {"above": "failed", "rate": "not exercised", "ends": "failed", "sgd": "held"}


def test_the_replay_command_names_it_and_fails_again(claims, pytester):
    result = claims("mine:Blowing", "-k", "above")
    (command,) = set(re.findall(r"^\s+pytest (--pyargs .*)$", result.stdout.str(), re.MULTILINE))
    assert "--claims-optimizer mine:Blowing" in command
    pytester.runpytest_subprocess(*shlex.split(command)).assert_outcomes(failed=1)


def test_a_tuple_is_quoted_in_the_replay_command(claims, pytester):
    claims("torch.optim:NAdam,betas=(0.9,0.99)", "-k", "above").assert_outcomes(passed=1, deselected=3)
    replay = read(pytester)["claims"][0]["replay"]
    assert shlex.split(replay)[-1] == "torch.optim:NAdam,betas=(0.9,0.99)"


def test_an_optimizer_that_raises_in_training_fails_its_claims_in_one_line(claims, pytester):
    claims("mine:Late").assert_outcomes(passed=1, failed=2, skipped=1)
    assert read(pytester)["claims"][0]["reason"] == "RuntimeError: out of patience"


def test_steps_too_short_for_float32_are_a_backend_that_trained_nothing(claims):
    result = claims("mine:Plain,lr=1e-12", "-k", "above")
    result.assert_outcomes(failed=1, deselected=3)
    result.stdout.fnmatch_lines(["*backend torch-eager with mine:Plain,lr=1e-12 trained nothing*"])


WRONG = [
    ("NAdam", "'NAdam': give package.module:name"),
    ("torch.optim:NAdam,lr=fast", "'lr=fast': 'fast' is not a finite number"),
    ("torch.optim:NAdam,0.1", "'0.1' in 'torch.optim:NAdam,0.1': give each argument once, as name=value"),
    ("no.such:thing", "--claims-optimizer: no.such:thing: it cannot be imported, or made for"),
    ("mine:absent", "(AttributeError: module 'mine' has no attribute 'absent')"),
    ("mine:NUMBER", "(TypeError: 'int' object is not callable)"),
    ("mine:Raising", "or made for a network's weights and biases (RuntimeError: no licence)"),
    ("mine:Plain,speed=2", "unexpected keyword argument 'speed'"),
    ("mine:Idle", "mine:Idle: 12 steps left weight 1, bias 1, weight 2, bias 2 of a small network unchanged"),
    ("mine:FirstOnly", "mine:FirstOnly: 12 steps left bias 1, weight 2, bias 2 of a small network unchanged"),
]


@pytest.mark.parametrize(("optimizer", "message"), WRONG, ids=[optimizer for optimizer, _ in WRONG])
def test_what_cannot_be_used_is_a_usage_error_in_one_line(claims, optimizer, message):
    assert_usage_error(claims(optimizer), message)


@pytest.mark.parametrize("backend", ["numba", "mine:backend"])
def test_a_backend_without_torch_takes_none(claims, backend):
    assert_usage_error(
        claims("torch.optim:NAdam", backend=backend),
        f"backend {backend!r} takes no torch optimizer; "
        "give --claims-backend one of torch, torch-eager, torch-compile, torch-cudagraph, torch-loop",
    )


def assert_usage_error(result, message):
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.stderr.str().splitlines() if message in line and "error:" in line.lower()]
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_the_readmes_optimizer_is_judged(claims, pytester):
    (source,) = re.findall(r"```py\n(# my_optimizers.py.*?)```", PAGE, re.DOTALL)
    (pytester.path / "my_optimizers.py").write_text(source)
    (given,) = re.findall(r'--claims-optimizer "(my_optimizers:.*)"', PAGE)
    result = claims(given)
    result.assert_outcomes(passed=2, skipped=2)
    assert "torch-loop" not in result.stdout.str()


def test_a_step_that_does_not_compile_trains_in_a_compiled_population(claims, pytester):
    pytester.makepyfile(mine=OPTIMIZERS.replace("p -= self", "p -= (p.grad.sum() == p.grad.sum()).item() * self"))
    pytester.makeconftest("from aeclaims.backends.torch import population\npopulation.COMPILING_PAYS_FROM_STEPS = 0\n")
    claims("mine:Plain", "-k", "above", backend="torch").assert_outcomes(passed=1, deselected=3)
