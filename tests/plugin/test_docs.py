"""The pages for readers: every command and snippet in them runs, in this order, with the result on the page."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = (
    "why-is-my-loss-stuck",
    "gate-your-ci",
    "read-a-failure",
    "write-your-own-claim",
    "how-the-thresholds-are-derived",
)
BLOCK = re.compile(r"(?P<before>[^\n]*)\n+```(?P<kind>\w+)\n(?P<text>.*?)```", re.DOTALL)


def run(line, folder):
    """The output of a page's command with this Python; -P leaves out the working directory, as a console script does."""
    program, *words = shlex.split(line, comments=True)
    module = {"pytest": ["pytest", "-p", "no:cacheprovider"], "aeclaims": ["aeclaims"]}[program]
    done = subprocess.run(
        [sys.executable, "-P", "-m", *module, *words],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    expected = int(found[1]) if (found := re.search(r"# exits with (\d)", line)) else 0
    assert done.returncode == expected, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_snippet_runs(page, tmp_path, monkeypatch):
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    kinds = []
    for block in BLOCK.finditer(text):
        kinds.append(block["kind"])
        saved = re.search(r"[Ss]ave it as `(\S+)`", block["before"]) or re.match(r"# (\S+\.txt)\n", block["text"])
        if saved:
            (tmp_path / saved[1]).write_text(block["text"], encoding="utf-8")
        elif block["kind"] == "python":
            exec(block["text"], names)
        elif block["kind"] == "sh":
            for line in block["text"].splitlines():
                run(line, tmp_path)
    assert {"python", "sh"} & set(kinds)


def test_what_the_page_on_failures_says_is_said(tmp_path):
    text = (ROOT / "docs" / "read-a-failure.md").read_text(encoding="utf-8")
    (tmp_path / "faster.py").write_text(next(BLOCK.finditer(text))["text"], encoding="utf-8")
    first, second = re.findall(r"```sh\n(.*?)\n```", text, re.DOTALL)
    said = run(first, tmp_path)
    for part in (
        "says:",
        "found:",
        "theory:",
        "seen:",
        "all:",
        "worst:",
        "deviation of epoch losses from the reference",
    ):
        assert part in said
    (replay,) = set(re.findall(r"^ +(aeclaims run .*)$", said, re.MULTILINE))
    # Which seed is the worst may hang on the processor.
    assert re.sub(r"seed-base \d+", "seed-base N", f"`{replay}`") in re.sub(r"seed-base \d+", "seed-base N", text)
    assert "1 of 1 seeds fail" in run(f"{replay}  # exits with 1", tmp_path)
    assert "step 1 is the first to leave" in (found := run(second, tmp_path))
    assert "so that it is the optimizer" in found


def test_the_readme_names_every_page():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    generated = {"index", "kill-matrix", "false-alarms", "mutation", "compatibility", "performance"}
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert [page for page in sorted(pages - generated) if f"docs/{page}.md" not in readme] == []


def pytest_commands():
    """The pytest commands of README, CONTRIBUTING and the pages that no other test runs; what follows && or # is left out."""
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    for path in paths:
        if path.stem in (
            *PAGES,
            "mutation",
            "compatibility",
            "performance",
            "false-alarms",
            "kill-matrix",
            "write-a-backend",
        ):
            continue
        for block in BLOCK.finditer(path.read_text(encoding="utf-8")):
            if block["kind"] == "sh":
                for part in re.split(r"\n|&&", block["text"]):
                    words = shlex.split(part, comments=True)
                    if words[:1] == ["pytest"] and not {"-n", "--claims-selftest"} & set(words):
                        yield words[1:]


COMMANDS = sorted({shlex.join(words) for words in pytest_commands()})
# A module of the reader, and one that exists.
STAND_INS = {"my_compiler:compile_graph": "torch:compile", "my_optimizers:Lion": "torch.optim:Adam"}


def test_the_pages_have_commands():
    assert len(COMMANDS) >= 15


@pytest.mark.parametrize("command", COMMANDS)
def test_pytest_takes_the_command_of_a_page(command):
    """It collects tests."""
    for name, stand_in in STAND_INS.items():
        command = command.replace(name, stand_in)
    words = [word for word in shlex.split(command) if not word.startswith(("--claims-json", "--claims-report"))]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr}"
