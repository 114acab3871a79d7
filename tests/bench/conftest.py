"""Benchmarks run with --benchmark-only, and are left out of a plain run; the comparisons are shown at the end."""

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
    """Keeps the seconds of each round under a name, for the comparisons; the JSON also gets the other facts."""

    def kept(name, rounds, **said):
        benchmark.extra_info.setdefault("timings", []).append({"name": name, "rounds": list(rounds), **said})
        request.config.stash.setdefault(TIMINGS, {})[name] = Timing(name, tuple(rounds), said)

    return kept


@pytest.fixture
def show(benchmark, keep):
    """Shows seconds that were measured by turns in pytest-benchmark, and keeps them; the test's timer is turns.CLOCK."""

    def shown(name, rounds, group, **said):
        left = iter(rounds)
        benchmark.group = group
        benchmark.pedantic(lambda: CLOCK.advance(next(left)), rounds=len(rounds))
        keep(name, rounds, **said)

    return shown


def pytest_terminal_summary(terminalreporter, config):
    lines = comparisons(config.stash.get(TIMINGS, {}))
    if lines:
        terminalreporter.section("comparisons within this run", sep="=")
        for line in lines:
            terminalreporter.write_line(str(line))
