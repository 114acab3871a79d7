"""The kill matrix: which fault was killed by what, and how soon; on a terminal, and as a page of the docs.

`python -m aeclaims.report.kills RUN.json FOLDER` writes FOLDER/kill-matrix.md from the JSON of `pytest --claims-selftest`.
"""

import json
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeclaims.claim import Claim
from aeclaims.conformance.paths import CROWD, LONG, SETUPS
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
LARGEST = {what: max(map(size, (*SETUPS.values(), CROWD, *LONG.values()))) for what, size in SIZES.items()}
COMMANDS = """```sh
pytest --claims-selftest --claims-json docs/kill-matrix.json
python -m aeclaims.report.kills docs/kill-matrix.json docs
```"""


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
        lines.append(f"{len(killed)} of {len(faults)} faults killed" + (
            f" ({100 * len(killed) / real:.1f} % of those that are not equivalent)" if real else ""))
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
    return (f"of the {len(soon)} that show in trainings like conformance's, of at most {steps:,} steps, the quick profile kills "
            f"{of_soon} {rate_of_soon}; of all {len(killed)}, {of_all} {rate}")


def print_matrix(reporter: "pytest.TerminalReporter", rows: Rows) -> None:
    """A line for each fault, and the rates."""
    reporter.section("kill matrix", sep="=")
    width = max(len(row["id"]) for row in rows)
    for row in rows:
        mark = "quick" if row["killer"] and row["killer"]["is_quick"] else ""
        reporter.write_line(f"{row['id']:{width}}  {row['seconds']:6.1f} s  {mark:5}  {killer(row)}", red=row["verdict"] in (
            "survived", "false alarm"))
    for line in summary(rows):
        reporter.write_line(line)


def page(document: dict[str, Any]) -> str:
    """The page of the docs."""
    from aeclaims.report.pages import cell, claims

    rows = document["faults"]
    first = Counter(row["killer"]["id"] for row in of(rows, "killed"))
    parts = [
        "# The kill matrix",
        "Each fault is put into a stack, and what a user's CI would run is run on it until something fails: the quick profile, "
        "then the other conformance checks, then the claims, cheap ones first. `aeclaims/faults/` has the records. Generated "
        f"from a run of {document['seconds']:.0f} s (aeclaims {document['aeclaims']}, torch {document['torch']}, "
        f"python {document['python']})." + (f" {document['note']}" if "note" in document else ""),
        COMMANDS,
        "\n".join(f"- {line}" for line in summary(rows)),
        "## Faults", _table(of(rows, "killed", "survived", "equivalent"), cell),
        "## Controls", _table(of(rows, "green", "false alarm"), cell),
        "## What kills first",
        "\n".join(["| check | faults that it kills first |", "|---|---|",
                   *(f"| `{cell(id)}` | {count} |" for id, count in first.most_common())]),
        *_worth([claim for id, claim in claims().items() if id not in first], cell),
    ]
    return "\n\n".join(parts) + "\n"


def _worth(idle: list[Claim], cell: Any) -> list[str]:
    """Why claims are there that were not the first to kill anything: what each stands for, and trains beyond conformance."""
    if not idle:
        return []
    lines = ["| claim | where its sentence stands | what it trains beyond conformance |", "|---|---|---|"]
    for claim in idle:
        beyond = [what.format(largest) for what, size in SIZES.items()
                  if (largest := max(map(size, claim.trains), default=0)) > LARGEST[what]]
        lines.append(f"| `{claim.id}` | {cell(claim.where)} | {', '.join(beyond) or 'nothing larger'} |")
    return [
        "Claims that were not the first to kill any of these faults, since a cheaper check had. What they are there for: "
        "a sentence of its own each, and most of them trainings larger than those of conformance, which end at "
        + ", ".join(what.format(largest) for what, largest in LARGEST.items())
        + ". `tests/faults/test_every_claim_can_fail.py` has for each of them changes of a training that it rejects.",
        "\n".join(lines),
    ]


def _table(rows: Iterable[dict[str, Any]], cell: Any) -> str:
    lines = ["| id | what is wrong | origin | backend | killed first by | seconds | quick |", "|---" * 7 + "|"]
    for row in rows:
        is_quick = bool(row["killer"] and row["killer"]["is_quick"])
        does = row["does"] + ("; " + row["equivalent"] if row["equivalent"] else "")
        lines.append(f"| `{row['id']}` | {cell(does)} | {cell(row['origin'])} | {row['backend']} | {cell(killer(row))} | "
                     f"{row['seconds']:.1f} | {'yes' * is_quick} |")
    return "\n".join(lines)


def write(source: Path, folder: Path) -> None:
    """Write the page into the folder."""
    (folder / "kill-matrix.md").write_text(page(json.loads(source.read_text(encoding="utf-8"))), encoding="utf-8")


def main(arguments: list[str]) -> int:
    """The command line; returns the exit code."""
    from aeclaims.report.pages import command

    return command(arguments, "aeclaims.report.kills", write)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
