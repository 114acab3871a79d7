"""Plugins that the project's own tests and benchmarks need, and how thorough they are at night."""

import pytest
from hypothesis import settings

pytest_plugins = ["pytester", "tests.bench.machine"]

# `pytest tests/properties --hypothesis-profile=nightly`: minutes instead of seconds.
settings.register_profile("nightly", max_examples=1000, deadline=None)
# For tests/mutation: each mutant meets the same few examples, so that the same ones survive every time.
settings.register_profile("mutation", max_examples=20, deadline=None, derandomize=True, database=None)


@pytest.fixture(autouse=True)
def _as_from_a_shell(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test has pytest run from outside is no worker of pytest-xdist, though the test be run by one."""
    if "pytester" in request.fixturenames:
        for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
            monkeypatch.delenv(name, raising=False)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the project's own tests, too, those marked slow are left out unless -m asks for them."""
    if "slow" not in config.option.markexpr:
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]
