"""Compiled torch trains as eager torch does, compiles a program once, and says so where it cannot compile."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from aeclaims import (
    IDENTITY,
    SGD,
    SIGMOID,
    TANH,
    Adam,
    Bernoulli,
    Experiment,
    Given,
    Model,
    Start,
    Uniform,
    affine,
    leaky_relu,
    train,
)
from aeclaims.conformance.paths import LONG

SMALL = Experiment(rows=Uniform(features=2), model=affine(2, 2, 2), loss="mse", optimizer=Adam(), epochs=3, n_rows=300)
RAGGED = dataclasses.replace(SMALL, rows=Uniform(features=5), loss="bce",
                             model=Model((5, 7, 3, 5), (leaky_relu(0.1), TANH, SIGMOID)))
WIDE = dataclasses.replace(SMALL, rows=Uniform(features=3), model=affine(3, 40, 3), optimizer=SGD(lr=0.1, momentum=0.9))
BOTTLENECK = dataclasses.replace(SMALL, rows=Uniform(features=4), model=affine(4, 1, 4))
SHARED = dataclasses.replace(SMALL, rows=Given(np.random.default_rng(0).random((300, 2))))
UNCLEARED = dataclasses.replace(SMALL, clear_gradients=False)
COMPILED = {"small": SMALL, "ragged": RAGGED, "wide": WIDE, "bottleneck": BOTTLENECK, "shared": SHARED, "uncleared": UNCLEARED}


@pytest.fixture
def parts(monkeypatch):
    """torch and the modules that compile: imported by the tests that need them. Has torch compile however short a training is."""
    import torch

    from aeclaims.backends import torch_compiled
    from aeclaims.backends.torch import population as torch_population

    monkeypatch.setattr(torch_population, "COMPILING_PAYS_FROM_STEPS", 0)
    monkeypatch.setattr(torch_compiled, "PROGRAMS", {})
    return SimpleNamespace(torch=torch, compiled=torch_compiled, population=torch_population)


@pytest.mark.parametrize("experiment", LONG.values(), ids=LONG)
def test_the_long_paths_of_conformance_are_compiled(experiment):
    from aeclaims.backends.torch.population import _pays

    assert _pays(Start(experiment, (0, 1)), "cpu")


@pytest.fixture
def repeated(parts, monkeypatch):
    """The minibatches of the steps that were repeated."""
    minibatches, repeating = [], parts.compiled.CompiledSteps._repeating

    def spied(self, program):
        repeat = repeating(self, program)
        return lambda batches: minibatches.extend(batches) or repeat(batches)

    monkeypatch.setattr(parts.compiled.CompiledSteps, "_repeating", spied)
    return minibatches


def begun(parts, experiment, seeds=3, dtype="float32"):
    """A population of the start, and its compiled step, on which it is to train."""
    start = Start(experiment, tuple(range(seeds)), np.dtype(dtype))
    population = parts.population.Population(experiment, start, device="cpu", is_compiled=True)
    return start, population


def assert_compiled_as_eager(experiment):
    compiled = train(experiment, seeds=range(3), backend="torch", dtype="float64")
    eager = train(experiment, seeds=range(3), backend="torch-eager", dtype="float64")
    np.testing.assert_allclose(compiled.epoch_loss, eager.epoch_loss, rtol=1e-12)
    for layer, expected in zip(compiled.parameters, eager.parameters, strict=True):
        np.testing.assert_allclose(layer.weight, expected.weight, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("experiment", COMPILED.values(), ids=COMPILED)
def test_compiled_steps_are_eager_steps_and_repeat_the_call_that_was_kept(repeated, experiment):
    assert_compiled_as_eager(experiment)
    # Of six full steps the first is eager, the second compiles, the third is kept and tried.
    assert len(repeated) == 4


def test_a_program_is_compiled_once(repeated):
    from torch._dynamo.utils import counters

    assert_compiled_as_eager(SMALL)
    del repeated[:]
    counters.clear()
    assert_compiled_as_eager(dataclasses.replace(SMALL, rows=Bernoulli(0.5, features=SMALL.features), optimizer=Adam(lr=3e-3)))
    assert not counters["inductor"]
    assert len(repeated) == 5  # all but the first


@pytest.mark.parametrize("other", [
    {"optimizer": Adam(weight_decay=0.1)}, {"optimizer": SGD(lr=0.1)}, {"clear_gradients": False}, {"batch_size": 100},
    {"loss": "bce_logits"}, {"model": Model((2, 2, 2), (TANH, IDENTITY))},
], ids=str)  # fmt: skip
def test_another_program_is_not_taken_for_it(parts, other):
    def key(experiment, **start):
        return begun(parts, experiment, **start)[1].steps._key()

    assert key(SMALL) == key(dataclasses.replace(SMALL, rows=Bernoulli(0.5, features=2), optimizer=Adam(lr=1e-5), n_rows=400))
    assert key(SMALL) not in (key(dataclasses.replace(SMALL, **other)), key(SMALL, seeds=4), key(SMALL, dtype="float64"))


@pytest.mark.parametrize("is_found", [False, True], ids=["unknown", "other"])
def test_a_call_whose_repetition_does_something_else_is_not_repeated(parts, repeated, monkeypatch, is_found):
    find, losses = parts.compiled._program, parts.torch.zeros(3, dtype=parts.torch.float64)

    def other(*found):
        return find(*found)._replace(run=lambda arguments: (losses,)) if is_found else None

    monkeypatch.setattr(parts.compiled, "_program", other)
    assert_compiled_as_eager(SMALL)
    assert len(repeated) == is_found


def test_minibatches_that_lie_otherwise_in_memory_are_refused(parts):
    start, population = begun(parts, SMALL)
    for epoch in range(2):
        population.train_epoch(start.order(epoch))
    with pytest.raises(RuntimeError, match="lie in memory as"):
        population.steps([parts.torch.rand(3, 128, 2)])


def test_without_a_compiler_torch_says_so_and_trains_eagerly(parts, monkeypatch, tmp_path):
    import torch._inductor.config as inductor_config

    # Nothing that was compiled before may be found.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with inductor_config.patch({"cpp.cxx": ("no-such-compiler",)}), \
            pytest.warns(RuntimeWarning, match="could not compile.*trains eagerly"):
        run = train(SMALL, seeds=range(3), backend="torch", dtype="float64")
    eager = train(SMALL, seeds=range(3), backend="torch-eager", dtype="float64")
    np.testing.assert_allclose(run.epoch_loss, eager.epoch_loss, rtol=1e-12)


def test_a_step_is_traced_once(parts):
    counted = parts.torch._dynamo.utils.counters["aot_autograd"]
    before = counted["total"]
    train(SMALL, seeds=range(3), backend="torch")
    assert counted["total"] == before + 1


def test_torch_keeps_the_trace_of_a_step_on_disk(parts):
    from torch._dynamo.utils import counters

    counters.clear()
    train(SMALL, seeds=[0], backend="torch")
    found = counters["aot_autograd"]
    assert found["autograd_cache_hit"] + found["autograd_cache_saved"] == 1
    assert not found["autograd_cache_bypass"]
