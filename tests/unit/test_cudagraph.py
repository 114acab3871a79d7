"""Epochs that are captured once and replayed equal those of eager torch, each on its minibatches.

If there is no CUDA, a tape stands in for the graph. It replays the same kernels on the same memory, with the host's numbers at
the time of the capture. So everything that is stale in a graph is also stale on the tape.
"""

import dataclasses

import numpy as np
import pytest

from aeclaims import SGD, SIGMOID, TANH, Adam, Experiment, FixedRows, Model, Start, Uniform, affine, train
from aeclaims.backends import get
from aeclaims.errors import UnknownBackend

SMALL = Experiment(
    rows=Uniform(features=2), model=affine(2, 2, 2), loss="mse", optimizer=Adam(lr=0.01), epochs=5, n_rows=300
)
EXPERIMENTS = {
    "partial last batch": SMALL,
    "momentum and decay": dataclasses.replace(SMALL, optimizer=SGD(lr=0.1, momentum=0.9, weight_decay=1e-3)),
    "Adam with decay": dataclasses.replace(SMALL, optimizer=Adam(lr=0.01, weight_decay=1e-2)),
    "log-loss": dataclasses.replace(SMALL, model=Model((2, 5, 2), (TANH, SIGMOID)), loss="bce"),
    "shared rows": dataclasses.replace(SMALL, rows=FixedRows(np.random.default_rng(0).random((300, 2)))),
    "gradients that add up": dataclasses.replace(SMALL, zero_grad=False),
    "one epoch": dataclasses.replace(SMALL, epochs=1),
}


@pytest.fixture
def backend(monkeypatch):
    """The module, with a tape instead of a graph."""
    from aeclaims.backends.torch import cudagraph as torch_cudagraph

    monkeypatch.setattr(torch_cudagraph, "captured", recorded)
    return torch_cudagraph


def recorded(work):
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    def tensors(*values):
        return [value for value in tree_leaves(values) if torch.is_tensor(value)]

    def place(tensor):
        return tensor.untyped_storage().data_ptr()

    class Tape(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.calls, self.made, self.before = [], set(), {}

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            given = tensors(args, kwargs)
            for tensor in given:
                if place(tensor) not in self.made:
                    self.before.setdefault(place(tensor), (tensor.untyped_storage(), tensor.untyped_storage().clone()))
            result = function(*args, **(kwargs or {}))
            self.made |= {place(tensor) for tensor in tensors(result)} - set(self.before)
            self.calls.append((function, args, kwargs or {}, result))
            return result

        def replay(self):
            with torch.no_grad():
                for function, args, kwargs, result in self.calls:
                    for kept, again in zip(tensors(result), tensors(function(*args, **kwargs)), strict=True):
                        if place(kept) != place(again):
                            kept.copy_(again)

    with Tape() as tape:
        work()
    for storage, content in tape.before.values():  # a capture launches nothing
        storage.copy_(content)
    return tape.replay


def replayed(backend, experiment, dtype="float64"):
    return backend.train(Start(experiment, (0, 1, 2), np.dtype(dtype)), device="cpu")


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_replayed_epochs_are_eager_epochs(backend, experiment):
    run = replayed(backend, experiment)
    eager = train(experiment, seeds=range(3), backend="torch-eager", dtype="float64")
    np.testing.assert_allclose(run.epoch_loss, eager.epoch_loss, rtol=1e-9)
    for layer, expected in zip(run.parameters, eager.parameters, strict=True):
        np.testing.assert_allclose(layer.weight, expected.weight, rtol=1e-7, atol=1e-10)
        np.testing.assert_allclose(layer.bias, expected.bias, rtol=1e-7, atol=1e-10)


def test_an_epoch_is_captured_once(backend, monkeypatch):
    captures = []
    monkeypatch.setattr(backend, "captured", lambda work: captures.append(work) or recorded(work))
    replayed(backend, SMALL)
    assert len(captures) == 1


@pytest.mark.parametrize("fault", ["stale batches", "a count of steps that is written into the graph"])
def test_what_a_graph_would_read_stale_shows(backend, monkeypatch, fault):
    if fault == "stale batches":
        begin = backend.Epochs.begin

        def stale(self, order):
            self.drawn = order if self.order is None else self.drawn
            return begin(self, self.drawn)

        monkeypatch.setattr(backend.Epochs, "begin", stale)
    else:
        from aeclaims.backends.torch import parts as torch_parts

        optimizer = torch_parts.optimizer
        monkeypatch.setattr(torch_parts, "optimizer", lambda *given, **settings: optimizer(*given))
    run = replayed(backend, SMALL)
    eager = train(SMALL, seeds=range(3), backend="torch-eager", dtype="float64")
    np.testing.assert_allclose(run.epoch_loss[0], eager.epoch_loss[0], rtol=1e-9)
    assert (np.abs(run.epoch_loss[2:] / eager.epoch_loss[2:] - 1) > 1e-6).any()


def test_it_needs_cuda_and_says_so():
    with pytest.raises(UnknownBackend, match="device .cpu.: torch-cudagraph captures CUDA graphs; give .cuda."):
        get("torch-cudagraph")


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_on_cuda_replayed_epochs_are_eager_epochs(experiment):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("not exercised: there is no CUDA here")
    run = train(experiment, seeds=range(3), backend="torch-cudagraph", device="cuda", dtype="float64")
    eager = train(experiment, seeds=range(3), backend="torch-eager", device="cuda", dtype="float64")
    np.testing.assert_allclose(run.epoch_loss, eager.epoch_loss, rtol=1e-9)
