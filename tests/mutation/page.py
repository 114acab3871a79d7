"""The page on mutants of the project's own code: how many the tests kill, and why the others may live.

`python -m tests.mutation.page docs/mutation.json docs` writes docs/mutation.md again, from what the last run found and
tests/mutation/arguments.toml. It exits with 1 where a mutant survives without an argument, or an argument has no survivor.
"""

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

ARGUMENTS = Path(__file__).with_name("arguments.toml")
INTRODUCTION = """# Mutants of the project's own code

Each mutant is one small change of one line: another operator or number, an argument left out or `None`, a string in capitals. A
test has to notice it; of those that none notices, a reason is given here why that is well. Generated from a run of {minutes}
minutes (aeclaims {aeclaims}, mutmut {mutmut}, python {python}) by

```sh
pip install -c constraints.txt -e ".[mutation]"
python -m tests.mutation docs
```

which is a job for the night: it exits with 1 where a mutant survives that `tests/mutation/arguments.toml` says nothing of, or an
argument there has lost its mutant. Which modules and which tests take part stands in `pyproject.toml`. mutmut changes the bodies
of functions and the defaults of arguments, so that constants of modules and fields of dataclasses are left as they are, and so is
the text of f-strings, which is most of the wording of errors."""


def key(module: str, survivor: dict[str, Any]) -> str:
    """What an argument calls it: `run.Run.reached: ` and the line as the mutant has it, or `without ` what it has not."""
    new, old = (" ".join(line[1:].strip() for line in survivor["diff"] if line[0] == sign) for sign in "+-")
    place = module.removesuffix(".py").replace("/", ".").removeprefix("aeclaims.")
    return f"{place}.{survivor['in']}: {new or 'without ' + old}"


def unmatched(document: dict[str, Any], arguments: list[dict[str, Any]]) -> list[str]:
    """What is wrong: survivors without an argument, arguments without a survivor."""
    argued = [mutant for argument in arguments for mutant in argument["mutants"]]
    alive = [key(record["module"], survivor) for record in document["modules"] for survivor in record["survivors"]]
    return [f"survives, and nothing argues for it: {name}" for name in alive if name not in argued] + [
        f"is argued for, and does not survive: {name}" for name in argued if name not in alive
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
