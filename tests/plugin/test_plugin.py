"""The plugin, in runs of pytest from outside."""

import json
import os
import re
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from aeclaims.judging.judge import ALPHA, P_VALUES, SIDES
from pytest_aeclaims import options
from tests.plugin.conftest import CLAIM


def test_a_claim_is_judged_and_the_table_and_the_header_say_so(claims):
    result = claims("-k", "falls", "--claims-seeds", "32", "--claims-seed-base", "5")
    result.assert_outcomes(passed=1, deselected=1)
    result.stdout.fnmatch_lines([
        "aeclaims *, torch *, numpy *, python *; backend numba, device cpu, float32; seeds: 32, from 5",
        " claim *finding *key figure *floor *verdict *s *",
        " falls *holds *0 *held *",
        "1 held of 1 claims",
    ])  # fmt: skip


def test_a_failure_stands_alone_and_its_replay_command_fails_again(claims, pytester):
    result = claims("-k", "negative", "--claims-seeds", "4")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines([
        "claim negative failed on backend numba", "*says: *the loss is negative (there; *", "*loss below -1",
        "*theory: it is not", "*seen: *seed *, epoch *", "*all: *min *median *max *", "*worst: *seed *", "*pytest --pyargs *",
    ])  # fmt: skip
    assert "Traceback" not in result.stdout.str()
    # If CI is set, pytest's short summary repeats it.
    (command,) = set(re.findall(r"^\s+pytest (--pyargs .*)$", result.stdout.str(), re.MULTILINE))
    assert "--claims-seeds 1 --claims-seed-base" in command
    again = pytester.runpytest_subprocess(*command.split())
    again.assert_outcomes(failed=1)


def test_too_few_seeds_are_not_exercised_and_never_held(claims):
    result = claims("-k", "falls", "--claims-seeds", "3")
    result.assert_outcomes(skipped=1, deselected=1)
    result.stdout.fnmatch_lines(["*not exercised*", "not exercised: falls: *26 are needed*"])
    assert "held of" not in result.stdout.str()
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_the_default_seeds_are_the_fewest_that_can_fail_and_256_on_the_reference(claims, pytester):
    claims("--claims-json", "out.json", "-k", "falls", backend="torch-eager").assert_outcomes(passed=1, deselected=1)
    assert read(pytester)["claims"][0]["seeds"] == 26
    claims("--claims-json", "out.json", "-k", "falls").assert_outcomes(passed=1, deselected=1)
    assert read(pytester)["claims"][0]["seeds"] == 256


def read(pytester):
    return json.loads((pytester.path / "out.json").read_text())


def test_the_json_holds_every_claim_also_when_one_fails(claims, pytester):
    result = claims("--claims-json", "out.json", "--claims-seeds", "26")
    result.assert_outcomes(passed=1, failed=1)
    found = read(pytester)
    assert set(found) == {
        "aeclaims",
        "torch",
        "numpy",
        "python",
        "backend",
        "device",
        "optimizer",
        "compile",
        "dtype",
        "seeds",
        "seed_base",
        "alpha",
        "seconds",
        "claims",
    }
    assert (found["backend"], found["seeds"], found["seed_base"]) == ("numba", 26, 0)
    held, failed = found["claims"]
    fields = {
        "id",
        "source",
        "origin",
        "kind",
        "statement",
        "verdict",
        "backend",
        "seeds",
        "floor",
        "measured",
        "reason",
        "seconds",
        "replay",
        "finding",
        "caveat",
        "intervals",
        "statements",
        "trainings",
        "left_out",
        "note",
        "alpha",
    }
    assert set(held) == set(failed) == fields
    assert (held["id"], held["verdict"], held["floor"], held["kind"]) == ("falls", "held", 0.0, "observation")
    assert held["measured"]["share"] == 1
    low, high = held["intervals"]["share"]
    assert 0.7 < low < high == 1
    assert (held["finding"], held["caveat"]) == ("holds", "")
    assert [statement["what"] for statement in held["statements"]] == ["falls"]
    (training,) = held["trainings"]
    assert training["epochs"] == [1, 2, 3]
    assert len(training["curves"]) == 24  # the most curves without a report
    assert training["quantiles"]["1"][0] == pytest.approx(held["measured"]["worst"], rel=1e-3)
    assert (failed["id"], failed["verdict"], failed["floor"]) == ("negative", "failed", None)
    assert failed["replay"].startswith("pytest --pyargs test_claims::test_negative -m claims --claims-backend numba")


