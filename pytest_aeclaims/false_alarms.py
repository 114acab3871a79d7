"""False alarms: the selection is judged on many disjoint seed bases, in one process, and failures are counted."""

from collections import Counter
from typing import Any

import pytest
import scipy

from pytest_aeclaims.fixtures import RUN_STATE, RUNS, claim_of, run_state
from pytest_aeclaims.unexercised import SUITE, nothing_judged

CONFIDENCE = 0.95


class FalseAlarms:
    """Mode that judges the selection on one seed base after the other.

    Each base is a separate run, as you would start it. If a base exercises nothing of the stack, it is not counted: it
    could not have failed.

    Attributes:
        bases: Number of bases to judge.
        done: Number of bases judged so far that exercised something of the stack.
        stride: Distance from one base to the next; 0 before the first run.
        base: The current base: its first seed.
        is_judged: Whether this base has exercised something of the stack.
        unexercised: Results of this base that were not exercised.
        verdicts: Number of each verdict, by id, over all bases.
        failures: Failures on all bases: seed base, id, reason and replay command.
    """

    def __init__(self, bases: int) -> None:
        self.bases, self.done, self.stride, self.base = bases, 0, 0, 0
        self.is_judged = False
        self.unexercised: list[dict[str, Any]] = []
        self.verdicts: dict[str, Counter[str]] = {}
        self.failures: list[dict[str, Any]] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run pytest's loop once for each base."""
        if session.testsfailed and not session.config.option.continue_on_collection_errors:
            raise session.Interrupted(f"{session.testsfailed} errors during collection")
        if session.config.option.collectonly or not session.items:
            return True
        claims = [claim for item in session.items if (claim := claim_of(item))]
        first = run_state(session.config)
        # One more, because some checks replace one of the seeds by the next higher one.
        self.stride = 1 + max((len(first.seeds(claim)) for claim in claims), default=0)
        try:
            for count in range(self.bases):
                self.base = first.settings.seed_base + count * self.stride
                session.config.stash[RUN_STATE] = first.with_seed_base(self.base)
                self.is_judged, self.unexercised = False, []
                self._judge(session)
                self.done += self.is_judged
        finally:
            session.config.stash[RUN_STATE] = first  # the JSON has the first base, and the time of all bases
        return True

    def _judge(self, session: pytest.Session) -> None:
        for item, upcoming in zip(
            session.items, [*session.items[1:], None], strict=True
        ):  # None: pytest tears down all fixtures
            if RUNS in item.stash:
                del item.stash[RUNS]
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=upcoming)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count the verdict, and keep a failure. The full results of a thousand bases would take gigabytes."""
        if not hasattr(report, "aeclaims"):
            return
        result: dict[str, Any] = report.aeclaims
        del report.aeclaims
        self.verdicts.setdefault(result["id"], Counter())[result["verdict"]] += 1
        self.is_judged |= result["verdict"] == "failed" or (result["verdict"] == "held" and result["source"] != SUITE)
        if result["verdict"] == "not exercised":
            self.unexercised.append({key: result[key] for key in ("source", "verdict", "reason")})
        if result["verdict"] == "failed":
            self.failures.append({"seed_base": self.base} | {key: result[key] for key in ("id", "reason", "replay")})

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Exit with 5 if no base exercised anything, as any other run does."""
        if self.stride and not self.done and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED

    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter") -> None:
        """Print the count, the bound on the rate, and the failures."""
        print_alarms(terminalreporter, self.found())
        if not self.done and (said := nothing_judged(self.unexercised)):
            terminalreporter.write_line(said, red=True)

    def document(self) -> dict[str, Any]:
        """Return the entries of this mode in the JSON of `--claims-json`."""
        return {"false_alarms": self.found()}

    def found(self) -> dict[str, Any]:
        """Return the verdicts of each check, the failures with their bases, and the bound on the rate."""
        failed = len({failure["seed_base"] for failure in self.failures})
        return {
            "bases": self.done, "stride": self.stride, "bases_with_a_failure": failed, "failures": self.failures,
            "rate_at_most": bound(failed, self.done), "confidence": CONFIDENCE, "verdicts": self.verdicts,
        }  # fmt: skip


def bound(failures: int, bases: int) -> float | None:
    """Upper bound on the rate of bases with a failure, by Clopper and Pearson, with the confidence `CONFIDENCE`.

    If none of n bases fails, it is 1 - 0.05^(1/n), about 3/n: the rule of three.

    Args:
        failures: Number of bases with a failure.
        bases: Number of bases judged.

    Returns:
        The bound; None if no base was judged.
    """
    if not bases:
        return None
    return float(scipy.stats.binomtest(failures, bases, alternative="less").proportion_ci(CONFIDENCE).high)


def print_alarms(reporter: "pytest.TerminalReporter", found: dict[str, Any]) -> None:
    """Print the count, the bound on the rate, and the failures."""
    reporter.section("false alarms", sep="=")
    for failure in found["failures"]:
        reporter.write_line(f"{failure['id']}, seeds from {failure['seed_base']}: {failure['reason']}", red=True)
    unseen = sorted(
        name for name, verdicts in found["verdicts"].items() if not verdicts["failed"] and not verdicts["held"]
    )
    if unseen:
        reporter.write_line(f"never exercised: {', '.join(unseen)}")
    if found["bases"]:
        judged = sum(verdicts.total() for verdicts in found["verdicts"].values())
        reporter.write_line(
            f"{found['bases_with_a_failure']} of {found['bases']:,} seed bases with a failure, {judged:,} verdicts on "
            f"{len(found['verdicts'])} checks; rate of false alarms at most {found['rate_at_most']:.2g}, with {CONFIDENCE:.0%} "
            "confidence" + " (rule of three)" * (not found["failures"])
        )
