"""Benchmarks run with --benchmark-only, and are left out of a plain run."""

from pathlib import Path


def pytest_collection_modifyitems(config, items):
    if config.getoption("benchmark_only"):
        return
    here = Path(__file__).parent
    out = [item for item in items if here in item.path.parents]
    if out and len(out) < len(items):
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in set(out)]

