"""Processors are shared with the other workers of pytest-xdist, and with pools that have a limit."""

import os
import threading
import time

import pytest

from aeclaims.runtime import parallel


@pytest.fixture
def four(monkeypatch):
    """A machine with four processors, outside of pytest-xdist's workers."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(4)), raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)


@pytest.mark.parametrize(("workers", "share"), [("1", 4), ("2", 2), ("3", 1), ("8", 1)])
def test_workers_share_the_processors(four, monkeypatch, workers, share):
    assert parallel.cpu_count() == 4
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", workers)
    assert parallel.cpu_count() == share


def test_a_limit_holds_until_it_is_taken_back(four):
    parallel.set_cpu_limit(1)
    assert parallel.cpu_count() == 1
    parallel.set_cpu_limit(None)
    assert parallel.cpu_count() == 4


def test_work_is_spread_and_comes_back_in_order(four):
    assert parallel.map(lambda number: number**2, range(9)) == [number**2 for number in range(9)]


def test_threads_are_started_where_there_is_work_for_them_only(four):
    with parallel.threads(0.001) as few, parallel.threads(1.0) as many:
        assert few.submit(threading.get_ident).result() == threading.get_ident()
        assert many.submit(threading.get_ident).result() != threading.get_ident()
    parallel.set_cpu_limit(1)
    with parallel.threads(1.0) as one:
        assert one.submit(threading.get_ident).result() == threading.get_ident()
    parallel.set_cpu_limit(None)


def test_slow_work_is_spread_over_threads_and_quick_work_is_not(four):
    def slow(number):
        time.sleep(0.002)
        return threading.get_ident()

    assert len(set(parallel.map(slow, range(9)))) > 1
    assert set(parallel.map(lambda number: threading.get_ident(), range(9))) == {threading.get_ident()}
