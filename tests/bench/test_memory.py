"""Peak memory of a population, above that of a small one, as a multiple of its rows."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SEEDS, ROWS, FEATURES = 400, 20_000, 4
SCRIPT = textwrap.dedent(r"""
    import dataclasses, re, sys
    from pathlib import Path
    from aeclaims import *
    backend, seeds, rows, features = sys.argv[1], *map(int, sys.argv[2:])
    experiment = Experiment(rows=Uniform(features=features), model=affine(features, features), loss="mse", optimizer=Adam(),
                            epochs=15, n_rows=rows)

    def peak():  # of this program: what getrusage says began with that of the process it was started from
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])

    train(dataclasses.replace(experiment, n_rows=1000, epochs=300), seeds=range(seeds), backend=backend)
    before = peak()
    train(experiment, seeds=range(seeds), backend=backend)
    print((peak() - before) / (seeds * rows * features * 4))
""")


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="this system does not tell a process its peak memory"
)
@pytest.mark.parametrize("backend", ["numba", "torch-eager", "torch"])
def test_population(benchmark, keep, backend):
    command = [sys.executable, "-c", SCRIPT, backend, *map(str, (SEEDS, ROWS, FEATURES))]

    def peak():
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    benchmark.group = "peak memory (the time is that of the process)"
    keep(f"memory: {backend}", [], peak_by_rows=round(benchmark.pedantic(peak, rounds=1), 3))
