"""The page on mutants matches the committed run and the arguments, and leaves out neither."""

import copy
import json
import tomllib
from functools import cached_property, lru_cache
from pathlib import Path

import pytest

from tests.mutation import page
from tests.mutation.__main__ import undecorated

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def document():
    return json.loads((DOCS / "mutation.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def arguments():
    return tomllib.loads(page.ARGUMENTS.read_text(encoding="utf-8"))["argument"]


def test_the_page_is_as_generated_and_every_survivor_is_argued_for(document, arguments):
    assert (DOCS / "mutation.md").read_text(encoding="utf-8") == page.page(document, arguments)
    assert page.unmatched(document, arguments) == []


def test_a_survivor_without_an_argument_and_an_argument_without_a_survivor_are_named(document, arguments):
    other = copy.deepcopy(document)
    diff = ["-    return a < b", "+    return a <= b"]
    other["modules"][0]["survivors"] = [{"in": "f", "status": "survived", "diff": diff}]
    wrong = page.unmatched(other, arguments)
    place = other["modules"][0]["module"].removeprefix("aeclaims/").removesuffix(".py")
    assert wrong[0] == f"survives without an argument: {place}.f: return a <= b"
    gone = len(document["modules"][0]["survivors"])
    assert sum(line.startswith("has an argument, but does not survive: ") for line in wrong) == gone
    assert len(wrong) == 1 + gone


def test_a_mutant_that_lacks_a_line_is_called_by_what_it_lacks():
    assert (
        page.key("aeclaims/a/b.py", {"in": "C.f", "diff": ["-  case 1:", "-    g()"]}) == "a.b.C.f: without case 1: g()"
    )


def test_a_function_without_its_decorators_is_decorated_below_itself():
    source = '''
@lru_cache(maxsize=2)
@twice
def f(a):
    return a

class C:
    @cached_property
    def g(self):
        """Nine."""
        return 9

    @property
    def h(self):
        return self.g
'''
    text = undecorated(source)
    assert "@" not in text
    names = {
        "lru_cache": lru_cache,
        "cached_property": cached_property,
        "twice": lambda function: lambda a: 2 * function(a),
    }
    exec(text, names)
    assert names["f"](4) == names["f"](4) == 8
    assert names["f"].cache_info()[:3] == (1, 1, 2)
    assert names["C"]().h == 9
