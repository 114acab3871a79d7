"""The list of known failures is parsed strictly."""

from datetime import date

import pytest

from aeclaims.errors import InvalidList
from aeclaims.judging.registry import CHECKS, CLAIMS, entries
from pytest_aeclaims.known_failures import KnownFailure, problems, read

GOOD = """
# what fails on our device

linear-mse  # slower by design  expires=2027-01-31
path: every activation, widths 3 to 7 # tanh is coarse
  logit-scale#expires soon
"""


def test_lines_are_ids_reasons_and_days(tmp_path):
    (tmp_path / "known.txt").write_text(GOOD)
    assert read(tmp_path / "known.txt") == {
        "linear-mse": KnownFailure("linear-mse", "slower by design", date(2027, 1, 31), "known.txt:4"),
        "path: every activation, widths 3 to 7": KnownFailure(
            "path: every activation, widths 3 to 7", "tanh is coarse", None, "known.txt:5"
        ),
        "logit-scale": KnownFailure("logit-scale", "expires soon", None, "known.txt:6"),
    }


BAD = {
    "linear-mse": "'linear-mse': give an id, and a reason after #",
    "linear-mse #": "give an id, and a reason after #",
    "linear-mse # expires=2027-01-01": "give an id, and a reason after #",
    "a # why expires=soon": "expires=soon: give a date, such as expires=2027-01-01",
    "a # why expires=2027-13-01": "expires=2027-13-01: give a date",
    "a # why expires=2027-01-01 and no longer": "put expires=... at the end of the line",
    "a # why expires=": "expires=: give a date",
    "a # why\na # again": "known.txt:2: a is already listed, at known.txt:1",
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_line_is_named(tmp_path, text):
    (tmp_path / "known.txt").write_text(text)
    with pytest.raises(InvalidList, match=r"known.txt:\d: ") as refused:
        read(tmp_path / "known.txt")
    assert BAD[text] in str(refused.value)


def test_a_file_that_is_no_text_or_not_there_is_named(tmp_path):
    (tmp_path / "known.txt").write_bytes(b"\xff\xfe\x00")
    for name in ("known.txt", "missing.txt"):
        with pytest.raises(InvalidList, match=name):
            read(tmp_path / name)


def test_the_day_itself_still_counts():
    known = KnownFailure("a", "why", date(2026, 5, 1), "known.txt:1")
    assert not known.has_expired(date(2026, 5, 1))
    assert known.has_expired(date(2026, 5, 2))
    assert not KnownFailure("a", "why", None, "known.txt:1").has_expired(date(9999, 1, 1))


def test_unknown_ids_and_expired_lines_are_problems():
    listed = [
        KnownFailure("a", "why", None, "known.txt:1"),
        KnownFailure("b", "why", date(2026, 1, 1), "known.txt:2"),
        KnownFailure("c", "why", date(2026, 1, 1), "known.txt:3"),
    ]
    assert problems(listed, {"a", "b"}, date(2026, 1, 2)) == [
        "known.txt:3: no claim has the id 'c': remove the line, or correct the id",
        "known.txt:2: b expired on 2026-01-01: fix the claim, or give a later date",
    ]
    assert problems(listed, {"a", "b", "c"}, date(2026, 1, 1)) == []


def test_all_claims_and_checks_of_the_package_are_known():
    ids = entries(CLAIMS, CHECKS)
    assert {
        "linear-mse",
        "question-network-500-epochs",
        "path: tanh",
        "crowd: 64 seeds",
        "independence: given rows",
    } <= set(ids)
    assert len(ids) > 100
