"""The suite uses only torch's public interface; only the self-test's faults use private names."""

import re
from pathlib import Path

import pytest

import aeclaims

PACKAGE = Path(aeclaims.__file__).parent
PRIVATE = re.compile(
    r"torch\._|\b_(dynamo|inductor|functorch)\b|\b(torch|optimizer|parameter|tensor|module)(\.\w+)*\._[a-z]\w*"
)
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if not {"faults", "selftest"} & set(path.parts)]


def private_names(text):
    return [match[0] for match in PRIVATE.finditer(text)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_private_name_of_torch_is_used(path):
    assert private_names(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text", ["torch._dynamo.reset()", "from torch._inductor import config", "optimizer._step_hooks"]
)
def test_a_private_name_is_seen(text):
    assert private_names(text)


def test_the_faults_are_known_to_reach_behind_it():
    assert any(
        private_names(path.read_text(encoding="utf-8")) for path in (PACKAGE / "selftest" / "faults").glob("*.py")
    )
