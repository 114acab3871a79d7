"""The README's examples run, and its claims are the package's."""

import re
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_python_examples_run():
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert examples
    for example in examples:
        names: dict[str, object] = {}
        exec(example, names)
        assert names["run"].reached(1e-5).shape == (64,)


def test_the_commands_name_files_that_exist():
    assert "-c constraints.txt" in README
    assert (Path(__file__).parents[2] / "constraints.txt").exists()
