"""The page of false alarms: the number of seed bases on which a sound stack was judged, and the checks that failed.

`python -m tools.false_alarms FOLDER DOCS` writes DOCS/false-alarms.md. The page's commands write its input into FOLDER.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

WRITES = "pytest --pyargs aeclaims -m claims {options} --claims-false-alarms {bases} --claims-json {folder}/{name}.json"
# For each run, by the name of its file: the options for profile and backend, and the number of seed bases.
RUNS = {
    "quick-numba": ("--claims-quick --claims-backend numba", 1000),
    "full-numba": ("--claims-backend numba", 30),
    "quick-torch": ("--claims-quick", 20),
    "quick-torch-compile": ("--claims-quick --claims-backend torch-compile", 20),
}
# The fields come from the document of a run.
INTRODUCTION = (
    "A suite that gates commits must not fail on sound stacks. This page counts how often it does. The suite judges a sound "
    "stack on disjoint seed bases, each in a separate run, and counts the bases on which a check failed. If no base of n "
    "failed, the rate is at most 3/n with 95 % confidence (the rule of three). Theory gives a lower bound for chance alone: "
    "`--claims-alpha` lets chance fail a whole suite once in a million draws of the seeds. The count covers the rest, such "
    "as a bound that is too narrow for some seed. "
    "Generated (aeclaims {aeclaims}, torch {torch}, numpy {numpy}, python {python})."
)


def page(documents: dict[str, dict[str, Any]], folder: str) -> str:
    """The page of the docs; `documents` maps the names of runs to their documents."""
    commands = [
        WRITES.format(options=options, bases=bases, name=name, folder=folder) for name, (options, bases) in RUNS.items()
    ]
    lines = [
        "| run | seed bases | exercised checks | verdicts | bases with a failure | rate at most, 95 % | seconds |",
        "|---" * 7 + "|",
    ]
    failures = []
    for name, document in documents.items():
        found = document["false_alarms"]
        judged = [
            sum(count for verdict, count in verdicts.items() if verdict != "not exercised")
            for verdicts in found["verdicts"].values()
        ]
        lines.append(
            f"| {name} | {found['bases']:,} | {np.count_nonzero(judged)} | {sum(judged):,} | "
            f"{found['bases_with_a_failure']} | {found['rate_at_most']:.2g} | {document['seconds']:,.0f} |"
        )
        failures += [
            f"- {name}, seeds from {failure['seed_base']}: `{failure['id']}`: {failure['reason']}"
            for failure in found["failures"]
        ]
    first = next(iter(documents.values()))
    missing = [f"Not run: {name}." for name in RUNS if name not in documents]
    return (
        "\n\n".join(
            [
                "# False alarms",
                INTRODUCTION.format(**first),
                "\n".join(["```sh", *commands, f"python -m tools.false_alarms {folder} {Path(folder).parent}", "```"]),
                "\n".join(lines),
                "\n".join(failures) or "Nothing failed.",
                *missing,
            ]
        )
        + "\n"
    )


def read(source: Path) -> dict[str, dict[str, Any]]:
    """Read the folder; returns a document for each run that has a file there."""
    paths = {name: source / f"{name}.json" for name in RUNS}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.exists()}


def write(source: Path, folder: Path) -> None:
    """Write the page into `folder` from the documents in `source`."""
    documents = read(source)
    (folder / "false-alarms.md").write_text(page(documents, source.as_posix()), encoding="utf-8")


def main(arguments: list[str]) -> int:
    """The command line; returns the exit code."""
    from tools.claim_pages import command

    return command(arguments, "tools.false_alarms", write)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
