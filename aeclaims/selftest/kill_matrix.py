"""The kill matrix: the first check to kill each fault, and the time it took; rates in words, and lines for a terminal."""

import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aeclaims.conformance.paths import LONG, POPULATION, SETUPS
from aeclaims.experiment import Experiment

if TYPE_CHECKING:
    import pytest

Rows = list[dict[str, Any]]
# The family of faults that short trainings cannot show, by construction.
LATE = "late"
# Measures of a training's size, and the largest trainings that conformance compares with the oracle's.
SIZES: dict[str, Callable[[Experiment], int]] = {
    "{:,} steps": lambda experiment: experiment.epochs * experiment.steps_per_epoch,
    "layers of {:,}": lambda experiment: max(experiment.model.widths),
    "{:,} rows": lambda experiment: experiment.n_rows,
}
LARGEST = {what: max(map(size, (*SETUPS.values(), POPULATION, *LONG.values()))) for what, size in SIZES.items()}


def killer(row: dict[str, Any]) -> str:
    """Return the id of the check that killed the fault; if none did, its verdict."""
    if row["killer"]:
        return str(row["killer"]["id"])
    return str(row["verdict"]) + ("" if row["is_complete"] else ", out of time")


def of(rows: Rows, *verdicts: str) -> Rows:
    """Return the rows with one of the verdicts."""
    return [row for row in rows if row["verdict"] in verdicts]


def summary(rows: Rows) -> list[str]:
    """Describe the kill rates of the suite and of the quick profile, the survivors and the controls; a line for each."""
    faults, controls = of(rows, "killed", "survived", "equivalent"), of(rows, "green", "false alarm")
    killed = of(rows, "killed")
    lines = []
    if faults:
        real = len(faults) - len(of(rows, "equivalent"))
        lines.append(
            f"{len(killed)} of {len(faults)} faults killed"
            + (f" ({100 * len(killed) / real:.1f} % of those that are not equivalent)" if real else "")
        )
    if killed:
        median = statistics.median(row["seconds"] for row in killed)
        lines.append(f"{_quick(killed)}; the median kill takes {median:.1f} s, without imports")
    for verdict, says in (("survived", "survivors"), ("equivalent", "equivalent"), ("false alarm", "false alarms")):
        if found := of(rows, verdict):
            lines.append(f"{says}: {', '.join(row['id'] for row in found)}")
    if controls:
        lines.append(f"{len(of(rows, 'green'))} of {len(controls)} controls green")
    return lines


def _quick(killed: Rows) -> str:
    """Describe the kill rate of the quick profile; if some faults are late, also its rate among the others."""

    def kills(rows: Rows) -> tuple[int, str]:
        quick = sum(row["killer"]["is_quick"] for row in rows)
        return quick, f"({100 * quick / len(rows):.1f} %)"

    soon = [row for row in killed if row["layer"] != LATE]
    of_all, rate = kills(killed)
    if not soon or len(soon) == len(killed):
        return f"the quick profile kills {of_all} of them {rate}"
    of_soon, rate_of_soon = kills(soon)
    steps = LARGEST["{:,} steps"]
    return (
        f"the quick profile kills {of_soon} of the {len(soon)} {rate_of_soon} that show in trainings like conformance's "
        f"(at most {steps:,} steps), and {of_all} of all {len(killed)} {rate}"
    )


def print_matrix(reporter: "pytest.TerminalReporter", rows: Rows) -> None:
    """Print a line for each fault, and the rates."""
    reporter.section("kill matrix", sep="=")
    width = max(len(row["id"]) for row in rows)
    for row in rows:
        mark = "quick" if row["killer"] and row["killer"]["is_quick"] else ""
        reporter.write_line(
            f"{row['id']:{width}}  {row['seconds']:6.1f} s  {mark:5}  {killer(row)}",
            red=row["verdict"] in ("survived", "false alarm"),
        )
    for line in summary(rows):
        reporter.write_line(line)
