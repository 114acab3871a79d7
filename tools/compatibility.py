"""The page docs/compatibility.md: which stacks were judged by the suite, by which runs, and how they ended.

`python -m tools.compatibility` writes the page from docs/compatibility/*.json. `python -m tools.compatibility FOLDER` first
strips the documents FOLDER/STACK.RUN.json of `--claims-json`, and keeps them there.
"""

import json
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "compatibility"
STACKS = tomllib.loads((FOLDER / "stacks.toml").read_text(encoding="utf-8"))
SUITE = str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])
KEPT = ("aeclaims", "torch", "numpy", "python", "backend", "compile", "device", "dtype", "seconds")
TITLES = {"quick": "quick claims", "claims": "all claims", "conformance": "conformance", "bisection": "bisection"}
NOT_RUN = "⬜ not run"
MOST_IDS = 4
INTRODUCTION = """# Compatibility

The suite judges each of these stacks. A run is a file of `docs/compatibility`, and this page is generated from them.

- 🟩: no check failed. 🟥: a check failed; the section "Failures" names it.
- ⬜: nobody ran it with this version of the suite, or the run is incomplete. It says nothing about the stack.
- *Not exercised*: a check that cannot judge this stack. The last section gives the reasons.

## Versions

`pyproject.toml` declares the lowest version of each dependency, and no highest one. The row `lowest` has those versions. In the
other sessions of nox, all dependencies except torch have the versions of `constraints.txt`. The suite reads no version number to
decide which checks apply. It tries the feature: if this torch cannot compile a training, or has no such compiler backend, the
check is *not exercised* and gives the reason. The page compares runs of one version of the suite only, because another version
has other checks."""
COMMANDS = """These sessions of nox make the runs and write this page. Releases of torch are CUDA builds of 2.5 GB on PyPI:

```sh
nox -s "torch(version='2.6.0')" -- quick conformance   # without names: quick, conformance, bisection
nox -s lowest
nox -s "backend(name='numba')" -- claims
```"""

Documents = Mapping[str, Mapping[str, Any]]


class WrongDocument(ValueError):
    """The document belongs to another stack or run than its name says; the message names it."""


