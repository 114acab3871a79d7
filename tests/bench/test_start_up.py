"""The time before the first step: imports, collection, and compilation of the kernel."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The time does not include the import of Numba.
COMPILE = textwrap.dedent("""
    import time
    from aeclaims import *
    from aeclaims.backends import get
    experiment = Experiment(rows=Uniform(features=2), model=affine(2, 2, 2), loss="mse", optimizer=Adam(), epochs=1, n_rows=256)
    train = get("numba").train
    begin = time.perf_counter()
    for seeds in (range(1), range(16)):  # the kernel is compiled for rows in lanes, and for seeds
        train(experiment, Start(experiment, tuple(seeds)))
    print(time.perf_counter() - begin)
""")


def run(*command, **environment):
    """The output of a new Python process."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", **environment},
    )
    return done.stdout


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("import aeclaims", ("-c", "import aeclaims")),
        ("pytest --co -q", ("-m", "pytest", "--co", "-q", "-m", "claims")),
    ],
)
def test_command(benchmark, keep, name, command):
    benchmark.group = "start-up"
    rounds = []

    def once():
        begin = time.perf_counter()
        run(*command)
        rounds.append(time.perf_counter() - begin)

    benchmark.pedantic(once, rounds=5, warmup_rounds=1)
    keep(f"start-up: {name}", rounds[1:])


def test_compiling_the_kernel(benchmark, keep, tmp_path):
    benchmark.group = "start-up"
    seconds = benchmark.pedantic(lambda: float(run("-c", COMPILE, NUMBA_CACHE_DIR=str(tmp_path))), rounds=1)
    keep("start-up: compiling the kernel", [seconds])
    keep(
        "start-up: loading the compiled kernel",
        [float(run("-c", COMPILE, NUMBA_CACHE_DIR=str(tmp_path))) for _ in range(3)],
    )
