"""Processors are shared: among pytest-xdist's workers, and with whoever was told to use them."""

import os

import pytest

from aeclaims import processors


@pytest.fixture
def four(monkeypatch):
    """Four processors, and no worker of pytest-xdist."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(4)), raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)


@pytest.mark.parametrize(("workers", "share"), [("1", 4), ("2", 2), ("3", 1), ("8", 1)])
def test_workers_share_the_processors(four, monkeypatch, workers, share):
    assert processors.count() == 4
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", workers)
    assert processors.count() == share


def test_a_limit_holds_until_it_is_taken_back(four):
    processors.limit(1)
    assert processors.count() == 1
    processors.limit(None)
    assert processors.count() == 4


def test_work_is_spread_and_comes_back_in_order(four):
    assert processors.each(lambda number: number**2, range(9)) == [number**2 for number in range(9)]
