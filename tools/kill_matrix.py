"""The page of the kill matrix: which check killed which fault first, and how soon.

`python -m tools.kill_matrix RUN.json FOLDER` writes FOLDER/kill-matrix.md from the JSON of `pytest --claims-selftest`.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeclaims.judging.claim import Claim
from aeclaims.selftest.kill_matrix import LARGEST, SIZES, killer, of, summary

if TYPE_CHECKING:
    pass

# Of a page whose rows come from several runs.
NOTE = "Rows of later runs replace those of the whole run, which may be of an earlier version."
COMMANDS = """```sh
pytest --claims-selftest --claims-json docs/kill-matrix.json
python -m tools.kill_matrix docs/kill-matrix.json docs
```"""


def page(document: dict[str, Any]) -> str:
    """The page of the docs."""
    from tools.claim_pages import cell, claims

    rows = document["faults"]
    first = Counter(row["killer"]["id"] for row in of(rows, "killed"))
    parts = [
        "# The kill matrix",
        "The self-test puts each fault into a stack. Then it runs the checks of a user's CI until one fails: the quick profile, "
        "the other conformance checks, and the claims, cheap ones first. `aeclaims/selftest/faults/` has the records. "
        f"Generated from a run of {document['seconds']:.0f} s (aeclaims {document['aeclaims']}, torch {document['torch']}, "
        f"python {document['python']})." + (f" {document['note']}" if "note" in document else ""),
        COMMANDS,
        "\n".join(f"- {line}" for line in summary(rows)),
        "## Faults",
        _table(of(rows, "killed", "survived", "equivalent"), cell),
        "## Controls",
        _table(of(rows, "green", "false alarm"), cell),
        "## Checks that kill first",
        "\n".join(
            [
                "| check | faults killed first |",
                "|---|---|",
                *(f"| `{cell(id)}` | {count} |" for id, count in first.most_common()),
            ]
        ),
        *_worth([claim for id, claim in claims().items() if id not in first], cell),
    ]
    return "\n\n".join(parts) + "\n"


def _worth(idle: list[Claim], cell: Any) -> list[str]:
    """The claims that were not the first to kill a fault: the source of each, and its trainings beyond conformance."""
    if not idle:
        return []
    lines = ["| claim | source of its sentence | training beyond conformance |", "|---|---|---|"]
    for claim in idle:
        beyond = [
            what.format(largest)
            for what, size in SIZES.items()
            if (largest := max(map(size, claim.trains), default=0)) > LARGEST[what]
        ]
        lines.append(f"| `{claim.id}` | {cell(claim.source)} | {', '.join(beyond) or 'nothing larger'} |")
    return [
        "The following claims were not the first to kill any of these faults, because a cheaper check had killed it. "
        "Each of them checks a different sentence. Most of them have larger trainings than conformance, whose limits are "
        + ", ".join(what.format(largest) for what, largest in LARGEST.items())
        + ". For each claim, `tests/faults/test_every_claim_can_fail.py` has changes of a training that it rejects.",
        "\n".join(lines),
    ]


def _table(rows: Iterable[dict[str, Any]], cell: Any) -> str:
    lines = ["| id | fault | origin | backend | killed first by | seconds | quick |", "|---" * 7 + "|"]
    for row in rows:
        is_quick = bool(row["killer"] and row["killer"]["is_quick"])
        does = row["does"] + ("; " + row["equivalent"] if row["equivalent"] else "")
        lines.append(
            f"| `{row['id']}` | {cell(does)} | {cell(row['origin'])} | {row['backend']} | {cell(killer(row))} | "
            f"{row['seconds']:.1f} | {'yes' * is_quick} |"
        )
    return "\n".join(lines)


def merged(document: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The document with the rows of another run in place of its own."""
    rows = {row["id"]: row for row in [*document["faults"], *other["faults"]]}
    return {**document, "faults": list(rows.values()), "note": NOTE}


def write(source: Path, folder: Path) -> None:
    """Write the page into the folder; if the run is not the folder's, put its rows into the folder's run first."""
    document, kept = json.loads(source.read_text(encoding="utf-8")), folder / "kill-matrix.json"
    if kept.exists() and source.resolve() != kept.resolve():
        document = merged(json.loads(kept.read_text(encoding="utf-8")), document)
        kept.write_text(json.dumps(document) + "\n", encoding="utf-8")
    (folder / "kill-matrix.md").write_text(page(document), encoding="utf-8")


def main(arguments: list[str]) -> int:
    """The command line; returns the exit code."""
    from tools.claim_pages import command

    return command(arguments, "tools.kill_matrix", write)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