def test_the_json_is_written_when_the_run_is_interrupted(claims, pytester):
    result = claims("--claims-json", "out.json", backend="mine:interrupted")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert read(pytester)["claims"] == []
    assert [path.name for path in pytester.path.glob("out.json*")] == ["out.json"]


def test_an_expected_failure_has_its_own_verdict(claims, pytester):
    marked = 'import pytest\n@pytest.mark.xfail(reason="known")\n@claim("negative"'
    source = textwrap.dedent(CLAIM).replace('@claim("negative"', marked)
    pytester.makepyfile(test_claims=source)
    result = claims("--claims-json", "out.json", "--claims-seeds", "26")
    result.assert_outcomes(passed=1, xfailed=1)
    assert read(pytester)["claims"][1]["verdict"] == "expected failure"


def test_a_training_that_several_claims_look_at_is_done_once(claims):
    result = claims("-rA", "--claims-seeds", "26", backend="mine:counting")
    assert result.stdout.str().count("TRAINED 1") == 1
    assert "TRAINED 2" not in result.stdout.str()


PLANNED = """
    from aeclaims.judging.claim import claim
    from aeclaims.experiment import Adam, Experiment, Uniform, affine

    EXPERIMENTS = [Experiment(rows=Uniform(features=2), model=affine(2, 2), loss="mse", optimizer=Adam(), epochs=epochs,
                              n_rows=9) for epochs in (1, 2, 3)]

    def judged(train, judge, experiment):
        run = train(experiment)
        judge.all_within(run.epoch_loss, at_least=0, seeds=run.seeds, what="loss", reason="it is a square")

    @claim("one", source="here", statement="one epoch", kind="theorem", trains=EXPERIMENTS[:1])
    def test_one(train, judge):
        judged(train, judge, EXPERIMENTS[0])

    @claim("more", source="here", statement="more epochs", kind="theorem", trains=EXPERIMENTS, least_seeds=5)
    def test_more(train, judge):
        for experiment in EXPERIMENTS:
            judged(train, judge, experiment)
"""

WHO_TRAINED = """
    import os
    from aeclaims.backends.torch import population as torch_population

    train = torch_population.train

    def watched(start, **settings):
        experiment = start.experiment
        with open("trained", "a") as file:
            print(os.getpid(), experiment.epochs, len(start.seeds), file=file)
        if experiment.epochs == int(os.environ.get("ENDS_AT", 0)):
            os._exit(9)
        return train(start, **settings)

    torch_population.train = watched

    def pytest_sessionfinish():
        with open("pytests", "a") as file:
            print(os.getpid(), file=file)
"""


@pytest.fixture
def planned(claims, pytester):
    """Runs two claims and tells the process of each training; the second trains three experiments, also the first's."""
    pytester.makepyfile(test_claims=PLANNED)
    pytester.makeconftest(WHO_TRAINED)

    def run(*options):
        result = claims(*options, backend="torch-eager")
        pytests = set((pytester.path / "pytests").read_text().split())
        lines = [line.split() for line in (pytester.path / "trained").read_text().splitlines()]
        return result, [(process in pytests, int(epochs), int(seeds)) for process, epochs, seeds in lines]

    return run


def test_copies_train_each_experiment_once_with_the_seeds_of_the_claim_that_wants_most(planned):
    result, trained = planned("--claims-processes", "2")
    result.assert_outcomes(passed=2)
    assert sorted(trained) == [(False, 1, 5), (False, 2, 5), (False, 3, 5)]


def test_with_one_process_pytest_itself_trains(planned):
    result, trained = planned("--claims-processes", "1")
    result.assert_outcomes(passed=2)
    assert {in_pytest for in_pytest, _, _ in trained} == {True}


def test_under_xdist_workers_train_themselves(planned):
    result, trained = planned("--claims-processes", "2", "-n", "2")
    result.assert_outcomes(passed=2)
    assert {in_pytest for in_pytest, _, _ in trained} == {True}


