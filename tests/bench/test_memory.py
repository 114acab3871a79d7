"""Peak memory of a population, above what a small one takes, as a multiple of its rows."""

import subprocess
import sys
import textwrap

import pytest

SEEDS, ROWS, FEATURES = 400, 20_000, 4
SCRIPT = textwrap.dedent("""
    import dataclasses, resource, sys
    from aeclaims import *
    backend, seeds, rows, features = sys.argv[1], *map(int, sys.argv[2:])
    experiment = Experiment(rows=Uniform(features=features), model=affine(features, features), loss="mse", optimizer=Adam(),
                            epochs=15, n_rows=rows)

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    train(dataclasses.replace(experiment, n_rows=1000, epochs=300), seeds=range(seeds), backend=backend)
    before = peak()
    train(experiment, seeds=range(seeds), backend=backend)
    print((peak() - before) / (seeds * rows * features * 4))
""")


@pytest.mark.parametrize("backend", ["reference", "torch-eager", "torch"])
def test_population(benchmark, keep, backend):
    command = [sys.executable, "-c", SCRIPT, backend, *map(str, (SEEDS, ROWS, FEATURES))]

    def peak():
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    benchmark.group = "peak memory (the time is that of the process)"
    keep(f"memory: {backend}", [], peak_by_rows=round(benchmark.pedantic(peak, rounds=1), 3))
