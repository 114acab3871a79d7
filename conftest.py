"""The plugins and Hypothesis profiles of the project's tests and benchmarks."""

import pytest
from hypothesis import settings

pytest_plugins = ["pytester", "tests.bench.machine"]

# For the night: `pytest tests/properties --hypothesis-profile=nightly` takes minutes instead of seconds.
settings.register_profile("nightly", max_examples=1000, deadline=None)
# For tests/mutation: each mutant meets the same few examples, so the same mutants survive every time.
settings.register_profile("mutation", max_examples=20, deadline=None, derandomize=True, database=None)


@pytest.fixture(autouse=True)
def _as_from_a_shell(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables of pytest-xdist, so that pytest started by a test is not a worker, even if the test runs in one."""
    if "pytester" in request.fixturenames:
        for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
            monkeypatch.delenv(name, raising=False)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests marked slow, if -m does not ask for them."""
    if "slow" not in config.option.markexpr:
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]
