"""Everyday options of pytest work on claims: -x, -k, --lf, -n, -q; JUnit's XML; progress on terminals only."""

import sys
import xml.etree.ElementTree

import pytest

from tests.terminals import shown_on_a_terminal

BOTH = {"passed": 1, "failed": 1}
# With --lf and --ff, a run of both claims comes first, and one of them fails in it.
EVERYDAY = [
    ("-q", BOTH), ("-q -n 2", BOTH), ("-q -p no:cacheprovider", BOTH), ("-s -v", BOTH), ("-q --tb=native", BOTH),
    ("-q -k falls", {"passed": 1, "deselected": 1}), ("-n 2 -k falls", {"passed": 1}), ("-q -x --ff", {"failed": 1}),
    ("-q --lf", {"failed": 1}), ("-n 2 --lf", {"failed": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("options", "outcomes"), EVERYDAY, ids=[options for options, _ in EVERYDAY])
def test_pytests_own_options_work(claims, pytester, options, outcomes):
    pytester.makeini("[pytest]\naddopts = --strict-markers --strict-config --claims-seeds 26\nfilterwarnings = error")
    if "--lf" in options or "--ff" in options:
        claims("-q").assert_outcomes(**BOTH)
    result = claims(*options.split())
    said = result.stdout.str()
    result.assert_outcomes(**outcomes)
    counts = ", ".join(
        f"1 {verdict}" for verdict, outcome in (("held", "passed"), ("failed", "failed")) if outcome in outcomes
    )
    assert f"{counts} of {outcomes.get('passed', 0) + outcomes.get('failed', 0)} claims" in said
    assert result.ret == int("failed" in outcomes)
    assert not any(word in said + result.stderr.str() for word in ("INTERNALERROR", "Traceback", "Warning"))
    if "failed" in outcomes:
        result.stdout.fnmatch_lines(
            [
                "claim negative failed on backend numba",
                "*says: *the loss is negative (there; *",
                "*theory: it is not",
                "*seen: *seed *, epoch *",
                "*worst: *seed *; to replay it alone:",
                "*pytest --pyargs *--claims-seeds 1 *",
            ]
        )


@pytest.mark.parametrize("options", ["", "-n 2", "-q -p no:cacheprovider"])
def test_junits_xml_carries_what_was_judged(claims, pytester, options):
    claims("--claims-seeds", "26", "--junitxml=junit.xml", *options.split())
    cases = xml.etree.ElementTree.parse(pytester.path / "junit.xml").iter("testcase")
    found = [{p.get("name"): p.get("value") for p in case.iter("property")} for case in cases]
    by_id = {properties["claim.id"]: properties for properties in found if properties}
    assert set(by_id) == {"falls", "negative"}
    assert by_id["falls"]["claim.verdict"] == "held"
    assert by_id["negative"]["claim.verdict"] == "failed"
    assert by_id["falls"]["claim.seeds"] == "26"
    assert float(by_id["falls"]["claim.alpha"]) == pytest.approx(1e-6 / 60)
    assert (by_id["falls"]["claim.floor"], by_id["falls"]["claim.share"]) == ("0.0", "1.0")
    assert float(by_id["falls"]["claim.worst"]) > 0
    assert "--claims-seed-base" in by_id["negative"]["claim.replay"]


def test_pytest_shows_progress_on_a_terminal_and_none_in_a_log(claims, pytester):
    options = ["-m", "claims", "--claims-backend", "numba", "--claims-seeds", "26", "-k", "falls"]
    shown = shown_on_a_terminal([sys.executable, "-m", "pytest", *options], TERM="xterm", COLUMNS="100").decode()
    assert "training on numba" in shown
    assert "3/3" in shown
    assert "largest loss" not in shown  # the picture is only for a run of one claim
    for verbosity in ("-q", "-v", "-s"):
        logged = pytester.runpytest_subprocess(*options, verbosity)
        assert "held" in logged.stdout.str()
        assert not any(sign in logged.stdout.str() + logged.stderr.str() for sign in ("training on", "\x1b"))


def test_the_end_is_not_spent_on_looking_for_garbage(claims, pytester):
    # atexit calls the function that is registered first last.
    pytester.makeconftest(
        "import atexit, gc; atexit.register(lambda: print('frozen at the end:', gc.get_freeze_count() > 0))"
    )
    claims("-k", "falls").stdout.fnmatch_lines(["frozen at the end: True"])
