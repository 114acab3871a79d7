"""A step of a network with dead units and decayed moments, with denormal numbers kept, and flushed to zero."""

from contextlib import nullcontext
from functools import cache
from unittest import mock

import pytest

from tests.bench.contestants import NETWORKS, contestant
from tests.bench.turns import CLOCK, by_turns

# After this many epochs, the moments of units that died at the start are denormal.
EPOCHS = 4


def with_denormals():
    """Trains the question's network in torch's default mode."""
    from aeclaims.backends.torch import parts as torch_parts

    train = contestant("torch-eager", NETWORKS["question"], 1)

    def no_change(device):
        return nullcontext()

    def kept(epochs):
        with mock.patch.object(torch_parts, "flushed_denormals", no_change):
            train(epochs)

    return kept


@cache
def timed():
    """Seconds of an epoch of one seed."""
    contestants = {"kept": with_denormals(), "as zero": contestant("torch-eager", NETWORKS["question"], 1)}
    for train in contestants.values():
        train(EPOCHS)
    return by_turns(contestants)


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("name", ["kept", "as zero"])
def test_epoch(show, name):
    import torch

    if not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot flush denormal numbers to zero")
    show(f"denormals: torch, {name}", timed()[name], "an epoch of the question's network, torch-eager, denormals")
