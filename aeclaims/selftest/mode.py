"""--claims-selftest as pytest sees it: what is collected, what is kept of each fault, the matrix at the end."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from aeclaims import processors
from aeclaims.faults import CONTROLS, Fault
from aeclaims.selftest.children import Children, Outcome

FOLDER = Path(__file__).parent
OUTCOME = pytest.StashKey[tuple[Fault, Outcome]]()


class SelfTest:
    """The plugin of this mode."""

    def __init__(self, config: pytest.Config) -> None:
        """Have pytest collect the faults, and nothing else."""
        if config.getoption("numprocesses", None):
            raise pytest.UsageError("--claims-selftest judges several faults at a time itself: give --claims-processes, not -n")
        config.args[:] = [str(FOLDER)]
        config.option.markexpr = "selftest"
        self.processes: int = config.getoption("claims_processes") or processors.count()
        self.faults: list[dict[str, Any]] = []

    def pytest_report_collectionfinish(self, items: list[pytest.Item]) -> str:
        """What is about to be done."""
        return f"self-test of the suite: {len(items)} stacks, {self.processes} at a time"

    @pytest.fixture(scope="session")
    def children(self, request: pytest.FixtureRequest) -> Any:
        """The processes that judge what was selected."""
        ids = [item.callspec.params["fault"].id for item in request.session.items]  # type: ignore[attr-defined]
        children = Children(ids, processes=self.processes)
        yield children
        children.close()

    @pytest.fixture
    def outcome(self, children: Children, request: pytest.FixtureRequest, fault: Fault) -> Outcome:
        """What became of the fault of this test; kept for the matrix."""
        found = children.outcomes[fault.id].result()
        request.node.stash[OUTCOME] = fault, found
        return found

    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        """Keep what became of it."""
        if OUTCOME in item.stash:
            self.faults.append(row(*item.stash[OUTCOME]))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The matrix."""
        from aeclaims.report.kills import print_matrix

        if self.faults:
            print_matrix(terminalreporter, self.faults)


def row(fault: Fault, outcome: Outcome) -> dict[str, Any]:
    """A row of the matrix, as the JSON has it."""
    is_killed = outcome.killer is not None
    if fault.id in CONTROLS:
        verdict = "false alarm" if is_killed else "green"
    else:
        verdict = "killed" if is_killed else "equivalent" if fault.equivalent else "survived"
    said = {name: getattr(fault, name) for name in ("id", "layer", "does", "origin", "expected", "backend", "equivalent")}
    return {**said, "verdict": verdict, **asdict(outcome), "killer": outcome.killer._asdict() if outcome.killer else None}
