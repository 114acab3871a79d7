"""Settings of torch.compile are read and checked, and compiled code trains like code that is not compiled."""

import dataclasses
import errno
from contextlib import nullcontext

import numpy as np
import pytest

from aeclaims import (
    IDENTITY,
    SGD,
    SIGMOID,
    TANH,
    Adam,
    Experiment,
    FixedRows,
    Model,
    Start,
    Uniform,
    affine,
    leaky_relu,
    train,
)
from aeclaims.backends import get
from aeclaims.backends.torch.compile import Compilation, parse
from aeclaims.backends.torch.custom_optimizers import parse as custom
from aeclaims.conformance.paths import LONG
from aeclaims.conformance.stages import STAGES
from aeclaims.errors import NotSupported, UnknownBackend

SMALL = Experiment(rows=Uniform(features=2), model=affine(2, 2, 2), loss="mse", optimizer=Adam(), epochs=3, n_rows=300)
EXPERIMENTS = {
    "affine": SMALL,
    "activations, log-loss": dataclasses.replace(
        SMALL, rows=Uniform(features=5), loss="bce", model=Model((5, 7, 3, 5), (leaky_relu(0.1), TANH, SIGMOID))
    ),
    "a wide layer": dataclasses.replace(
        SMALL, rows=Uniform(features=3), model=affine(3, 40, 3), optimizer=SGD(lr=0.1, momentum=0.9)
    ),
    "a bottleneck, logits": dataclasses.replace(
        SMALL, rows=Uniform(features=4), model=Model((4, 1, 4), (TANH, IDENTITY)), loss="bce_logits"
    ),
    "given rows": dataclasses.replace(SMALL, rows=FixedRows(np.random.default_rng(0).random((300, 2)))),
    "given rows, a wide layer": dataclasses.replace(
        SMALL, rows=FixedRows(np.random.default_rng(0).random((300, 2))), model=affine(2, 40, 2)
    ),
    "gradients that add up": dataclasses.replace(SMALL, zero_grad=False),
    "weight decay": dataclasses.replace(SMALL, optimizer=Adam(lr=3e-3, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.01)),
    "momentum and decay of gradients that add up": dataclasses.replace(
        SMALL, optimizer=SGD(lr=0.01, momentum=0.9, weight_decay=0.01), zero_grad=False
    ),
}
CALLS = []


def counting(graph, inputs):
    """A compiler that compiles nothing, and counts the calls of its graphs."""

    def run(*tensors):
        CALLS.append(len(tensors))
        return graph(*tensors)

    return run


COUNTING = f"backend={__name__}:counting"


@pytest.mark.parametrize(("text", "expected"), [
    ("backend=aot_eager", Compilation(backend="aot_eager")),
    ("backend=inductor,mode=max-autotune,dynamic=true,scope=step", Compilation(mode="max-autotune", dynamic=True, scope="step")),
    ("dynamic=false, fullgraph=true", Compilation(dynamic=False, fullgraph=True)),
    ("backend=my.package:compiler", Compilation(backend="my.package:compiler")),
])  # fmt: skip
def test_settings_are_read_and_written_as_they_are_given(text, expected):
    assert parse(text) == expected
    assert parse(str(expected)) == expected


@pytest.mark.parametrize(("text", "message"), [
    ("speed=9", "'speed=9': give backend=..., mode=..., dynamic=..., fullgraph=..., scope=..."),
    ("inductor", "'inductor': give backend=..."),
    ("backend=", "'backend=': give backend=..."),
    ("mode=fast", "mode=fast: give one of default, reduce-overhead, max-autotune, max-autotune-no-cudagraphs"),
    ("dynamic=yes", "dynamic=yes: give one of true, false"),
    ("scope=loss", "scope=loss: give one of model, step"),
    ("scope=step,scope=step", "'scope' occurs twice"),
])  # fmt: skip
def test_settings_that_cannot_be_read_list_the_right_ones(text, message):
    with pytest.raises(UnknownBackend) as raised:
        parse(text)
    assert message in str(raised.value)


