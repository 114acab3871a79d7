"""The mode `--claims-selftest`: it collects the faults, keeps their outcomes and prints the kill matrix."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from aeclaims.runtime import parallel
from aeclaims.selftest import children
from aeclaims.selftest.children import Children, Outcome
from aeclaims.selftest.faults import CONTROLS, Fault

FOLDER = Path(children.__file__).parent


class SelfTest:
    """pytest plugin of this mode."""

    def __init__(self, config: pytest.Config) -> None:
        """Make pytest collect the faults, and nothing else."""
        config.args[:] = [str(FOLDER)]
        config.option.markexpr = "selftest"
        self.processes: int = config.getoption("claims_processes") or parallel.cpu_count()
        self.faults: list[dict[str, Any]] = []
        self.children: Children | None = None
        self.begun = time.monotonic()

    def pytest_report_collectionfinish(self, items: list[pytest.Item]) -> str:
        """Return a line with the number of stacks."""
        return f"self-test of the suite: {len(items)} stacks, {self.processes} at a time"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Start the judging of all faults. Each test then waits for its fault."""
        if session.testsfailed == 0 and not session.config.option.collectonly:
            ids = [item.callspec.params["fault"].id for item in session.items]  # type: ignore[attr-defined]
            self.children = Children(ids, processes=self.processes, seconds=children.SECONDS)

    def outcome(self, fault: Fault) -> Outcome:
        """Wait for the outcome of a fault, keep it for the matrix, and return it."""
        assert self.children is not None
        found = self.children.outcomes[fault.id].result()
        self.faults.append(row(fault, found))
        return found

    def document(self) -> dict[str, Any]:
        """Return the entries of this mode in the JSON of `--claims-json`."""
        return {"seconds": round(time.monotonic() - self.begun, 3), "faults": self.faults}

    def pytest_sessionfinish(self) -> None:
        """End the processes that still run."""
        if self.children is not None:
            self.children.close()

    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter") -> None:
        """Print the matrix."""
        from aeclaims.selftest.kill_matrix import print_matrix

        if self.faults:
            print_matrix(terminalreporter, self.faults)


def row(fault: Fault, outcome: Outcome) -> dict[str, Any]:
    """Return a row of the matrix, as in the JSON."""
    is_killed = outcome.killer is not None
    if fault.id in CONTROLS:
        verdict = "false alarm" if is_killed else "green"
    else:
        verdict = "killed" if is_killed else "equivalent" if fault.equivalent else "survived"
    said = {
        name: getattr(fault, name) for name in ("id", "layer", "does", "origin", "expected", "backend", "equivalent")
    }
    return {
        **said,
        "verdict": verdict,
        **asdict(outcome),
        "killer": outcome.killer._asdict() if outcome.killer else None,
    }
