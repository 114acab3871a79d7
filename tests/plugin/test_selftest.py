"""--claims-selftest from outside, and the results of its child processes."""

import json
import multiprocessing
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from aeclaims.selftest import kill_matrix
from aeclaims.selftest.children import Check, ChildFailed, Children, Outcome, _watched
from aeclaims.selftest.faults import CONTROLS, FAULTS
from pytest_aeclaims.selftest_mode import row
from tools import kill_matrix as page

ROOT = Path(__file__).parents[2]
KILLER = Check("torch.rand", "failed", "the support is [0, 1)", True, 1.5)


@pytest.fixture
def selftest(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # Otherwise, it would judge a sound stack for two minutes.
    pytester.makeconftest("import aeclaims.selftest.children as children\nchildren.SECONDS = 12.0")

    def run(*options):
        return pytester.runpytest_subprocess("--claims-selftest", "--claims-json", "out.json", *options)

    return run


def test_faults_die_and_sound_stacks_do_not_and_the_matrix_says_so(selftest, pytester):
    result = selftest("-k", "bernoulli_048 or first_param or stock_compiled", "--claims-processes", "2")
    result.assert_outcomes(passed=3, deselected=len(FAULTS) + len(CONTROLS) - 3)
    result.stdout.fnmatch_lines(
        [
            "self-test of the suite: 3 stacks, 2 at a time",
            "*kill matrix*",
            "2 of 2 faults killed (100.0 %*",
            "the quick profile kills 2 of them (100.0 %)*",
            "1 of 1 controls green",
        ]
    )
    found = {fault["id"]: fault for fault in json.loads((pytester.path / "out.json").read_text())["faults"]}
    assert found["data.bernoulli_048"]["killer"]["id"] == "torch.bernoulli"
    assert found["opt.first_param_not_updated"]["verdict"] == "killed"
    assert found["opt.first_param_not_updated"]["killer"]["is_quick"]
    assert found["control.stock_compiled"]["verdict"] == "green"
    assert not found["control.stock_compiled"]["is_complete"]


@pytest.mark.parametrize(("options", "said"), [
    (("--claims-backend", "torch"), "--claims-selftest chooses the backends itself"),
    (("-n", "2"), "give --claims-processes, not -n"),
    (("--tx", "2*popen", "--dist", "load"), "give --claims-processes, not -n"),
    (("--claims-bisect",), "leave --claims-bisect out"), (("--claims-false-alarms", "2"), "leave --claims-false-alarms out"),
    (("--claims-compile", "backend=eager"), "leave --claims-compile out"), (("--claims-dtype", "float64"), "leave --claims-dtype"),
    (("--claims-seeds", "2"), "--claims-selftest judges stacks with fixed settings: leave --claims-seeds out"),
])  # fmt: skip
def test_a_contradiction_is_a_usage_error(selftest, options, said):
    result = selftest(*options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stderr.str()


def test_without_the_option_it_is_not_even_collected(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    result = pytester.runpytest_subprocess("--pyargs", "aeclaims", "--co", "-q", "-p", "no:cacheprovider")
    assert "test_path" in result.stdout.str()
    assert "selftest" not in result.stdout.str()


def heard(*messages, seconds=1.0, code=None):
    ours, theirs = multiprocessing.Pipe(duplex=False)
    for message in messages:
        theirs.send(message)
    if code is not None:
        theirs.close()
    return _watched(ours, SimpleNamespace(join=lambda: None, exitcode=code), seconds)


def test_the_first_failure_is_the_killer_and_time_that_is_up_is_no_verdict():
    held, skipped = Check("a", "held", "", True, 0.1), Check("b", "not exercised", "", True, 0.2)
    assert heard(held, skipped, KILLER, held) == Outcome(KILLER, 2, 1.5, is_complete=True)
    assert heard(held, skipped, None).judged == 1
    assert heard(held, None).is_complete
    assert heard(held, seconds=0.2) == Outcome(None, 1, 0.2, is_complete=False)
    out_of_time = heard(held, code=-signal.SIGPROF)
    assert (out_of_time.judged, out_of_time.is_complete) == (1, False)


def test_a_child_that_fails_is_no_survivor():
    with pytest.raises(ChildFailed, match="ended with"):
        heard("pytest ended with 3")
    with pytest.raises(ChildFailed, match="after 0 checks without a word"):
        heard(code=1)


def test_what_runs_is_ended_and_what_waits_is_not_begun():
    children = Children(["control.stock_loop", "control.other_seeds"], processes=1, seconds=60.0)
    children.close()
    assert all(future.done() for future in children.outcomes.values())


def rows():
    fault, control = FAULTS["data.rand_skew"], CONTROLS["control.other_seeds"]
    survived = Outcome(None, 80, 9.0, is_complete=False)
    return [
        row(fault, Outcome(KILLER, 3, 1.5, is_complete=True)),
        row(FAULTS["H01"], survived),
        row(control, survived),
        row(control, Outcome(KILLER, 3, 1.5, is_complete=True)),
    ]


def test_rates_survivors_and_false_alarms_are_named():
    assert [found["verdict"] for found in rows()] == ["killed", "survived", "green", "false alarm"]
    assert kill_matrix.summary(rows()) == [
        "1 of 2 faults killed (50.0 % of those that are not equivalent)",
        "the quick profile kills 1 of them (100.0 %); the median kill takes 1.5 s, without imports",
        "survivors: H01", "false alarms: control.other_seeds", "1 of 2 controls green",
    ]  # fmt: skip
    assert kill_matrix.killer(rows()[1]) == "survived, out of time"


def test_faults_that_show_late_are_counted_apart_and_together():
    late = row(FAULTS["late.rate_tenth"], Outcome(KILLER._replace(is_quick=False), 80, 9.0, is_complete=True))
    assert kill_matrix.summary([*rows()[:1], late])[1].startswith(
        "the quick profile kills 1 of the 1 (100.0 %) that show in trainings like conformance's (at most 2,230 steps), "
        "and 1 of all 2 (50.0 %); the median"
    )


def test_a_claim_that_is_first_to_kill_nothing_is_argued_for():
    named = {"seconds": 1.0, "aeclaims": "0", "torch": "0", "python": "0"}
    idle = page.page({**named, "faults": rows()})
    assert "| `rows-do-not-matter` | beyond the answer | 4,700 steps, 300,000 rows |" in idle
    assert "| `question-network-stalls` | question | 4,700 steps, layers of 100, 30,000 rows |" in idle
    by_claim = row(
        FAULTS["late.rate_tenth"], Outcome(KILLER._replace(id="rows-do-not-matter"), 80, 9.0, is_complete=True)
    )
    assert "| `rows-do-not-matter` | beyond" not in page.page({**named, "faults": [by_claim]})


def test_the_committed_page_is_as_generated():
    document = json.loads((ROOT / "docs" / "kill-matrix.json").read_text())
    assert (ROOT / "docs" / "kill-matrix.md").read_text() == page.page(document), (
        "generate it again, by the commands on it"
    )
    assert {fault["id"] for fault in document["faults"]} == set(FAULTS) | set(CONTROLS)
    assert {fault["verdict"] for fault in document["faults"]} <= {"killed", "equivalent", "green"}
    assert len(FAULTS) >= 85


def test_rows_of_a_later_run_replace_those_of_the_page(tmp_path):
    document = json.loads((ROOT / "docs" / "kill-matrix.json").read_text())
    one, other = document["faults"][:2]
    later = {**document, "faults": [{**one, "does": "something else"}]}
    joined = page.merged({**document, "faults": [one, other]}, later)
    assert [row["does"] for row in joined["faults"]] == ["something else", other["does"]]
    assert "later runs" in joined["note"]
    (tmp_path / "kill-matrix.json").write_text(json.dumps(document))
    (tmp_path / "one.json").write_text(json.dumps(later))
    assert page.main([str(tmp_path / "one.json"), str(tmp_path)]) == 0
    assert "something else" in (tmp_path / "kill-matrix.md").read_text()
    assert len(json.loads((tmp_path / "kill-matrix.json").read_text())["faults"]) == len(document["faults"])
