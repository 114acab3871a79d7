"""The README's examples run, and its output is the output of the commands."""

import re
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from aeclaims import Start
from aeclaims.claims.setups import QUESTION
from aeclaims.cli import app

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_python_examples_run():
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert examples
    for example in examples:
        names: dict[str, object] = {}
        exec(example, names)
        assert names["run"].first_epoch_below(1e-5).shape == (64,)


def test_the_commands_name_files_that_exist():
    assert "-c constraints.txt" in README
    assert (Path(__file__).parents[2] / "constraints.txt").exists()


def test_the_anatomy_in_it_is_what_the_command_prints(tmp_path):
    rows = Start(QUESTION, (0,)).rows()[0]
    np.save(tmp_path / "rows.npy", rows)
    (block,) = re.findall(r"```text\n\$ aeclaims explain rows.npy (.*?)\n(.*?)```", README, re.DOTALL)
    done = CliRunner().invoke(app, ["explain", str(tmp_path / "rows.npy"), *block[0].split()])
    printed = {line.rstrip() for line in done.stdout.splitlines()}
    assert [line for line in block[1].splitlines() if line.rstrip() not in printed] == []
