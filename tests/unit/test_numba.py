"""The numba backend trains as a plain loop does, for populations of any shape, and compiles its loop ahead."""

import dataclasses
import multiprocessing
import os
import signal
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from aeclaims import (
    IDENTITY,
    SGD,
    TANH,
    Adam,
    Experiment,
    FixedRows,
    Model,
    Start,
    Uniform,
    affine,
    leaky_relu,
    mlp,
    train,
)
from aeclaims.backends.numba import kernel
from aeclaims.backends.numba import population as numba_population
from aeclaims.runtime import parallel

DOUBLE = np.dtype(np.float64)
# Odd widths, a short last minibatch, and a different number for each setting.
ADAM = Experiment(
    rows=Uniform(features=3),
    model=Model((3, 5, 1, 3), (leaky_relu(0.3), TANH, IDENTITY)),
    loss="mse",
    optimizer=Adam(lr=0.02, betas=(0.7, 0.95), eps=1e-3, weight_decay=0.05),
    epochs=5,
    n_rows=23,
    batch_size=9,
)
MOMENTUM = dataclasses.replace(ADAM, optimizer=SGD(lr=0.1, momentum=0.6, weight_decay=0.05))
SHARED = dataclasses.replace(MOMENTUM, rows=FixedRows(np.random.default_rng(2).random((23, 3))), zero_grad=False)
DERIVATIVES = {
    "identity": lambda activation, y: np.ones_like(y),
    "tanh": lambda activation, y: 1 - y**2,
    "leaky_relu": lambda activation, y: np.where(y > 0, 1, activation.slope),
}
ACTIVATIONS = {
    "identity": lambda activation, z: z,
    "tanh": lambda activation, z: np.tanh(z),
    "leaky_relu": lambda activation, z: np.where(z > 0, z, activation.slope * z),
}


def plain(experiment, start, seed):
    """The epoch losses and final parameters [weight, bias, weight, ...] of one replica, trained by the textbook formulas."""
    activations, optimizer = experiment.model.activations, experiment.optimizer
    parameters = [part[seed].copy() for layer in start.parameters() for part in layer]
    gradients, first, second = ([np.zeros_like(part) for part in parameters] for _ in range(3))
    rows, losses, step = start.rows()[0 if start.has_shared_rows else seed], [], 0
    for epoch in range(experiment.epochs):
        order = start.order(epoch)[seed] if start.has_shared_rows else start.order(epoch)
        minibatches = [
            rows[order[at : at + experiment.batch_size]] for at in range(0, len(rows), experiment.batch_size)
        ]
        losses.append(0.0)
        for x in minibatches:
            values = [x]
            for index, activation in enumerate(activations):
                z = values[-1] @ parameters[2 * index].T + parameters[2 * index + 1]
                values.append(ACTIVATIONS[activation.kind](activation, z))
            losses[-1] += np.mean((values[-1] - x) ** 2) / len(minibatches)
            delta, step = 2 * (values[-1] - x) / x.size, step + 1
            if experiment.zero_grad:
                gradients = [np.zeros_like(part) for part in parameters]
            for index, activation in reversed(list(enumerate(activations))):
                delta = delta * DERIVATIVES[activation.kind](activation, values[index + 1])
                gradients[2 * index] += delta.T @ values[index]
                gradients[2 * index + 1] += delta.sum(axis=0)
                delta = delta @ parameters[2 * index]
            for part, gradient, m, v in zip(parameters, gradients, first, second, strict=True):
                g = gradient + optimizer.weight_decay * part
                if isinstance(optimizer, SGD):
                    m[:] = optimizer.momentum * m + g
                    part -= optimizer.lr * m
                else:
                    short, long = optimizer.betas
                    m[:], v[:] = short * m + (1 - short) * g, long * v + (1 - long) * g**2
                    part -= optimizer.lr * m / (1 - short**step) / (np.sqrt(v / (1 - long**step)) + optimizer.eps)
    return losses, parameters


# Float64 has 8 lanes. The cases: a padded batch; full batches and three single seeds; seeds that share rows.
@pytest.mark.parametrize(
    ("experiment", "count"), [(ADAM, 5), (MOMENTUM, 19), (SHARED, 3)], ids=["adam", "momentum", "shared"]
)
def test_it_trains_what_a_plain_loop_does(experiment, count):
    start = Start(experiment, tuple(range(7, 7 + count)), DOUBLE)
    run = numba_population.train(start)
    for seed in range(count):
        losses, parameters = plain(experiment, start, seed)
        np.testing.assert_allclose(run.epoch_loss[:, seed], losses, rtol=1e-11)
        for ours, theirs in zip((part[seed] for layer in run.parameters for part in layer), parameters, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-13)


def seed_batches(model, count, dtype=DOUBLE, **changes):
    experiment = dataclasses.replace(ADAM, model=model, rows=Uniform(features=model.features))
    experiment = dataclasses.replace(experiment, **changes)
    return numba_population._seed_batches(experiment, Start(experiment, tuple(range(count)), dtype))