def strip(document: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a --claims-json document that the page needs: versions, counts of verdicts, and reasons."""
    claims = document["claims"]
    reasons = {
        verdict: {claim["id"]: claim["reason"] for claim in claims if claim["verdict"] == verdict}
        for verdict in ("failed", "not exercised")
    }
    return {
        **{name: document[name] for name in KEPT},
        "verdicts": Counter(claim["verdict"] for claim in claims),
        **reasons,
    }


def names() -> list[str]:
    """The names of all stacks, in the order of their rows."""
    return [*(f"torch-{version}" for version in STACKS["torch"]), "lowest", *STACKS["backends"]]


def page(documents: Documents, suite: str = SUITE) -> str:
    """The page.

    Args:
        documents: Stripped documents, with keys STACK.RUN.
        suite: The version of the suite; runs of other versions are left out.
    Returns:
        Markdown.
    Raises:
        WrongDocument: If a document does not belong to a stack and a run of stacks.toml.
    """
    for key, document in documents.items():
        check(key, document)
    compared = {key: document for key, document in documents.items() if document["aeclaims"] == suite}
    dropped = [
        f"`{key}` (aeclaims {document['aeclaims']})" for key, document in documents.items() if key not in compared
    ]
    left_out = f"Left out, because other versions of the suite made them: {', '.join(dropped)}." if dropped else ""
    parts = [
        INTRODUCTION,
        f"These are runs of aeclaims {suite}. The seconds were measured on a busy machine with 2 shared cores.",
        left_out,
        table(compared),
        COMMANDS,
        "## Failures",
        failures(compared),
        "## Not exercised",
        not_exercised(compared),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def check(key: str, document: Mapping[str, Any]) -> None:
    """Raise WrongDocument if the document does not belong to the stack and the run in its name."""
    stack, _, run = key.rpartition(".")
    if stack not in names() or run not in STACKS["runs"]:
        raise WrongDocument(f"{key}: name the file STACK.RUN.json, with a stack and a run of stacks.toml")
    wanted = stack.removeprefix("torch-")
    if wanted in STACKS["torch"] and document["torch"].partition("+")[0] != wanted:
        raise WrongDocument(f"{key}: this run used torch {document['torch']}")


def table(documents: Documents) -> str:
    """A row for each stack, a column for each run."""
    # Custom backends and loops have other checks in a run than the populations of torch.
    complete = {
        run: max(
            (
                count(document)
                for key, document in documents.items()
                if key.endswith(f".{run}") and key.rpartition(".")[0] not in STACKS["backends"]
            ),
            default=0,
        )
        for run in TITLES
    }
    lines = ["| stack | versions | " + " | ".join(TITLES.values()) + " |", "|---" * (2 + len(TITLES)) + "|"]
    for stack in names():
        found = {run: documents.get(f"{stack}.{run}") for run in TITLES}
        is_backend = stack in STACKS["backends"]
        cells = [
            "" if run == "bisection" and is_backend else cell(document, 0 if is_backend else complete[run])
            for run, document in found.items()
        ]
        lines.append("| " + " | ".join([f"`{stack}`", versions(found.values()), *cells]) + " |")
    return "\n".join(lines)


def count(document: Mapping[str, Any]) -> int:
    """The number of checks that have a verdict."""
    return sum(document["verdicts"].values())


def cell(document: Mapping[str, Any] | None, complete: int) -> str:
    """The result of a run in a few words; `complete` is the number of checks in a complete run."""
    if document is None:
        return NOT_RUN
    verdicts, total = document["verdicts"], count(document)
    words = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items()) + f"; {document['seconds']:,.0f} s"
    if verdicts.get("failed"):
        return f"🟥 {words}"
    if total < complete:
        return f"⬜ incomplete, {total} of {complete} checks: {words}"
    return f"{'⬜' if verdicts.get('not exercised') == total else '🟩'} {words}"


def versions(documents: Iterable[Mapping[str, Any] | None]) -> str:
    """The versions of a stack, from its runs."""
    return "; ".join(
        dict.fromkeys(
            f"torch {found['torch']}, numpy {found['numpy']}, Python {found['python']}, {found['device']}"
            for found in documents
            if found
        )
    )


def failures(documents: Documents) -> str:
    """The checks that failed, with their reasons."""
    return (
        "\n".join(
            f"- `{key}`: **{id}**: {reason}"
            for key, document in documents.items()
            for id, reason in document["failed"].items()
        )
        or "None."
    )


def not_exercised(documents: Documents) -> str:
    """A table of the reasons, each with its checks and runs."""
    checks: dict[str, list[str]] = {}
    runs: dict[str, list[str]] = {}
    for key, document in documents.items():
        for id, reason in document["not exercised"].items():
            checks.setdefault(reason, []).append(id)
            runs.setdefault(reason, []).append(f"`{key}`")
    lines = ["| reason | checks | runs |", "|---|---|---|"]
    for reason, ids in checks.items():
        lines.append(
            "| "
            + " | ".join(
                one.replace("|", "\\|")
                for one in (reason.replace("\n", " "), shortened(ids), ", ".join(dict.fromkeys(runs[reason])))
            )
            + " |"
        )
    return "\n".join(lines) if checks else "None."


def shortened(ids: Iterable[str]) -> str:
    """The first ids, and the number of the others."""
    once = list(dict.fromkeys(ids))
    others = len(once) - MOST_IDS
    return ", ".join(once[:MOST_IDS]) + (f", and {others} others" if others > 0 else "")


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """The documents of a folder, by STACK.RUN, in the order of the rows."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    order = {f"{stack}.{run}": number for number, (stack, run) in enumerate((s, r) for s in names() for r in TITLES)}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))


def main(arguments: list[str]) -> int:
    """The command line; returns the exit code."""
    try:
        for key, document in read(Path(arguments[0])).items() if arguments else ():
            stripped = strip(document)
            check(key, stripped)
            (FOLDER / f"{key}.json").write_text(json.dumps(stripped, indent=1) + "\n", encoding="utf-8")
        FOLDER.with_suffix(".md").write_text(page(read(FOLDER)), encoding="utf-8")
    except (OSError, json.JSONDecodeError, KeyError, WrongDocument) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
