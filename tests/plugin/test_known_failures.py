"""--claims-xfails from outside: known failures pass, and a list with errors fails the run."""

import json

import pytest


@pytest.fixture
def listed(claims, pytester):
    """Runs two claims with a list of known failures: `falls` holds and `negative` fails."""

    def run(text, *options):
        (pytester.path / "known.txt").write_text(text)
        result = claims("--claims-xfails", "known.txt", "--claims-seeds", "26", "--claims-json", "out.json", *options)
        found = pytester.path / "out.json"
        verdicts = (
            {claim["id"]: claim["verdict"] for claim in json.loads(found.read_text())["claims"]}
            if found.exists()
            else {}
        )
        return result, verdicts

    return run


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_a_known_failure_that_fails_is_expected(listed, options):
    result, verdicts = listed("negative  # it is a square  expires=9999-01-01", *options)
    assert result.ret == pytest.ExitCode.OK
    assert verdicts == {"falls": "held", "negative": "expected failure"}
    assert "1 held, 1 expected failure of 2 claims" in result.stdout.str()


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_a_known_failure_that_holds_fails_the_run(listed, options):
    result, verdicts = listed("falls # we thought so\nnegative # it is a square", *options)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert verdicts == {"falls": "failed", "negative": "expected failure"}
    assert "claim falls: it held, but it is listed as a known failure: remove it from the list." in result.stdout.str()
    assert "we thought so (known.txt:1)" in result.stdout.str()


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_an_unknown_id_fails_the_run(listed, options):
    result, verdicts = listed("negative # it is a square\nfals # a slip", *options)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert verdicts == {"falls": "held", "negative": "expected failure"}
    assert "known failures: known.txt:2: no claim has the id 'fals'" in result.stdout.str()


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_ids_that_are_deselected_or_shipped_are_known(listed, options):
    text = "negative # it is a square\nlinear-mse # elsewhere\npath: tanh # elsewhere"
    result, verdicts = listed(text, "-k", "falls", *options)
    assert result.ret == pytest.ExitCode.OK
    assert verdicts == {"falls": "held"}


def test_an_expired_line_excuses_nothing_and_fails_the_run(listed):
    result, verdicts = listed("negative # it is a square expires=2020-01-01")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert verdicts == {"falls": "held", "negative": "failed"}
    held, _ = listed("falls # we thought so expires=2020-01-01", "-k", "falls")
    assert held.ret == pytest.ExitCode.TESTS_FAILED
    assert "known failures: known.txt:1: falls expired on 2020-01-01" in held.stdout.str()


def test_what_is_not_exercised_stays_so(listed):
    result, verdicts = listed("falls # we thought so", "-k", "falls", "--claims-seeds", "3")
    assert verdicts == {"falls": "not exercised"}
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_list_that_cannot_be_read_is_a_usage_error(listed, claims):
    result, _ = listed("falls")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "known.txt:1: 'falls': give an id, and a reason after #" in result.stderr.str()
    missing = claims("--claims-xfails", "missing.txt")
    assert missing.ret == pytest.ExitCode.USAGE_ERROR
    assert "missing.txt" in missing.stderr.str()
    assert "Traceback" not in result.stderr.str() + missing.stderr.str()