def test_a_process_that_ends_fails_the_claim_it_trained_for_and_no_other(planned, monkeypatch, pytester):
    monkeypatch.setenv("ENDS_AT", "3")
    result, _ = planned("--claims-processes", "2", "--claims-json", "out.json")
    result.assert_outcomes(passed=1, failed=1)
    one, more = read(pytester)["claims"]
    assert (one["verdict"], more["verdict"]) == ("held", "failed")
    assert "ended with exit code 9; --claims-processes 1 trains in pytest's process" in more["reason"]


def test_a_backend_that_did_nothing_fails(claims):
    result = claims("-k", "falls", backend="mine:untouched")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["*backend mine:untouched trained nothing*"])


def test_a_backend_that_raises_fails_its_claims_and_the_json_is_written(claims, pytester):
    result = claims("--claims-json", "out.json", backend="mine:raising")
    result.assert_outcomes(failed=2)
    assert [c["reason"] for c in read(pytester)["claims"]] == ["RuntimeError: the device fell off the bus"] * 2


WRONG = [
    (("--claims-backend", "tensorflow"),
     "torch, torch-eager, torch-compile, torch-cudagraph, torch-loop, numba, oracle, or your own"),
    (("--claims-backend", "no.such:thing"), "No module named 'no'"),
    (("--claims-backend", "mine:absent"), "no attribute 'absent'"),
    (("--claims-device", "cuda:9", "--claims-backend", "torch"), "device 'cuda:9': torch cannot use it"),
    (("--claims-device", "cuda"), "numba runs on the CPU only"),
    (("--claims-dtype", "float8"), "'float8': give one of float64, float32, bfloat16, float16"),
    (("--claims-seeds", "0"), "'0': give a whole number of at least 1"),
    (("--claims-seeds", "many"), "'many': give a whole number of at least 1"),
    (("--claims-seeds", "99999999999999"), "'99999999999999': give a whole number of at most 1,000,000"),
    (("--claims-scale", "1001"), "'1001': give a whole number of at most 1,000"),
    (("--claims-processes", "1001"), "'1001': give a whole number of at most 1,000"),
    (("--claims-false-alarms", "1000001"), "'1000001': give a whole number of at most 1,000,000"),
    (("--claims-alpha", "2"), "'2': give a probability from 1e-300 to 0.1, such as 1e-6"),
    (("--claims-alpha", "nan"), "'nan': give a probability from 1e-300"),
    (("--claims-alpha", "5e-324"), "'5e-324': give a probability from 1e-300"),
    (("--claims-seed-base", "-1"), "'-1': give a whole number of at least 0"),
    (("--claims-json", "no/such/folder/out.json"), "'no/such/folder/out.json' cannot be written"),
    (("--claims-json", "."), "'.' cannot be written"),
    # A file that can be written, in a folder in which none can be made.
    (("--claims-json", "/proc/self/comm"), "'/proc/self/comm' cannot be written"),
    (("--claims-json", 300 * "a"), "cannot be written (File name too long): give a file in a folder"),
    (("--claims-json=out.html", "--claims-report=./out.html"), "--claims-json and --claims-report: both name"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[" ".join(options)[:60] for options, _ in WRONG])
def test_a_wrong_value_is_a_usage_error_that_lists_the_right_ones(claims, options, message):
    result = claims(*options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str()
    assert "Traceback" not in result.stderr.str() + result.stdout.str()
    assert "TRAINED" not in result.stdout.str()


def test_a_claim_that_judges_nothing_is_not_held(claims, pytester):
    pytester.makepyfile(
        test_claims="""
        from aeclaims.judging.claim import claim

        @claim("idle", source="", statement="", kind="theorem")
        def test_idle(judge):
            pass
    """
    )
    result = claims()
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["not exercised: idle: the claim judged nothing"])


def test_the_fixtures_are_for_claims_only(pytester):
    pytester.makepyfile("def test_plain(train): pass")
    result = pytester.runpytest_subprocess()
    result.stdout.fnmatch_lines(["*uses the fixture 'train', which is for claims*"])


def test_under_xdist_the_controller_has_every_result(claims, pytester):
    pytest.importorskip("xdist")
    result = claims("-n", "2", "--claims-json", "out.json", "--claims-seeds", "26")
    result.assert_outcomes(passed=1, failed=1)
    assert sorted(c["id"] for c in read(pytester)["claims"]) == ["falls", "negative"]


def test_loading_the_plugin_imports_neither_torch_nor_numba_nor_numpy(pytester):
    pytester.makepyfile("""
        import sys

        def test_imports():
            assert not {"torch", "numba", "numpy", "scipy", "rich", "hypothesis.core"} & set(sys.modules)
    """)
    result = pytester.runpytest_subprocess("-p", "no:hypothesispytest", "-p", "no:benchmark")
    result.assert_outcomes(passed=1)


def test_the_page_of_options_lists_every_option():
    page = (Path(__file__).parents[2] / "docs" / "options.md").read_text()
    assert set(re.findall(r"--claims-[a-z-]+", page)) == {f"--claims-{option.name}" for option in options.OPTIONS}


def test_a_smaller_error_rate_takes_more_seeds_and_the_replay_keeps_it(claims, pytester):
    claims("--claims-json", "out.json", "--claims-alpha", "1e-9", "-k", "falls", backend="torch-eager")
    found = read(pytester)
    assert found["claims"][0]["seeds"] == 36  # 2^-36 < 1e-9 / 60 < 2^-35
    assert found["claims"][0]["alpha"] == pytest.approx(1e-9 / 60)
    assert found["claims"][0]["replay"].endswith("--claims-alpha 1e-09")


def test_the_parts_of_all_shipped_judges_are_no_more_than_the_whole(pytester):
    result = pytester.runpytest_subprocess(
        "--pyargs",
        "aeclaims.claims",
        "-m",
        "claims and not slow",
        "--claims-backend",
        "numba",
        "--claims-seeds",
        "2",
        "--claims-json",
        "out.json",
        "-p",
        "no:cacheprovider",
    )
    spent = sum(claim["alpha"] for claim in read(pytester)["claims"])
    result.stdout.fnmatch_lines(
        [f"a sound stack fails one of them by chance with a probability of at most {spent:.2g}"]
    )
    # The slow claim states one side; conformance has 14 p-values.
    assert spent + ALPHA / SIDES + 14 * ALPHA / P_VALUES <= ALPHA


def test_with_v_each_judge_says_which_shift_it_would_have_noticed(claims):
    # For a share of 1/2, 11 of 40 is the largest count with a probability below 1e-6 / 60. A share of 0.202 has at most 11
    # nine times in ten.
    shown = claims("-v", "-k", "falls", "--claims-seeds", "40").stdout
    shown.fnmatch_lines(
        [
            "falls: the loss falls; 40 seeds",
            "  share: 1",
            "  falls: at least 0.5 of seeds; detects a true share of *or less, 90% of times",
        ]
    )
    claims("-k", "falls", "--claims-seeds", "40").stdout.no_fnmatch_line("*detects*")


def test_the_json_may_be_read_like_any_other_file(claims, pytester):
    claims("--claims-json", "out.json", "--claims-seeds", "26", "-k", "falls")
    (pytester.path / "other").touch()
    assert (pytester.path / "out.json").stat().st_mode == (pytester.path / "other").stat().st_mode


def test_scale_multiplies_the_default_seeds(claims, pytester):
    claims("--claims-json", "out.json", "-k", "falls", "--claims-scale", "3", backend="torch-eager").assert_outcomes(
        passed=1, deselected=1
    )
    assert read(pytester)["claims"][0]["seeds"] == 78


def test_a_slow_claim_runs_only_where_it_is_named(claims, pytester):
    pytester.makepyfile(
        test_slow="""
        import pytest
        from aeclaims.judging.claim import claim

        @pytest.mark.slow
        @claim("patient", source="here", statement="patience helps", kind="theorem")
        def test_patient(judge):
            judge.all_within([1.0], at_least=0, seeds=[0], what="one", reason="one is above zero")
    """
    )
    claims("-k", "patient").assert_outcomes(deselected=3)
    named = pytester.runpytest_subprocess("-m", "claims and slow", "--claims-backend", "numba")
    named.assert_outcomes(passed=1, deselected=2)


def test_a_finding_needs_its_nuance():
    from aeclaims.judging.claim import claim

    with pytest.raises(ValueError, match="claim x: finding 'does not hold' with caveat ''"):
        claim("x", source="here", statement="so", kind="theorem", finding="does not hold")


def test_the_header_says_on_cuda_whether_products_are_rounded():
    import torch

    from pytest_aeclaims.run_state import RunState, Settings

    def header(device):
        return RunState(
            Settings(
                backend="torch",
                device=device,
                optimizer=None,
                compile=None,
                dtype="float32",
                seeds=None,
                scale=1,
                seed_base=0,
                processes=None,
                alpha=1e-6,
                bisect=False,
                xfails=None,
                json=None,
            )
        ).header()

    assert "device cuda:1, float32, TF32 off; " in header("cuda:1")
    assert "TF32" not in header("cpu")
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        assert "TF32 on; " in header("cuda")
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


def test_the_help_shows_every_default(pytester):
    shown = pytester.runpytest_subprocess("--help").stdout.str()
    for option in options.OPTIONS:
        if option.default is not None and option.default is not False:
            entry = shown.partition(f"--claims-{option.name}=")[2].partition("--claims-")[0]
            assert f"(default: {option.default})" in " ".join(entry.split()), option.name


@pytest.mark.parametrize("workers", ["-n 2", "--tx 2*popen --dist load"])
def test_under_xdist_too_a_device_that_is_not_there_is_a_usage_error(pytester, workers):
    pytest.importorskip("xdist")
    result = pytester.runpytest_subprocess(
        "--pyargs", "aeclaims", "-m", "claims", *workers.split(), "--claims-device", "abacus"
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --claims-device: device 'abacus'*"])
    assert "INTERNALERROR" not in result.stdout.str()


def test_a_failure_shows_no_log_of_level_debug_unless_it_is_asked_for(pytester):
    pytester.makepyfile("""
        import logging
        from aeclaims.judging.claim import claim

        @claim("logs", source="here", statement="it logs", kind="theorem")
        def test_logs(judge):
            chatty = logging.getLogger("chatty")
            chatty.setLevel(logging.DEBUG)
            chatty.debug("a detail")
            chatty.warning("a warning")
            judge.all_within([1.0], at_most=0.0, seeds=(0,), what="one", reason="it is not")
    """)
    plain = pytester.runpytest_subprocess(
        "-m", "claims", "--claims-backend", "numba", "-p", "no:cacheprovider"
    ).stdout.str()
    assert "a warning" in plain
    assert "a detail" not in plain
    asked = pytester.runpytest_subprocess("-m", "claims", "--claims-backend", "numba", "--log-level=DEBUG")
    assert "a detail" in asked.stdout.str()


def test_a_run_that_exercised_nothing_of_the_stack_says_so_and_does_not_pass(pytester):
    pytester.makepyfile(
        mine="""
        from aeclaims.errors import NotSupported

        def train(start):
            raise NotSupported("it has no device yet")
        """
    )
    pytester.syspathinsert()
    # The first check tests the suite's arithmetic, and holds with any backend.
    result = pytester.runpytest_subprocess(
        "--pyargs", "aeclaims.conformance", "-m", "conformance", "--claims-backend", "mine:train", "-p", "no:cacheprovider",
        "-k", "epochs_to_a_bound or (test_path and SGD)",
    )  # fmt: skip
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] == 1
    assert outcomes["skipped"] > 1
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    count = outcomes["skipped"]
    result.stdout.fnmatch_lines(
        [f"nothing of the stack was judged; most frequent reason ({count} of {count}): it has no device yet"]
    )


def test_checks_of_the_suite_alone_may_pass(pytester):
    result = pytester.runpytest_subprocess(
        "--pyargs", "aeclaims.conformance", "-m", "conformance", "-k", "epochs_to_a_bound", "-p", "no:cacheprovider"
    )
    assert result.ret == pytest.ExitCode.OK


def test_what_is_no_regular_file_is_written_into(claims, pytester):
    options = ("--claims-seeds", "26", "-k", "falls")
    (pytester.path / "target.json").touch()
    (pytester.path / "link.json").symlink_to("target.json")
    claims("--claims-json", "link.json", *options)
    assert (pytester.path / "link.json").is_symlink()
    assert json.loads((pytester.path / "target.json").read_text())["claims"][0]["id"] == "falls"
    fifo = pytester.path / "fifo.json"
    os.mkfifo(fifo)
    end = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)  # nobody waits for the other side
    claims("--claims-json", "fifo.json", *options)
    assert fifo.is_fifo()
    assert json.loads(os.read(end, 1 << 16))["claims"][0]["id"] == "falls"
    os.close(end)
    printed = claims("--claims-json", "/dev/stdout", *options).stdout.str()
    assert '"id": "falls"' in printed
    assert Path("/dev/stdout").is_symlink()


