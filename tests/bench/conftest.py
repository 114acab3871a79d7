"""Benchmarks run with --benchmark-only, and are left out of a plain run; what they come to is shown at the end."""

from pathlib import Path

import pytest

from tests.bench.figures import Timing, comparisons
from tests.bench.turns import CLOCK

TIMINGS = pytest.StashKey[dict[str, Timing]]()


def pytest_collection_modifyitems(config, items):
    if config.getoption("benchmark_only"):
        return
    here = Path(__file__).parent
    out = [item for item in items if here in item.path.parents]
    if out and len(out) < len(items):
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in set(out)]


@pytest.fixture
def keep(request, benchmark):
    """Keeps seconds, one for each round, under a name, for the comparisons and, with what else is said of them, in the JSON."""

    def kept(name, rounds, **said):
        benchmark.extra_info.setdefault("timings", []).append({"name": name, "rounds": list(rounds), **said})
        request.config.stash.setdefault(TIMINGS, {})[name] = Timing(name, tuple(rounds), said)

    return kept


@pytest.fixture
def show(benchmark, keep):
    """Has pytest-benchmark show seconds that were measured by turns, and keeps them; for tests whose timer is turns.CLOCK."""

    def shown(name, rounds, group, **said):
        left = iter(rounds)
        benchmark.group = group
        benchmark.pedantic(lambda: CLOCK.advance(next(left)), rounds=len(rounds))
        keep(name, rounds, **said)

    return shown


def pytest_terminal_summary(terminalreporter, config):
    lines = comparisons(config.stash.get(TIMINGS, {}))
    if lines:
        terminalreporter.section("compared within this run", sep="=")
        for line in lines:
            terminalreporter.write_line(str(line))
