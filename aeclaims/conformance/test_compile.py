"""torch.compile by itself: the functions of a training in one program, and programs that differ little from each other."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from aeclaims.backends import no_skipping
from aeclaims.conformance import functions
from aeclaims.conformance.direct import Torch, close, host, under_test
from aeclaims.conformance.loops import counts_in_python, judge_loop
from aeclaims.conformance.stack import Stack
from aeclaims.errors import NotSupported
from aeclaims.experiment import SGD, Adam, Experiment, Uniform, affine
from aeclaims.judging.claim import conformance
from aeclaims.judging.judge import Judge

FEW_STEPS = Experiment(
    rows=Uniform(features=3), model=affine(3, 3), loss="mse", optimizer=Adam(), epochs=6, n_rows=8, batch_size=8
)
# The compiled steps of a pair differ only in constants.
PAIRS = {
    "SGD": (SGD(lr=0.1, momentum=0.9, weight_decay=0.01), SGD(lr=0.05, momentum=0.8, weight_decay=0.02)),
    "Adam": (Adam(lr=3e-3), Adam(lr=1e-3, betas=(0.8, 0.95), eps=1e-3)),
}


@contextmanager
def compiling(stack: Stack) -> Iterator[Callable[..., Any]]:
    """Yield torch.compile with the settings of the stack, as in a new process.

    Raises:
        NotSupported: If torch cannot compile, or compiles nothing.
    """
    from aeclaims.backends.torch import parts
    from aeclaims.backends.torch.compile import Compilation, begin_anew, quiet, unsupported_reason
    from aeclaims.backends.torch.watch import Watch

    begin_anew()
    watch, compilation = Watch(), dataclasses.replace(stack.compilation or Compilation(), scope="model")

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        program = compilation(watch.over(function))

        def run(*inputs: Any) -> Any:
            values = program(*inputs)
            watch.require_compiled()  # before the values are judged
            return values

        return run

    try:
        with quiet(), parts.threads(1), no_skipping("the compiler"):
            yield compiled
    except Exception as error:
        if reason := unsupported_reason(error):
            raise NotSupported(reason) from error
        raise


@conformance(
    "compiled functions",
    statement="activations, losses, products and gradients match their formulas, also at extreme inputs",
    source="torch",
    seeds=1,
    is_quick=True,
)
def test_compiled_functions_are_those_of_mathematics(stack: Stack, judge: Judge) -> None:
    torch = under_test(stack)
    cases = [
        *functions.activations(torch, is_compiled=True),
        functions.log_loss_on_logits(torch),
        functions.log_loss_of_probabilities(torch, is_compiled=True),
        *functions.losses_of_minibatches(torch),
        *functions.arithmetic(torch),
        *functions.products(torch),
    ]
    with compiling(stack) as compiled:
        functions.judge_cases(torch, judge, cases, compiled)


@conformance(
    "compiled programs",
    statement="a compiled layer is right for other sizes, slopes and memory layouts too",
    source="torch",
    seeds=1,
    is_quick=True,
)
def test_a_program_serves_what_it_was_compiled_for(stack: Stack, judge: Judge) -> None:
    torch = under_test(stack)
    nn, random = torch.module.nn, np.random.default_rng(0)
    for slope, other in ((0.1, 0.2), (0.3, 0.1)):  # two compilations that differ only in a constant
        with compiling(stack) as compiled:
            layer = nn.Sequential(nn.Linear(3, 4, device=torch.device, dtype=torch.dtype), nn.LeakyReLU(slope))
            for parameter in layer.parameters():
                parameter.data.copy_(torch.tensor(random.standard_normal(parameter.shape)))
            program = compiled(layer)
            for rows in (8, 5, 1, 8):
                (x,) = functions.held(torch, random.standard_normal((rows, 3)))
                judge_layer(torch, judge, program, x, torch.tensor(x), layer, f"{rows} rows")
            judge_layer(torch, judge, program, x, torch.tensor(x.T).T, layer, "8 rows in column-major order")
            layer[1].negative_slope = other
            judge_layer(torch, judge, program, x, torch.tensor(x), layer, f"8 rows, after its slope was {slope}")


def judge_layer(torch: Torch, judge: Judge, program: Any, x: Any, batch: Any, layer: Any, how: str) -> None:
    """Judge the outputs of a compiled layer with leaky ReLU, and the gradients of their sum."""
    slope = layer[1].negative_slope
    layer.zero_grad()
    weight, bias = host(layer[0].weight), host(layer[0].bias)
    output = program(batch)
    output.sum().backward()
    z, size = x @ weight.T + bias, np.abs(x) @ np.abs(weight).T + np.abs(bias)
    derivative = np.where(z > 0, 1, slope)
    seen = {
        "outputs": (output, z * derivative, size.max()),
        "gradient of the weight": (layer[0].weight.grad, derivative.T @ x, np.abs(x).sum(axis=0).max()),
        "gradient of the bias": (layer[0].bias.grad, derivative.sum(axis=0), len(x)),
    }
    for name, (found, oracle_run, scale) in seen.items():
        close(
            judge,
            host(found),
            oracle_run,
            (len(x) + 6) * torch.eps * scale,
            reason=functions.WHY_SUM,
            what=f"error of the {name} of a compiled layer with leaky ReLU of slope {slope}, for {how}",
        )


@pytest.mark.parametrize(
    "pair",
    [
        pytest.param(
            pair,
            id=name,
            marks=conformance(
                f"compiled rates: {name}",
                source="torch",
                seeds=1,
                statement="each compiled step uses the constants of its own optimizer",
            ),
        )
        for name, pair in PAIRS.items()
    ],
)
def test_a_compiled_step_takes_its_own_constants(pair: tuple[Adam | SGD, ...], stack: Stack, judge: Judge) -> None:
    under_test(stack)
    from aeclaims.backends.torch.compile import Compilation

    for optimizer in pair:
        experiment = dataclasses.replace(FEW_STEPS, optimizer=optimizer)
        if counts_in_python(stack, experiment):
            raise NotSupported("the optimizer's step changes Python state, on which torch.compile sets no guard")
        judge_loop(
            stack, judge, experiment, dataclasses.replace(stack.compilation or Compilation(), scope="step"), (1, 3, 6)
        )
