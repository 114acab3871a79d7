"""How many processors this process may use."""

import os


def count() -> int:
    """Those that the system lets this process run on; a worker of pytest-xdist takes its share of them."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return max(1, allowed // max(1, workers))
