"""False alarms: the selected checks are judged on many seed bases, and failures are counted."""

import json
from pathlib import Path

import pytest

from pytest_aeclaims.false_alarms import bound
from tools.false_alarms import page, read

ROOT = Path(__file__).parents[2]

CHECKS = """
    from aeclaims import Adam, Experiment, Uniform, affine
    from aeclaims.judging.claim import claim

    EXPERIMENT = Experiment(rows=Uniform(features=2), model=affine(2, 2), loss="mse", optimizer=Adam(), epochs=2, n_rows=40)

    @claim("falls", source="nowhere", statement="the loss falls", kind="theorem")
    def test_the_loss_falls(train, judge):
        run = train(EXPERIMENT)
        judge.all_within(run.epoch_loss[1] - run.epoch_loss[0], at_most=0, seeds=run.seeds, what="change", reason="it learns")

    @claim("seldom", source="nowhere", statement="no seed above 20 is drawn", kind="theorem")
    def test_no_large_seed(train, judge):
        run = train(EXPERIMENT)
        judge.all_within(run.seeds, at_most=20, seeds=run.seeds, what="seed", reason="the test says so")
"""


@pytest.fixture
def alarms(pytester):
    def run(*options):
        pytester.makepyfile(CHECKS)
        return pytester.runpytest_subprocess(
            "-m", "claims", "--claims-backend", "numba", "--claims-seeds", "3", "--claims-json", "out.json", *options
        )

    return run


def test_failures_are_counted_by_base_and_bound_the_rate(alarms, pytester):
    result = alarms("--claims-false-alarms", "8", "-q")
    result.assert_outcomes(passed=13, failed=3)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    document = json.loads((pytester.path / "out.json").read_text())
    assert document["seed_base"] == 0
    found = document["false_alarms"]
    assert (found["bases"], found["stride"], found["bases_with_a_failure"]) == (8, 4, 3)
    # Bases begin at 0, 4, ..., 28; from 20 on, a base has a seed above 20.
    assert [failure["seed_base"] for failure in found["failures"]] == [20, 24, 28]
    assert all(
        "--claims-seed-base 2" in failure["replay"] or "--claims-seed-base 3" in failure["replay"]
        for failure in found["failures"]
    )
    assert found["verdicts"] == {"falls": {"held": 8}, "seldom": {"held": 5, "failed": 3}}
    result.stdout.fnmatch_lines(
        [
            "seldom, seeds from 20: *",
            "3 of 8 seed bases with a failure, 16 verdicts on 2 checks; "
            "rate of false alarms at most 0.71, with 95% confidence",
        ]
    )


def test_without_a_failure_the_rule_of_three_bounds_the_rate(alarms):
    result = alarms("--claims-false-alarms", "30", "-q", "-k", "falls")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "0 of 30 seed bases with a failure, 30 verdicts on 1 checks; rate of false alarms at most "
            "0.095, with 95% confidence (rule of three)"
        ]
    )
    assert bound(0, 1000) == pytest.approx(3 / 1000, rel=5e-3)
    assert bound(0, 0) is None


EXERCISED = """
    from aeclaims.judging.claim import claim, conformance

    @claim("late", source="nowhere", statement="it is judged from some base on", kind="theorem")
    def test_late(request, judge):
        from pytest_aeclaims.fixtures import run_state

        if run_state(request.config).settings.seed_base >= {least}:
            judge.all_within([1.0], at_least=0, seeds=[0], what="one", reason="one is above zero")

    @conformance("sum", source="suite", statement="the suite can count")
    def test_suite(judge):
        judge.all_within([1.0], at_least=0, seeds=[0], what="one", reason="one is above zero")
"""


@pytest.mark.parametrize(
    ("least", "bases", "code"), [(8, 6, pytest.ExitCode.OK), (999, 0, pytest.ExitCode.NO_TESTS_COLLECTED)]
)
def test_bases_on_which_nothing_of_the_stack_was_exercised_do_not_count(pytester, least, bases, code):
    pytester.makepyfile(EXERCISED.format(least=least))
    result = pytester.runpytest_subprocess(
        "-m", "claims or conformance", "--claims-backend", "numba", "--claims-seeds", "3", "--claims-json", "out.json",
        "--claims-false-alarms", "8", "-q",
    )  # fmt: skip
    assert result.ret == code
    assert json.loads((pytester.path / "out.json").read_text())["false_alarms"]["bases"] == bases
    last = (
        f"0 of {bases} seed bases with a failure, *"
        if bases
        else "nothing of the stack was judged; most frequent reason (1 of 1): the claim judged nothing"
    )
    result.stdout.fnmatch_lines([last])


def test_it_stops_where_pytest_is_told_to(alarms, pytester):
    alarms("--claims-false-alarms", "8", "-x")
    found = json.loads((pytester.path / "out.json").read_text())["false_alarms"]
    assert found["bases"] == 5
    assert len(found["failures"]) == 1


@pytest.mark.parametrize("workers", ["-n 2", "--tx 2*popen --dist load"])
def test_it_is_not_for_workers(alarms, workers):
    pytest.importorskip("xdist")
    result = alarms("--claims-false-alarms", "8", *workers.split())
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --claims-false-alarms counts in one process*"])


def test_the_page_counts_what_was_exercised_and_names_what_failed():
    found = {
        "bases": 40,
        "bases_with_a_failure": 1,
        "rate_at_most": 0.1137,
        "verdicts": {"falls": {"held": 39, "failed": 1}, "torch.rand": {"not exercised": 40}},
        "failures": [{"seed_base": 20, "id": "falls", "reason": "it rose", "replay": "pytest"}],
    }
    document = {"aeclaims": "1", "torch": "2", "numpy": "3", "python": "4", "seconds": 12.3, "false_alarms": found}
    text = page({"quick-numba": document}, "docs/false-alarms")
    assert "| quick-numba | 40 | 1 | 40 | 1 | 0.11 | 12 |" in text
    assert "- quick-numba, seeds from 20: `falls`: it rose" in text
    assert "--claims-false-alarms 1000 --claims-json docs/false-alarms/quick-numba.json" in text


def test_the_committed_page_is_as_generated_and_nothing_failed():
    documents = read(ROOT / "docs" / "false-alarms")
    assert documents["quick-numba"]["false_alarms"]["bases"] == 1000
    assert (ROOT / "docs" / "false-alarms.md").read_text() == page(documents, "docs/false-alarms"), "generate it again"
    assert [document["false_alarms"]["failures"] for document in documents.values()] == [[]] * len(documents)
