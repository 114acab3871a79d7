"""The page of compatibility is as generated, and a check that was not run is neither red nor green on it."""

import json

import pytest

from tools import compatibility
from tools.compatibility import FOLDER, WrongDocument, page, read, strip

HELD = {
    "aeclaims": "1.0",
    "torch": "2.6.0",
    "numpy": "2.0.0",
    "python": "3.11.7",
    "backend": "torch",
    "compile": None,
    "device": "cpu",
    "dtype": "float32",
    "seconds": 31.4,
    "verdicts": {"held": 3},
    "failed": {},
    "not exercised": {},
}
FAILED = {**HELD, "verdicts": {"held": 2, "failed": 1}, "failed": {"path: tanh": "rounding errors"}}
NOT_EXERCISED = {
    **HELD,
    "verdicts": {"held": 1, "not exercised": 2},
    "not exercised": {"stage 5": "torch cannot | trace it", "stage 7": "torch cannot | trace it"},
}


def row(text, stack):
    """The cells of the runs of a stack: quick, claims, conformance, bisection."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| `{stack}` |")]
    return [cell.strip() for cell in line.split(" | ")][2:]


def test_the_page_is_as_generated():
    assert FOLDER.with_suffix(".md").read_text(encoding="utf-8") == page(read(FOLDER)), (
        "run python -m tools.compatibility"
    )


def test_a_run_that_held_is_green():
    assert row(page({"torch-2.6.0.quick": HELD}, "1.0"), "torch-2.6.0")[0] == "🟩 3 held; 31 s"


def test_a_missing_run_is_grey():
    text = page({"torch-2.6.0.quick": HELD}, "1.0")
    assert row(text, "torch-2.6.0")[1:3] == ["⬜ not run"] * 2
    assert row(text, "lowest")[:3] == ["⬜ not run"] * 3
    assert "🟥" not in text[text.index("| stack |") :]


def test_a_failure_is_red_and_named():
    text = page({"torch-2.6.0.quick": FAILED}, "1.0")
    assert row(text, "torch-2.6.0")[0] == "🟥 2 held, 1 failed; 31 s"
    assert "- `torch-2.6.0.quick`: **path: tanh**: rounding errors" in text


def test_a_run_of_another_suite_is_left_out():
    text = page({"torch-2.6.0.quick": FAILED, "lowest.quick": HELD}, "1.1")
    assert [row(text, stack)[0] for stack in ("torch-2.6.0", "lowest")] == ["⬜ not run"] * 2
    assert (
        "other versions of the suite made them: `torch-2.6.0.quick` (aeclaims 1.0), `lowest.quick` (aeclaims 1.0)"
        in text
    )
    assert "path: tanh" not in text


def test_an_incomplete_run_is_grey():
    text = page({"torch-2.6.0.quick": HELD, "lowest.quick": {**HELD, "verdicts": {"held": 2}}}, "1.0")
    assert row(text, "lowest")[0] == "⬜ incomplete, 2 of 3 checks: 2 held; 31 s"


def test_a_backend_may_have_fewer_checks():
    text = page({"torch-2.6.0.quick": HELD, "torch-loop.quick": {**HELD, "verdicts": {"held": 2}}}, "1.0")
    assert row(text, "torch-loop")[0] == "🟩 2 held; 31 s"


def test_a_run_that_exercised_nothing_is_grey():
    text = page({"oracle.quick": {**NOT_EXERCISED, "verdicts": {"not exercised": 2}}}, "1.0")
    assert row(text, "oracle")[0] == "⬜ 2 not exercised; 31 s"


def test_checks_with_one_reason_share_a_line():
    text = page({"torch-2.6.0.bisection": NOT_EXERCISED, "lowest.bisection": NOT_EXERCISED}, "1.0")
    assert "| torch cannot \\| trace it | stage 5, stage 7 | `torch-2.6.0.bisection`, `lowest.bisection` |" in text


def test_bisection_chooses_its_backends_itself():
    assert row(page({}, "1.0"), "numba")[3] == "|"


@pytest.mark.parametrize(
    ("key", "statement"),
    [
        ("torch-2.7.1.quick", "this run used torch 2.6.0"),
        ("torch-1.0.quick", "name the file STACK.RUN.json"),
        ("lowest.fast", "STACK.RUN"),
    ],
)
def test_a_document_of_another_stack_is_refused(key, statement):
    with pytest.raises(WrongDocument, match=statement):
        page({key: HELD}, "1.0")


def test_documents_are_stripped_and_kept(tmp_path, monkeypatch, capsys):
    claims = [
        {"id": id, "verdict": verdict, "reason": reason, "trainings": ["long"]}
        for id, verdict, reason in (("a", "held", ""), ("b", "failed", "theory"), ("c", "not exercised", "no compiler"))
    ]
    raw, folder = tmp_path / "raw", tmp_path / "compatibility"
    for path in (raw, folder):
        path.mkdir()
    monkeypatch.setattr(compatibility, "FOLDER", folder)
    document = {**{name: HELD[name] for name in compatibility.KEPT}, "aeclaims": compatibility.SUITE, "claims": claims}
    (raw / "torch-2.6.0.quick.json").write_text(json.dumps(document))
    assert compatibility.main([str(raw)]) == 0
    kept = json.loads((folder / "torch-2.6.0.quick.json").read_text())
    assert kept == json.loads(json.dumps(strip(document)))
    assert kept["failed"] == {"b": "theory"}
    assert kept["not exercised"] == {"c": "no compiler"}
    assert "🟥 1 held, 1 failed, 1 not exercised; 31 s" in (tmp_path / "compatibility.md").read_text()
    (raw / "torch-9.quick.json").write_text(json.dumps(document))
    assert compatibility.main([str(raw)]) == 2
    assert "name the file STACK.RUN.json" in capsys.readouterr().err