CRASHING = (
    CLAIM
    + """
    @claim("crash", source="there", statement="it lives", kind="theorem")
    def test_crash(judge):
        import os
        os._exit(3)
"""
)


@pytest.mark.parametrize(
    "options", [("-n", "2"), ("-n", "1", "--max-worker-restart", "0")], ids=["one lives", "none lives"]
)
def test_a_claim_in_which_a_worker_dies_is_a_failure_in_the_table_and_the_json(claims, pytester, options):
    pytest.importorskip("xdist")
    pytester.makepyfile(test_claims=CRASHING)
    pytester.makepyfile(test_plain="import os\n\ndef test_plain():\n    os._exit(3)\n")
    result = claims("--claims-json", "out.json", "--claims-seeds", "26", "-k", "falls or crash", *options)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    (crashed,) = [claim for claim in read(pytester)["claims"] if claim["verdict"] == "failed"]
    assert crashed["id"] == ("crash" if "2" in options else "test_claims.py::test_crash")
    assert "crashed while running 'test_claims.py::test_crash'" in crashed["reason"]
    assert ("test_claims::test_crash" in crashed["replay"]) == ("2" in options)
    assert set(crashed) == set(read(pytester)["claims"][0])
    assert "1 failed of 2 claims" in result.stdout.str() or "1 held, 1 failed of 2 claims" in result.stdout.str()
    plain = pytester.runpytest_subprocess("-k", "plain", "-p", "no:cacheprovider", *options)
    assert "claims =" not in plain.stdout.str()


