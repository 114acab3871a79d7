"""The result of one claim, as a plain dictionary: verdict, evidence and replay command."""

from typing import Any

import pytest

from aeclaims.errors import ClaimFailed
from aeclaims.judging.claim import Claim
from aeclaims.judging.judge import Judge, Verdict
from pytest_aeclaims.run_state import RunState

# The result of a test in which a process died, if nothing else is known about it.
UNKNOWN: dict[str, Any] = {
    "id": "", "source": "", "origin": "", "kind": "", "statement": "", "finding": "", "caveat": "", "verdict": "", "backend": "",
    "seeds": 0, "alpha": 0.0, "floor": None, "measured": {}, "intervals": {}, "statements": [], "trainings": [],
    "left_out": [], "note": "", "reason": "", "seconds": 0.0, "replay": "",
}  # fmt: skip


def unjudged(claim: Claim, session: RunState, node: str) -> dict[str, Any]:
    """Return the result of a claim before it is judged: its description, and the command that judges it."""
    seeds = session.seeds(claim)
    return UNKNOWN | {
        "id": claim.id, "source": claim.source, "origin": claim.origin, "kind": claim.kind, "statement": claim.statement,
        "finding": claim.finding, "caveat": claim.caveat, "backend": session.settings.backend, "seeds": len(seeds),
        "note": session.note, "replay": session.settings.command(claim, node, len(seeds), seeds[0]),
    }  # fmt: skip


def build_result(
    claim: Claim,
    session: RunState,
    judge: Judge | None,
    report: pytest.TestReport,
    error: BaseException | None,
    node: str,
    trainings: list[dict[str, Any]],
) -> dict[str, Any]:
    """Return the result of a claim's test, and give pytest's report the verdict's outcome and a text that stands alone.

    Args:
        claim: The claim.
        session: The state of the run.
        judge: The judge that the test used; None if it used none.
        report: pytest's report of the test. It is changed.
        error: The error that the test raised; None if it raised none.
        node: The test, as `--pyargs` takes it.
        trainings: The trainings, for the JSON and the page.
    """
    judge = judge or Judge()
    known, reason = unjudged(claim, session, node), list(judge.reason)
    replay = known["replay"]
    has_held_unexpectedly = report.failed and error is None
    if has_held_unexpectedly and judge.judged and not judge.not_exercised:
        verdict = Verdict.FAILED
        reason.append(f"it held, but it is listed as a known failure: remove it from the list. {report.longrepr}")
        report.longrepr = f"claim {claim.id}: {reason[-1]}"
    elif hasattr(report, "wasxfail"):
        verdict = Verdict.EXPECTED_FAILURE if report.outcome == "skipped" else Verdict.FAILED
        reason.append(f"expected failure: {report.wasxfail}")
    elif report.failed and not has_held_unexpectedly:
        verdict = Verdict.FAILED
        if isinstance(error, ClaimFailed):
            replay = session.settings.command(claim, node, 1, error.seed)
            reason = [error.reason]
            report.longrepr = (
                f"claim {claim.id} failed on backend {session.settings.backend}\n"
                f"  says:   {claim.statement} ({claim.source}; {claim.origin})\n"
                f"  found:  {claim.finding}{f' ({claim.caveat})' if claim.caveat else ''}\n"
                f"  {error}\n  worst:  seed {error.seed}; to replay it alone:\n    {replay}"
            )
        else:
            reason.append(f"{type(error).__name__}: {error}")
    elif report.skipped or judge.not_exercised or not judge.judged:  # also if it was expected to fail
        verdict = Verdict.NOT_EXERCISED
        reason += judge.not_exercised or judge.left_out or [str(error) if error else "the claim judged nothing"]
        report.outcome = "skipped"
        report.longrepr = (str(report.fspath), report.location[1] or 0, f"not exercised: {'; '.join(reason)}")
    else:
        verdict = Verdict.HELD
    return known | {
        "verdict": str(verdict), "alpha": judge.spent, "floor": _finite(judge.floor),
        "measured": {name: _finite(value) for name, value in judge.measured.items()},
        "intervals": judge.intervals,
        "statements": [vars(statement) for statement in judge.statements], "trainings": trainings,
        "left_out": judge.left_out, "reason": "; ".join(reason),
        "seconds": round(report.duration, 3), "replay": replay,
    }  # fmt: skip


def node(item: pytest.Item) -> str:
    """Return the item's name as --pyargs takes it: it works in a clone and from a wheel."""
    module = item.getparent(pytest.Module)
    assert module is not None
    return f"{module.obj.__name__}::{item.nodeid.partition('::')[2]}"


def properties(result: dict[str, Any]) -> list[tuple[str, object]]:
    """Return the properties for JUnit's XML: id, kind, verdict, floor, seeds, error rate, replay command, measurements."""
    kept = {
        key: result[key]
        for key in ("id", "kind", "verdict", "floor", "seeds", "alpha", "replay")
        if result[key] is not None
    }
    return [(f"claim.{name}", value) for name, value in (kept | result["measured"]).items()]


def _finite(value: float | None) -> float | str | None:
    """Return NaN and infinity as words, because JSON has neither and a reader must see them."""
    return value if value is None or abs(value) < float("inf") else str(value)