def test_seeds_fill_the_lanes_and_a_rest_of_at_most_half_of_them_goes_one_by_one():
    lanes = kernel.lanes(DOUBLE)
    seeds = list(range(3 * lanes))
    full, half = [seeds[:lanes], seeds[lanes : 2 * lanes]], lanes // 2
    assert seed_batches(affine(2, 2), 2 * lanes) == full
    assert seed_batches(affine(2, 2), 2 * lanes + half) == full + [[seed] for seed in seeds[2 * lanes :][:half]]
    rest = seeds[2 * lanes :][: half + 1]
    assert seed_batches(affine(2, 2), 2 * lanes + half + 1) == [*full, rest + rest[-1:] * (lanes - len(rest))]
    assert seed_batches(affine(2, 2), 2 * lanes, dtype=np.dtype(np.float32)) == [seeds[: 2 * lanes]]


def test_seeds_that_share_rows_or_have_many_parameters_go_one_by_one():
    alone = [[0], [1], [2], [3], [4], [5], [6], [7]]
    most = affine(1, 85, 1)  # 85 weights and 85 biases, then 85 weights and 1 bias: the 256 that fit
    assert len(seed_batches(most, 8)) == 1
    assert seed_batches(affine(1, 86, 1), 8) == alone
    assert seed_batches(affine(2, 2), 8, rows=FixedRows(np.ones((23, 2)))) == alone


def test_a_long_training_enters_the_loop_for_some_epochs_at_a_time(monkeypatch):
    start = Start(ADAM, (1, 2), DOUBLE)
    at_once, begin, order = numba_population.train(start), numba_population.Population.begin, Start.order
    entered, drawn, shown = [], [], []

    def noted(self, pool, orders, epochs):
        entered.append((len(orders), epochs.start, epochs.stop))
        return begin(self, pool, orders, epochs)

    def shows(label, total, losses):
        assert losses.shape == (5, 2)
        assert np.isnan(losses).all()
        return nullcontext(
            lambda epochs: shown.append((label, total, epochs, int(np.isfinite(losses).all(axis=1).sum())))
        )

    def drawn_order(self, epoch):
        drawn.append(epoch)
        return order(self, epoch)

    monkeypatch.setattr(numba_population.Population, "begin", noted)
    monkeypatch.setattr(Start, "order", drawn_order)
    monkeypatch.setattr(numba_population, "progress", shows)
    monkeypatch.setattr(numba_population, "ROWS_PER_ENTRY", 2 * ADAM.n_rows)
    in_parts = numba_population.train(start)
    assert entered == [(2, 0, 2), (2, 2, 4), (1, 4, 5)]
    assert drawn == [0, 1, 2, 3, 4]
    assert shown == [("numba", 5, 2, 2), ("numba", 5, 2, 4), ("numba", 5, 1, 5)]
    # A call of the loop multiplies up the powers of Adam's betas; the next call computes them anew: one rounding.
    np.testing.assert_allclose(in_parts.epoch_loss, at_once.epoch_loss, rtol=1e-13)
    monkeypatch.setattr(numba_population, "ROWS_PER_ENTRY", 1)
    numba_population.train(start)
    assert entered[3:] == [(1, epoch, epoch + 1) for epoch in range(5)]


def test_where_one_batch_fails_those_that_wait_are_not_trained(monkeypatch):
    begun = []

    def fails(self, orders, epochs):
        begun.append(self)
        time.sleep(0.05)
        raise MemoryError

    monkeypatch.setattr(parallel, "threads", lambda seconds: ThreadPoolExecutor(1))
    monkeypatch.setattr(numba_population.SeedBatch, "train", fails)
    with pytest.raises(MemoryError):
        numba_population.train(Start(SHARED, tuple(range(30))))
    assert len(begun) < 15


def test_threads_are_asked_for_by_how_long_the_training_takes(monkeypatch):
    asked = []
    monkeypatch.setattr(parallel, "threads", lambda seconds: asked.append(seconds) or ThreadPoolExecutor(1))
    numba_population.train(Start(SHARED, (1, 2, 3), DOUBLE))
    # Visits: 23 rows, 5 epochs, 3 batches and 56 numbers. The layers, of even widths, are 4 to 6, 6 to 2 and 2 to 4.
    assert asked == [pytest.approx(23 * 5 * 3 * 56 * 0.5e-9)]


def test_a_gradient_has_room_for_the_loss():
    # The compiled loop checks no bounds: it would write beyond the end of an array into other memory.
    few = dataclasses.replace(
        ADAM, rows=Uniform(features=2), model=affine(2, 2)
    )  # 6 parameters, less than half of the lanes
    for start in (Start(SHARED, (0,)), Start(SHARED, (0,), DOUBLE), Start(ADAM, tuple(range(16))), Start(few, (0,))):
        population = numba_population.Population(start.experiment, start)
        batch = population.seed_batches[0]
        assert len(batch.gradient) == len(batch.parameters) + kernel.loss_buffer(batch.parameters)
        assert {array.dtype for array in (batch.gradient, batch.parameters, batch.first, batch.second, batch.rows)} == {
            start.dtype
        }
        assert batch.parameters.shape == batch.first.shape == batch.second.shape
        assert population.packed.shape[1] % kernel.lanes(start.dtype) == 0


