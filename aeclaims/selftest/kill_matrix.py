"""The kill matrix: which check killed which fault first, and how soon; its rates in words, and its lines on a terminal."""

import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aeclaims.conformance.paths import LONG, POPULATION, SETUPS
from aeclaims.experiment import Experiment

if TYPE_CHECKING:
    import pytest

Rows = list[dict[str, Any]]
# The family of faults that no short training shows, by construction.
LATE = "late"
# What makes a training large, and how large those are that conformance compares with the oracle's.
SIZES: dict[str, Callable[[Experiment], int]] = {
    "{:,} steps": lambda experiment: experiment.epochs * experiment.steps_per_epoch,
    "layers of {:,}": lambda experiment: max(experiment.model.widths),
    "{:,} rows": lambda experiment: experiment.n_rows,
}
LARGEST = {what: max(map(size, (*SETUPS.values(), POPULATION, *LONG.values()))) for what, size in SIZES.items()}


def killer(row: dict[str, Any]) -> str:
    """The check that killed it, or what else became of it."""
    if row["killer"]:
        return str(row["killer"]["id"])
    return str(row["verdict"]) + ("" if row["is_complete"] else ", out of time")


def of(rows: Rows, *verdicts: str) -> Rows:
    """Those with one of the verdicts."""
    return [row for row in rows if row["verdict"] in verdicts]


def summary(rows: Rows) -> list[str]:
    """The kill rates in words: of all, of the quick profile; the survivors; the controls."""
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
        lines.append(f"{_quick(killed)}; half of all are dead after {median:.1f} s, imports apart")
    for verdict, says in (("survived", "survivors"), ("equivalent", "equivalent"), ("false alarm", "false alarms")):
        if found := of(rows, verdict):
            lines.append(f"{says}: {', '.join(row['id'] for row in found)}")
    if controls:
        lines.append(f"{len(of(rows, 'green'))} of {len(controls)} controls green")
    return lines


def _quick(killed: Rows) -> str:
    """How many the quick profile kills; where some are late, also of those alone that show in trainings like conformance's."""

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
        f"of the {len(soon)} that show in trainings like conformance's, of at most {steps:,} steps, the quick profile kills "
        f"{of_soon} {rate_of_soon}; of all {len(killed)}, {of_all} {rate}"
    )


def print_matrix(reporter: "pytest.TerminalReporter", rows: Rows) -> None:
    """A line for each fault, and the rates."""
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