@pytest.mark.parametrize(("text", "message"), [
    ("backend=inductr", "backend=inductr: inductor? give one of"),
    ("backend=no_such_module:f", "it cannot be imported (ModuleNotFoundError"),
    ("backend=math:pi", "backend=math:pi is a float; give a function"),
    ("backend=aot_eager,mode=max-autotune", "modes are inductor's, and the backend is aot_eager"),
    ("backend=math:sqrt,mode=max-autotune", "modes are inductor's, and the backend is math:sqrt"),
    ("backend=exits_at_import:f", "it cannot be imported (SystemExit: 3)"),
])  # fmt: skip
def test_a_compiler_that_is_not_there_is_refused(text, message, monkeypatch, tmp_path):
    (tmp_path / "exits_at_import.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownBackend) as raised:
        get("torch", compilation=parse(text))
    assert message in str(raised.value)
    if "inductr" in text:
        assert {"inductor", "aot_eager"} <= set(str(raised.value).replace(",", " ").split())


def test_a_backend_that_compiles_nothing_takes_no_settings():
    with pytest.raises(
        UnknownBackend, match="does not call torch.compile; give --claims-backend one of torch, torch-compile"
    ):
        get("torch-eager", compilation=Compilation())


@pytest.fixture
def compiled(monkeypatch):
    """Trains on `torch`, compiled even if the training is short."""
    from aeclaims.backends.torch import population

    monkeypatch.setattr(population, "COMPILING_PAYS_FROM_STEPS", 0)
    return lambda experiment, **given: train(experiment, seeds=range(3), backend="torch", dtype="float64", **given)


def assert_same(run, expected):
    np.testing.assert_allclose(run.epoch_loss, expected.epoch_loss, rtol=1e-12)
    for layer, other in zip(run.parameters, expected.parameters, strict=True):
        np.testing.assert_allclose(layer.weight, other.weight, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(layer.bias, other.bias, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_a_compiled_population_trains_as_one_that_is_not(compiled, experiment):
    assert_same(compiled(experiment), train(experiment, seeds=range(3), backend="torch-eager", dtype="float64"))


@pytest.mark.parametrize("experiment", LONG.values(), ids=LONG)
def test_long_trainings_are_compiled_without_being_asked(experiment):
    from aeclaims.backends.torch.population import compiling_pays

    assert compiling_pays(Start(experiment, (0, 1)), "cpu")
    assert not compiling_pays(Start(SMALL, (0, 1)), "cpu")


def test_a_call_of_a_long_training_takes_two_steps(monkeypatch):
    from aeclaims.backends.torch import population

    by_step = get("torch", compilation=parse(f"{COUNTING},scope=step"))
    alone = train(SMALL, seeds=range(3), backend=by_step, dtype="float64")
    monkeypatch.setattr(population, "LONG", 0)
    CALLS.clear()
    assert_same(train(SMALL, seeds=range(3), backend=by_step, dtype="float64"), alone)
    assert len(CALLS) == SMALL.epochs  # one call for two steps; the short minibatch runs without the compiler


# Three epochs have three steps each, the last of 44 rows. A population compiles loss and gradient as one graph. A loop's
# network is one graph, with the short minibatch as its second size; each seed trains separately.
@pytest.mark.parametrize(("backend", "settings", "calls"), [
    ("torch", COUNTING, 6), ("torch", f"{COUNTING},dynamic=true", 9), ("torch-compile", COUNTING, 3 * 9),
])  # fmt: skip
def test_every_step_calls_what_the_compiler_returned(backend, settings, calls):
    del CALLS[:]
    run = train(SMALL, seeds=range(3), backend=get(backend, compilation=parse(settings)), dtype="float64")
    assert len(CALLS) == calls
    assert_same(run, train(SMALL, seeds=range(3), backend="torch-loop", dtype="float64"))


@pytest.mark.parametrize("backend", ["torch", "torch-compile"])
@pytest.mark.parametrize(
    "settings",
    ["backend=aot_eager,scope=step", "scope=step", "mode=max-autotune-no-cudagraphs", "backend=aot_eager,dynamic=true"],
)
def test_each_setting_trains_as_the_plain_loop(backend, settings):
    # torch 2.13 does not trace the gradient of BCELoss under vmap with dynamic sizes.
    experiment = dataclasses.replace(
        EXPERIMENTS["affine" if "dynamic" in settings else "activations, log-loss"], epochs=2
    )
    run = train(experiment, seeds=range(2), backend=get(backend, compilation=parse(settings)), dtype="float64")
    assert_same(run, train(experiment, seeds=range(2), backend="torch-loop", dtype="float64"))


def test_more_seeds_than_torch_keeps_programs_stay_compiled():
    """torch runs a function without the compiler once it has compiled it eight times."""
    del CALLS[:]
    once = dataclasses.replace(SMALL, epochs=1, n_rows=128)
    for scope in ("model", "step"):
        train(once, seeds=range(10), backend=get("torch-compile", compilation=parse(f"{COUNTING},scope={scope}")))
        assert len(CALLS) >= 10
        del CALLS[:]


def test_without_a_compiler_torch_says_so_and_trains_all_the_same(compiled, monkeypatch, tmp_path):
    import torch._inductor.config as inductor_config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # an empty cache
    with (
        inductor_config.patch({"cpp.cxx": ("no-such-compiler",)}),
        pytest.warns(RuntimeWarning, match="could not compile"),
    ):
        run = compiled(SMALL)
    assert_same(run, train(SMALL, seeds=range(3), backend="torch-eager", dtype="float64"))


@pytest.mark.parametrize("backend", ["torch", "torch-compile"])
def test_a_compilation_that_was_asked_for_is_lacking_without_a_compiler(backend, monkeypatch, tmp_path):
    """Uses the default settings of `torch`, as the bisection does."""
    import torch._inductor.config as inductor_config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    chosen = get(backend, compilation=parse("dynamic=false"))
    with (
        inductor_config.patch({"cpp.cxx": ("no-such-compiler",)}),
        pytest.raises(NotSupported, match="could not compile the training: there is no C\\+\\+ compiler"),
    ):
        train(SMALL, seeds=range(2), backend=chosen)


def test_a_stage_that_this_torch_does_not_have_is_lacking(monkeypatch):
    import torch

    monkeypatch.setattr(torch.compiler, "list_backends", lambda exclude_tags=(): ["eager", "inductor"])
    assert STAGES["loop, compiled by eager"].on("cpu", None).name == "torch-compile"
    with pytest.raises(
        NotSupported, match="this torch has no such stage .backend=aot_eager: eager. give one of eager, inductor"
    ):
        STAGES["loop, compiled by aot_eager"].on("cpu", None)


FULL_GRAPH = parse("backend=eager,scope=step,fullgraph=true")


def test_the_step_of_a_population_is_one_graph():
    assert_same(
        train(SMALL, seeds=range(3), backend=get("torch", compilation=FULL_GRAPH), dtype="float64"),
        train(SMALL, seeds=range(3), backend="torch-eager", dtype="float64"),
    )


@pytest.mark.parametrize(("backend", "optimizer"), [("torch", "torch.optim:NAdam"), ("torch-compile", None)])
def test_what_dynamo_cannot_trace_is_lacking(backend, optimizer):
    """An optimizer's step breaks the graph, which fullgraph forbids; in a population, torch's step is the called function."""
    chosen = get(backend, optimizer=optimizer and custom(optimizer), compilation=FULL_GRAPH)
    with pytest.raises(NotSupported, match="torch could not compile the training: dynamo cannot trace it"):
        train(SMALL, seeds=range(2), backend=chosen)


def test_a_compiler_that_fails_fails_the_training(compiled):
    compiled_by = get("torch", compilation=parse(f"backend={__name__}:failing"))
    with pytest.raises(Exception, match="division by zero"):
        train(SMALL, seeds=range(2), backend=compiled_by)


def failing(graph, inputs):
    return 1 / 0


def skipping_graphs(graph, inputs):
    import torch

    raise torch._dynamo.exc.SkipFrame("not this one")


def lacking_operators(graph, inputs):
    import torch
    from torch._subclasses.fake_tensor import UnsupportedOperatorException

    raise UnsupportedOperatorException(torch.ops.aten.mm.default)


def told_by_the_stance():
    import torch

    return torch.compiler.set_stance("force_eager")


def told_by_the_limit():
    import torch._dynamo

    return torch._dynamo.config.patch(recompile_limit=0)


def told_by_the_environment():
    import torch._dynamo

    return torch._dynamo.config.patch(disable=True)


def told_to_suppress_errors():
    import torch._dynamo

    return torch._dynamo.config.patch(suppress_errors=True)


@pytest.mark.parametrize("scope", ["model", "step"])
@pytest.mark.parametrize("backend", ["torch", "torch-compile"])
@pytest.mark.parametrize(("compiler", "told"), [
    ("eager", told_by_the_stance),
    ("eager", told_by_the_limit),
    ("eager", told_by_the_environment),
    (f"{__name__}:failing", told_to_suppress_errors),
    (f"{__name__}:skipping_graphs", nullcontext),
    (f"{__name__}:lacking_operators", nullcontext),
])  # fmt: skip
def test_a_training_that_nothing_compiled_is_not_one_that_was_compiled(backend, scope, compiler, told):
    chosen = get(backend, compilation=parse(f"backend={compiler},scope={scope}"))
    with told(), pytest.raises(NotSupported, match="torch.compile compiled nothing: torch is told not to compile"):
        train(SMALL, seeds=range(2), backend=chosen)


def test_if_nothing_is_compiled_torch_says_so_once_and_trains_all_the_same(compiled):
    with told_by_the_stance(), pytest.warns(RuntimeWarning, match="torch.compile compiled nothing") as caught:
        run = compiled(SMALL)
    assert len(caught) == 1
    assert_same(run, train(SMALL, seeds=range(3), backend="torch-eager", dtype="float64"))


@pytest.mark.parametrize("check", [
    "test_compiled_functions_are_those_of_mathematics", "test_a_program_serves_what_it_was_compiled_for",
])  # fmt: skip
def test_a_check_of_compiled_code_is_not_made_if_nothing_is_compiled(check):
    from aeclaims.conformance import test_compile
    from aeclaims.conformance.stack import Stack
    from aeclaims.judging.judge import Judge

    stack = Stack(get("torch"), "float32", (0,), compilation=parse("backend=eager"))
    getattr(test_compile, check)(stack, Judge())
    judge = Judge()
    with told_by_the_stance(), pytest.raises(NotSupported, match="compiled nothing"):
        getattr(test_compile, check)(stack, judge)
    assert vars(judge) == vars(Judge())


def full(graph, inputs):
    raise OSError(errno.ENOSPC, "No space left on device")


def naming_a_compiler(graph, inputs):
    raise RuntimeError("InvalidCxxCompiler: so says the backend")


def without_a_compiler(graph, inputs):
    from torch._inductor.exc import InvalidCxxCompiler

    raise InvalidCxxCompiler


def skipping_the_test(graph, inputs):
    pytest.skip("not here")


@pytest.mark.parametrize(("compiler", "error", "message"), [
    (full, NotSupported, r"could not compile the training: it cannot write its cache \(OSError: .*No space left"),
    (without_a_compiler, NotSupported, "could not compile the training: there is no C"),
    (naming_a_compiler, Exception, "so says the backend"),
    (skipping_the_test, RuntimeError, "backend torch skipped the test: Skipped: not here"),
])  # fmt: skip
def test_the_class_of_an_error_says_whether_torch_can_compile(compiler, error, message):
    chosen = get("torch", compilation=parse(f"backend={__name__}:{compiler.__name__}"))
    with pytest.raises(error, match=message) as raised:
        train(SMALL, seeds=range(2), backend=chosen)
    assert isinstance(raised.value, NotSupported) == (error is NotSupported)


def test_a_loop_whose_compiler_skips_the_test_fails():
    from aeclaims.conformance.loops import loop_states
    from aeclaims.conformance.stack import Stack

    with pytest.raises(RuntimeError, match="backend torch skipped the test"):
        loop_states(Stack(get("torch"), "float32", (0,)), SMALL, (1,), parse(f"backend={__name__}:skipping_the_test"))
