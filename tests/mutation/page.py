"""The page on mutants of the project: how many of them the tests kill, and why the others may survive.

`python -m tests.mutation.page docs/mutation.json docs` writes docs/mutation.md again, from the last run and
tests/mutation/arguments.toml. If a mutant survives without an argument, or an argument has no survivor, it exits with 1.
"""

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

ARGUMENTS = Path(__file__).with_name("arguments.toml")
INTRODUCTION = """# Mutants of the project's code

Each mutant is one small change of one line, for example another operator or number, an argument that is missing or `None`, or a
string in capitals. A test should notice it. If no test notices a mutant, this page gives the reason why it may survive.
Generated from a run of {minutes} minutes (aeclaims {aeclaims}, mutmut {mutmut}, python {python}) by

```sh
pip install -c constraints.txt -e ".[mutation]"
python -m tests.mutation docs
```

Run it at night. It exits with 1 if a mutant survives without an argument in `tests/mutation/arguments.toml`, or if an argument
has no survivor. `pyproject.toml` names the modules and the tests. mutmut changes the bodies of functions and the defaults of
arguments. It does not change module constants, fields of dataclasses, or the text of f-strings. Most error messages are
f-strings. The names of modules and functions below are those at the time of the run."""


def key(module: str, survivor: dict[str, Any]) -> str:
    """The name of a mutant in arguments.toml: `run.Run.reached: ` and its changed line, or `without ` and the missing line."""
    new, old = (" ".join(line[1:].strip() for line in survivor["diff"] if line[0] == sign) for sign in "+-")
    place = module.removesuffix(".py").replace("/", ".").removeprefix("aeclaims.")
    return f"{place}.{survivor['in']}: {new or 'without ' + old}"


def unmatched(document: dict[str, Any], arguments: list[dict[str, Any]]) -> list[str]:
    """The errors: survivors without an argument, and arguments without a survivor."""
    argued = [mutant for argument in arguments for mutant in argument["mutants"]]
    alive = [key(record["module"], survivor) for record in document["modules"] for survivor in record["survivors"]]
    return [f"survives without an argument: {name}" for name in alive if name not in argued] + [
        f"has an argument, but does not survive: {name}" for name in argued if name not in alive
    ]


def page(document: dict[str, Any], arguments: list[dict[str, Any]]) -> str:
    """The page of the docs."""
    records = document["modules"]
    introduction = INTRODUCTION.format(**document, minutes=round(document["seconds"] / 60))
    parts = [
        introduction,
        *filter(None, [document.get("note")]),
        "\n".join(
            [
                "| module | mutants | killed | survivors |",
                "|---|---|---|---|",
                *(f"| `{r['module']}` | {r['mutants']} | {r['killed']} | {len(r['survivors'])} |" for r in records),
                f"| all | {sum(r['mutants'] for r in records)} | {sum(r['killed'] for r in records)} | "
                f"{sum(len(r['survivors']) for r in records)} |",
            ]
        ),
    ]
    for record in records:
        parts += [f"## `{record['module']}`"] if record["survivors"] else []
        for argument in arguments:
            own = [s for s in record["survivors"] if key(record["module"], s) in argument["mutants"]]
            diffs = ["\n".join([f"@@ {s['in']} @@", *s["diff"]]) for s in own]
            parts += [" ".join(argument["reason"].split()), "\n".join(["```diff", *diffs, "```"])] if own else []
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str]) -> int:
    """The command line; returns the exit code."""
    if len(arguments) != 2:
        print("usage: python -m tests.mutation.page RUN.json FOLDER", file=sys.stderr)
        return 2
    document = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    argued = tomllib.loads(ARGUMENTS.read_text(encoding="utf-8"))["argument"]
    (Path(arguments[1]) / "mutation.md").write_text(page(document, argued), encoding="utf-8")
    for line in (wrong := unmatched(document, argued)):
        print(line, file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
