"""Backends return a run of the given start, or are refused with a reason."""

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from aeclaims import (
    SIGMOID,
    Adam,
    Backend,
    Experiment,
    FixedRows,
    InvalidRun,
    Run,
    Start,
    Uniform,
    UnknownBackend,
    affine,
    train,
)
from aeclaims.backends import get

SMALL = Experiment(rows=Uniform(features=2), model=affine(2, 2, 2), loss="mse", optimizer=Adam(), epochs=3, n_rows=300)
BACKENDS = ["numba", "torch", "torch-eager", "torch-loop"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_returns_a_run_of_the_seeds_it_was_given(backend):
    run = train(SMALL, seeds=(3, 1), backend=backend)
    assert run.seeds == (3, 1)
    assert run.epoch_loss.shape == (3, 2)
    assert run.epoch_loss.dtype == np.float64
    assert run.parameters[0].weight.dtype == np.float32
    assert (run.epoch_loss[2] < run.epoch_loss[0]).all()
    assert (np.abs(run.final_loss - run.epoch_loss[-1]) < 0.1 * run.epoch_loss[-1]).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_given_rows_are_shared_and_ordered_by_seed(backend):
    rows = np.random.default_rng(0).random((70, 2))
    experiment = dataclasses.replace(SMALL, rows=FixedRows(rows), n_rows=70, batch_size=32)
    run = train(experiment, seeds=(0, 1), backend=backend, dtype="float64")
    expected = train(experiment, seeds=(0, 1), backend="numba", dtype="float64")
    np.testing.assert_allclose(run.epoch_loss, expected.epoch_loss, rtol=1e-12)


def test_a_backend_of_ones_own_may_be_a_function_or_a_record():
    def mine(start):
        return get("numba").train(start)

    assert train(SMALL, seeds=[1], backend=Backend("mine", mine)).seeds == (1,)


@pytest.mark.parametrize(("fault", "message"), [
    (lambda start: None, "returned a NoneType"),
    (lambda start: get("numba").train(Start(start.experiment, (99,))), "another start, with seeds"),
    (lambda start: Run(start, np.zeros((1, 1)), start.parameters()), "epoch_loss has shape"),
])  # fmt: skip
def test_a_backend_that_returns_something_else_is_named_and_refused(fault, message):
    with pytest.raises(InvalidRun, match=f"backend faulty.*{message}"):
        train(SMALL, seeds=[1], backend=Backend("faulty", fault))


def test_a_backend_that_skips_the_test_fails_it():
    with pytest.raises(RuntimeError, match="backend lazy skipped the test: Skipped: not today"):
        train(SMALL, seeds=[1], backend=Backend("lazy", lambda start: pytest.skip("not today")))


def test_a_module_that_exits_is_named(monkeypatch, tmp_path):
    (tmp_path / "exits_at_import.py").write_text("raise SystemExit(0)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownBackend, match="backend 'exits_at_import:train': SystemExit: 0; give one of"):
        get("exits_at_import:train")


def test_a_device_that_holds_no_numbers_is_refused():
    with pytest.raises(UnknownBackend, match="device 'meta': torch cannot use it"):
        get("torch", "meta")


def test_a_folder_that_torch_cannot_make_is_refused(monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", os.devnull)
    with pytest.raises(UnknownBackend, match=f"TORCHINDUCTOR_CACHE_DIR={os.devnull}: torch cannot make this folder"):
        get("torch-loop")


@pytest.mark.parametrize(("setting", "name"), [("TORCH_LOGS=bogus", "torch"), ("NUMBA_NUM_THREADS=0", "numba")])
def test_a_library_that_a_setting_keeps_from_being_imported_is_named(setting, name):
    variable, _, value = setting.partition("=")
    script = textwrap.dedent(f"""
        from aeclaims.backends import get
        from aeclaims.errors import UnknownBackend
        try:
            get({name!r})
        except UnknownBackend as error:
            print(error)
    """)
    environment = {**os.environ, variable: value}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.startswith(f"backend {name!r}: ")
    assert "cannot be imported (ValueError: " in done.stdout


def test_a_dtype_that_a_backend_lacks_is_refused():
    with pytest.raises(UnknownBackend, match="mine on cpu has float32 only"):
        train(
            SMALL,
            seeds=[1],
            dtype="float64",
            backend=Backend("mine", get("numba").train, unsupported={"float64": "no double precision"}),
        )


def test_probabilities_that_round_to_one_stop_learning_as_torchs_do():
    # With logits of 40, the sigmoid rounds to 1 in float32, and the gradient of BCE on probabilities is exactly 0.
    rows = np.ones((64, 1))
    experiment = Experiment(
        rows=FixedRows(rows), model=affine(1, 1, output=SIGMOID), loss="bce", optimizer=Adam(lr=5.0), epochs=30
    )
    ours = train(experiment, seeds=[0], backend="numba")
    theirs = train(experiment, seeds=[0], backend="torch-loop")
    np.testing.assert_allclose(ours.parameters[0].bias, theirs.parameters[0].bias, rtol=1e-5)


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="this system does not tell a process its peak memory"
)
@pytest.mark.parametrize("backend", ["numba", "torch-eager"])
def test_a_population_takes_at_most_3_times_its_rows(backend):
    experiment = Experiment(
        rows=Uniform(features=4),
        model=affine(4, 4),
        loss="mse",
        optimizer=Adam(),
        epochs=1,
        n_rows=20_000,
        batch_size=128,
    )
    train(dataclasses.replace(experiment, n_rows=256), seeds=[0], backend=backend)  # imports and compiles
    script = textwrap.dedent(rf"""
        import dataclasses, re
        from pathlib import Path
        from aeclaims import *
        experiment = {experiment!r}
        def peak():  # of this program: what getrusage says began with that of the process it was started from
            return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
        train(dataclasses.replace(experiment, n_rows=1000), seeds=range(400), backend={backend!r})
        before = peak()
        train(experiment, seeds=range(400), backend={backend!r})
        print((peak() - before) / (400 * 20_000 * 4 * 4))
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(done.stdout) <= 3


def test_ctrl_c_ends_a_training_with_one_traceback():
    # Shells start background jobs that ignore Ctrl-C; the script must not inherit that.
    script = textwrap.dedent("""
        import signal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from aeclaims import *
        experiment = Experiment(rows=Uniform(features=2), model=affine(2, 2, 2), loss="mse", optimizer=Adam(), epochs=100_000)
        print("ready", flush=True)
        train(experiment, seeds=range(8), backend="numba")
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode in (130, -signal.SIGINT)
    assert errors.count("Traceback") == 1
    assert errors.strip().endswith("KeyboardInterrupt")


def test_compiled_code_is_kept_on_disk(tmp_path):
    script = textwrap.dedent("""
        from aeclaims import *
        from aeclaims.backends.numba import kernel
        train(Experiment(rows=Uniform(features=2), model=affine(2, 2), loss="mse", optimizer=Adam(), epochs=1, n_rows=9),
              seeds=[0], backend="numba")
        print(sum(kernel.train_epochs.stats.cache_hits.values()), sum(kernel.train_epochs.stats.cache_misses.values()))
    """)

    def hits_and_misses():
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
        )
        return done.stdout.split()

    assert hits_and_misses() == ["0", "1"]
    assert hits_and_misses() == ["1", "0"]


def test_the_compiled_kernel_is_that_of_the_sources_as_they_are():
    from aeclaims.backends.numba import kernel

    # Numba's cache would keep code until the entry's file changes, but that file imports the others.
    widths, parameters = np.array([1, 1]), np.zeros(16)
    gradient = np.zeros(16 + kernel.loss_buffer(parameters))
    workspace = kernel.workspace((1, 1), 1, 1, gradient)
    sources = kernel.train_epochs(
        np.ones((1, 1)),
        np.zeros((1, 1), np.uint32),
        1,
        widths,
        np.array([kernel.IDENTITY]),
        np.zeros(1),
        kernel.MSE,
        kernel.SGD,
        np.zeros(3),
        True,
        0,
        *workspace,
        parameters,
        gradient,
        np.zeros(16),
        np.zeros(16),
        np.zeros(1),
    )
    assert sources == kernel._sources()


@pytest.mark.parametrize("backend", ["torch", "torch-eager"])
def test_denormals_count_as_zero_only_while_torch_trains(backend, monkeypatch):
    import torch

    from aeclaims.backends.torch import parts as torch_parts

    def keeps_denormals():
        return bool(torch.tensor([1e-40]) * 1)

    seen, optimizer = [], torch_parts.optimizer
    monkeypatch.setattr(
        torch_parts, "optimizer", lambda *given, **fused: seen.append(keeps_denormals()) or optimizer(*given, **fused)
    )
    assert keeps_denormals()
    train(SMALL, seeds=[0], backend=backend)
    assert seen == [False]
    assert keeps_denormals()
