"""Mutation of the project's code by mutmut: which changes of a line no test notices.

`python -m tests.mutation docs` puts each mutant of the modules in pyproject.toml into a copy of the project. Then it runs
the tests that call the changed function. It writes docs/mutation.json and, by tests/mutation/page.py, docs/mutation.md.
"""

import ast
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from importlib.metadata import version
from pathlib import Path

from tests.mutation import page

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"(?P<module>[\w.]+)\.x(?:_|ǁ(?P<cls>\w+)ǁ)(?P<function>\w+)__mutmut_\d+")


def undecorated(source: str) -> str:
    """The same module with `f = d(f)` below each function instead of `@d` above it: mutmut skips decorated functions."""
    lines = source.splitlines(keepends=True)
    functions = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef) and node.decorator_list
    ]
    for node in sorted(functions, key=lambda node: node.lineno, reverse=True):
        value = node.name
        for decorator in reversed(node.decorator_list):
            value = f"{ast.unparse(decorator)}({value})"
        lines.insert(node.end_lineno or 0, f"{' ' * node.col_offset}{node.name} = {value}\n")
        del lines[node.decorator_list[0].lineno - 1 : node.lineno - 1]
    return "".join(lines)


def copy(folder: Path, modules: list[str]) -> None:
    """Copy the project into the folder, in the form for mutmut."""
    for name in ("aeclaims", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for module in modules:
        (folder / module).write_text(undecorated((folder / module).read_text(encoding="utf-8")), encoding="utf-8")


def mutmut(folder: Path, *words: str) -> str:
    """The output of a mutmut command in the folder."""
    return subprocess.run(["mutmut", *words], cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


def survivor(folder: Path, name: str, status: str) -> dict[str, object]:
    """A record of a mutant: its function, its outcome, and the lines that differ."""
    found = NAME.fullmatch(name)
    assert found is not None, name
    diff = [line for line in mutmut(folder, "show", name).splitlines() if re.match(r"[+-](?!--|\+\+)", line)]
    return {"in": ".".join(filter(None, [found["cls"], found["function"]])), "status": status, "diff": diff}


def run(modules: list[str]) -> dict[str, object]:
    """Run mutmut; returns the content of docs/mutation.json."""
    began, records = time.monotonic(), []
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        copy(folder, modules)
        mutmut(folder, "run")
        found = [
            line.strip().split(": ") for line in mutmut(folder, "results", "--all", "true").splitlines() if ": " in line
        ]
        for module in modules:
            dotted = module.removesuffix(".py").replace("/", ".")
            own = [(name, status) for name, status in found if name.startswith(f"{dotted}.x")]
            # A mutant that crashes Python counts as noticed, like one that fails a test. mutmut calls some "suspicious".
            others = [(name, status) for name, status in own if status not in ("killed", "segfault", "suspicious")]
            records.append(
                {
                    "module": module,
                    "mutants": len(own),
                    "killed": len(own) - len(others),
                    "survivors": [survivor(folder, *other) for other in others],
                }
            )
    return {
        "aeclaims": version("aeclaims"),
        "mutmut": version("mutmut"),
        "python": sys.version.split()[0],
        "seconds": round(time.monotonic() - began),
        "modules": records,
    }


def main(arguments: list[str]) -> int:
    """The command line; returns the exit code."""
    if len(arguments) != 1:
        print("usage: python -m tests.mutation FOLDER", file=sys.stderr)
        return 2
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutmut"]
    source = Path(arguments[0]) / "mutation.json"
    source.write_text(json.dumps(run(settings["only_mutate"]), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return page.main([str(source), arguments[0]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