def test_no_vector_lies_across_two_lines_of_the_cache_and_no_line_is_another_threads():
    for shape, dtype in (((3, 5), DOUBLE), (17, np.dtype(np.float32))):
        array = kernel.aligned_zeros(shape, dtype)
        assert (array.shape, array.dtype, array.any()) == (np.empty(shape).shape, dtype, False)
        begin = array.ctypes.data - array.base.ctypes.data
        assert array.ctypes.data % 64 == 0
        assert begin + -(-array.nbytes // 64) * 64 <= array.base.nbytes
    for seeds in ((0,), tuple(range(16))):
        start = Start(ADAM, seeds)
        for batch in numba_population.Population(ADAM, start).seed_batches:
            placed = (batch.parameters, batch.gradient, batch.first, batch.second, *batch.workspace[1:])
            assert {array.ctypes.data % 64 for array in placed} == {0}


@dataclasses.dataclass
class Copy:
    """A stand-in for a forked process: it notes the calls of its methods."""

    target: object
    args: tuple
    daemon: bool
    did: list = dataclasses.field(default_factory=list)

    def start(self):
        self.did.append("start")

    def join(self):
        self.did.append("join")


@pytest.fixture
def copies(monkeypatch):
    made = []

    def copied(**given):
        made.append(Copy(**given))
        return made[-1]

    monkeypatch.setattr(parallel, "cpu_count", lambda: 2)
    monkeypatch.setattr(numba_population, "COMPILING", {})
    monkeypatch.setattr(multiprocessing, "get_context", {"fork": SimpleNamespace(Process=copied)}.__getitem__)
    return made


WIDE = dataclasses.replace(ADAM, rows=Uniform(features=10), model=mlp(10, 20, 10, hidden=TANH))


def test_what_the_first_training_does_not_need_is_compiled_in_one_copy_and_awaited_by_who_needs_it(copies):
    numba_population.compile_ahead(
        [(ADAM, range(16)), (MOMENTUM, range(9)), (WIDE, range(2)), (WIDE, range(3))], "float32"
    )
    (copy,) = copies
    once = dataclasses.replace(WIDE, epochs=1)
    assert (copy.target, copy.daemon, copy.did) == (numba_population._compile, True, ["start"])
    assert copy.args == (once, Start(WIDE, (0, 1), np.dtype(np.float32)))
    assert list(numba_population.COMPILING) == [False]
    train(ADAM, seeds=range(16), backend="numba")
    assert copy.did == ["start"]
    train(once, seeds=[0], backend="numba")
    assert copy.did == ["start", "join"]
    assert numba_population.COMPILING == {}


def test_nothing_is_compiled_ahead_on_one_processor_nor_twice_nor_where_one_kind_is_needed(copies, monkeypatch):
    numba_population.compile_ahead([(ADAM, range(8)), (MOMENTUM, range(8))], "float64")
    assert copies == []
    both = [(WIDE, range(2)), (ADAM, range(8))]
    monkeypatch.setattr(parallel, "cpu_count", lambda: 1)
    numba_population.compile_ahead(both, "float64")
    assert copies == []
    monkeypatch.setattr(parallel, "cpu_count", lambda: 2)
    numba_population.compile_ahead(both, "float64")
    numba_population.compile_ahead(both, "float64")
    assert list(numba_population.COMPILING) == [True]
    assert len(copies) == 1


def test_of_what_python_warns_of_copies_only_that_of_threads_is_silent(copies, monkeypatch):
    def start(self):
        warnings.warn("this process has threads", DeprecationWarning, stacklevel=1)
        warnings.warn("something else", UserWarning, stacklevel=1)

    monkeypatch.setattr(Copy, "start", start)
    with pytest.warns(UserWarning, match="something else") as warned:
        numba_population.compile_ahead([(WIDE, range(2)), (ADAM, range(8))], "float64")
    assert [each.category for each in warned] == [UserWarning]


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_a_copy_trains_once_and_leaves_without_writing_what_it_was_copied_with(is_interrupted, monkeypatch):
    did = []

    def trained(start):
        did.append((start.experiment, start))
        if is_interrupted:
            raise RuntimeError

    monkeypatch.setattr(numba_population, "train", trained)
    monkeypatch.setattr(os, "_exit", did.append)
    monkeypatch.setattr(signal, "signal", lambda *given: did.append(given))
    once = dataclasses.replace(ADAM, epochs=1)
    if is_interrupted:
        with pytest.raises(RuntimeError):
            numba_population._compile(once, Start(ADAM, (0,)))
    else:
        numba_population._compile(once, Start(ADAM, (0,)))
    assert did == [(signal.SIGINT, signal.SIG_IGN), (once, Start(once, (0,))), 0]