def test_the_shipped_claims_and_checks_are_replayed_by_a_short_command():
    from aeclaims.backends.torch import compile, custom_optimizers
    from aeclaims.judging.registry import CHECKS, CLAIMS, entries
    from pytest_aeclaims.run_state import Settings

    usual = Settings(
        backend="torch", device="cpu", optimizer=None, compile=None, dtype="float32", seeds=None, scale=1, seed_base=0,
        processes=None, alpha=1e-6, bisect=False, xfails=None, json=None,
    )  # fmt: skip
    own = replace(
        usual, backend="torch-compile", device="cuda:1", dtype="bfloat16", alpha=2.5e-7,
        optimizer=custom_optimizers.parse("torch.optim:NAdam,betas=(0.9,0.99)"), compile=compile.parse("backend=aot_eager"),
    )  # fmt: skip
    known = entries(CLAIMS, CHECKS)
    claim, check, stage = (known[id] for id in ("linear-mse", "path: SGD", "stage 1: loop"))
    assert (
        usual.command(claim.claim, claim.node, 1, 38)
        == "aeclaims run linear-mse --seeds 1 --seed-base 38 --backend torch"
    )
    assert own.command(check.claim, check.node, 8, 0) == (
        "aeclaims run 'path: SGD' --seeds 8 --seed-base 0 --backend torch-compile --dtype bfloat16 --device cuda:1 "
        f"--compile {own.compile} --optimizer 'torch.optim:NAdam,betas=(0.9,0.99)' --alpha 2.5e-07"
    )
    assert usual.command(stage.claim, stage.node, 8, 0).startswith(
        f"pytest --pyargs '{stage.node}' -m conformance --claims-b"
    )
    assert usual.command(claim.claim, "test_mine::test_it", 1, 38).startswith(
        "pytest --pyargs test_mine::test_it -m claims"
    )
