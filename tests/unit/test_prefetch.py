"""Prefetched trainings: the process that trains, the results, and the end of the processes."""

import os
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest

from aeclaims import Adam, Experiment, Run, Uniform, affine, train
from aeclaims.errors import ProcessEnded
from aeclaims.runtime import parallel
from aeclaims.runtime.progress import Stopped, progress
from pytest_aeclaims import prefetch
from pytest_aeclaims.prefetch import Prefetcher

SEEDS = range(2)
EXPERIMENTS = [
    Experiment(rows=Uniform(features=2), model=affine(2, 2), loss="mse", optimizer=Adam(), epochs=epochs, n_rows=9)
    for epochs in range(1, 7)
]
FIRST, SECOND, *OTHERS = EXPERIMENTS


class WhereItTrained(UserWarning):
    """A warning that names the process."""


def quick(experiment, seeds):
    warnings.warn(WhereItTrained(os.getpid()), stacklevel=1)
    return train(experiment, seeds=seeds, backend="numba")


@pytest.fixture(autouse=True)
def _without_inductor(monkeypatch):
    """Other tests of the same process compile; these train without torch."""
    monkeypatch.delitem(sys.modules, prefetch.INDUCTOR, raising=False)


@pytest.fixture
def ahead():
    """A prefetcher, closed at the end of the test."""
    begun = []

    def begin(function, experiments=EXPERIMENTS, *, copies):
        begun.append(Prefetcher(function, [(experiment, SEEDS) for experiment in experiments], copies=copies))
        return begun[-1]

    yield begin
    for one in begun:
        one.close()


def process_of(ahead, experiment):
    """The process that trained, from its warning."""
    with pytest.warns(WhereItTrained) as caught:
        run = ahead.result(experiment, SEEDS)
    expected = train(experiment, seeds=SEEDS, backend="numba")
    np.testing.assert_array_equal(run.epoch_loss, expected.epoch_loss)
    assert run.start == expected.start
    return caught[0].message.args[0]


def test_copies_train_and_hand_back_runs_and_warnings(ahead):
    begun = ahead(quick, copies=2)
    seen = {process_of(begun, experiment) for experiment in EXPERIMENTS}
    assert os.getpid() not in seen
    assert seen <= {worker.process.pid for worker in begun.workers}


def test_a_copy_leaves_the_processors_to_the_others(ahead):
    def counting(experiment, seeds):
        warnings.warn(WhereItTrained(parallel.cpu_count()), stacklevel=1)
        return train(experiment, seeds=seeds, backend="numba")

    assert process_of(ahead(counting, copies=2), FIRST) == 1
    assert parallel.cpu_count() == 1


def test_closing_gives_the_processors_back(ahead):
    before = parallel.cpu_count()
    ahead(quick, copies=2).close()
    assert parallel.cpu_count() == before


def test_only_what_was_planned_is_handed_out(ahead):
    begun = ahead(quick, [FIRST], copies=2)
    assert begun.result(SECOND, SEEDS) is None
    assert begun.result(FIRST, range(3)) is None
    with pytest.warns(WhereItTrained):
        assert begun.result(FIRST, range(1, 2)).seeds == tuple(SEEDS)


class Unsendable(Exception):
    """An exception that cannot be made again from its arguments."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


@pytest.mark.parametrize(("error", "kind", "text"), [
    (ValueError("lr = -1"), ValueError, "lr = -1"),
    (Unsendable("salt", "pepper"), RuntimeError, "Unsendable: salt and pepper"),
])  # fmt: skip
def test_an_error_comes_back_and_is_raised_where_the_run_is_asked_for(ahead, error, kind, text):
    def failing(experiment, seeds):
        if experiment == FIRST:
            raise error
        return quick(experiment, seeds)

    begun = ahead(failing, copies=2)
    with pytest.raises(kind, match=text):
        begun.result(FIRST, SEEDS)
    assert process_of(begun, SECOND)


def test_a_process_that_ends_is_named_and_the_others_go_on(ahead):
    def ending(experiment, seeds):
        if experiment == FIRST:
            os._exit(9)
        time.sleep(0.1)
        return quick(experiment, seeds)

    begun = ahead(ending, copies=2)
    with pytest.raises(ProcessEnded, match=r"trained Experiment.* exit code 9; --claims-processes 1"):
        begun.result(FIRST, SEEDS)
    for experiment in (
        SECOND,
        *OTHERS,
    ):  # the remaining process trains each, or the caller has to
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run = begun.result(experiment, SEEDS)
        assert run is None or run.experiment == experiment


def test_a_training_that_exits_is_an_error_and_its_process_goes_on(ahead):
    def exiting(experiment, seeds):
        if experiment == FIRST:
            raise SystemExit(0)
        return quick(experiment, seeds)

    begun = ahead(exiting, copies=1)
    with pytest.raises(RuntimeError, match="SystemExit: 0"):
        begun.result(FIRST, SEEDS)
    assert process_of(begun, SECOND) == begun.workers[0].process.pid


def test_a_copy_that_takes_no_processor_time_is_ended_and_named(ahead, monkeypatch):
    monkeypatch.setattr(prefetch, "STUCK_AFTER", 0.4)
    monkeypatch.setattr(prefetch, "LOOKED_AT_EVERY", 0.2)

    def waiting(experiment, seeds):
        threading.Event().wait()

    with pytest.raises(ProcessEnded, match="used no processor time for 0 s and was killed; --claims-processes 1"):
        ahead(waiting, [FIRST], copies=1).result(FIRST, SEEDS)


def test_a_copy_that_works_is_not_ended(ahead, monkeypatch):
    monkeypatch.setattr(prefetch, "STUCK_AFTER", 0.4)
    monkeypatch.setattr(prefetch, "LOOKED_AT_EVERY", 0.2)

    def working(experiment, seeds):
        end = time.process_time() + 1
        while time.process_time() < end:
            pass
        return quick(experiment, seeds)

    assert process_of(ahead(working, [FIRST], copies=1), FIRST)


def test_a_process_in_which_torch_compiles_is_not_copied(ahead, monkeypatch):
    monkeypatch.setitem(sys.modules, prefetch.INDUCTOR, sys)
    with pytest.warns(RuntimeWarning, match="this process trains alone"):
        begun = ahead(quick, copies=2)
    assert begun.result(FIRST, SEEDS) is None
    assert not any(hasattr(worker, "process") for worker in begun.workers)


def test_the_module_that_starts_inductors_workers_is_known_by_its_name():
    """Runs in a new process, because this one may have compiled."""
    program = f"""
import sys, torch
from aeclaims.backends import get
get("torch")
print({prefetch.INDUCTOR!r} in sys.modules)
torch.compile(torch.sin)(torch.ones(1))
print({prefetch.INDUCTOR!r} in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def endless(experiment, seeds):
    with progress("nothing", 1) as advance:
        while True:
            time.sleep(0.01)
            advance(0)


def test_closing_ends_copies_in_the_middle_of_a_training(ahead):
    begun = ahead(endless, copies=2)
    begun.close()
    assert not any(worker.process.is_alive() for worker in begun.workers)


def test_closing_ends_a_thread_in_the_middle_of_a_training(ahead):
    begun = ahead(endless, [FIRST], copies=0)
    _, future = begun.planned[FIRST]
    while not future.running():
        time.sleep(0.01)
    begun.close()
    with pytest.raises(Stopped):
        begun.result(FIRST, SEEDS)


def test_a_thread_of_this_process_trains_where_there_is_one_only(ahead):
    processes = []

    def noted(experiment, seeds):
        processes.append(os.getpid())
        return train(experiment, seeds=seeds, backend="numba")

    assert isinstance(ahead(noted, [FIRST], copies=0).result(FIRST, SEEDS), Run)
    assert processes == [os.getpid()]


def test_the_reference_compiles_for_rows_and_for_seeds_in_lanes_side_by_side(tmp_path):
    """Runs in a new process, because this one has already compiled both."""
    program = """
from aeclaims import Adam, Experiment, Uniform, affine, train
from aeclaims.runtime import parallel
from aeclaims.backends.numba import kernel
from aeclaims.backends.numba import population as numba_population
parallel.set_cpu_limit(2)
narrow, wide = (Experiment(rows=Uniform(features=d), model=affine(d, d), loss="mse", optimizer=Adam(), epochs=1, n_rows=9)
                for d in (2, 20))
numba_population.compile_ahead([(narrow, range(16)), (wide, range(2))], "float32")
assert list(numba_population.COMPILING) == [False]
train(wide, seeds=range(2), backend="numba")
assert not numba_population.COMPILING
loaded = kernel.train_epochs.stats
print(sum(loaded.cache_hits.values()), sum(loaded.cache_misses.values()))
"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0"], "the copy compiled it, and this process loads it"
