"""torch as you run it: a plain nn.Sequential in a plain loop, and the same with torch.compile around the model or the step.

These checks are the same on every torch backend. They cover features that a population does not use: nn.Linear in a compiler,
DataLoader, `.item()`, hooks, and the Python state of an optimizer. They read gradients from the parameters, because Adam hides
the scale of gradients.
"""

import dataclasses

import pytest

from aeclaims.conformance.direct import under_test
from aeclaims.conformance.loops import counts_in_python, judge_loop
from aeclaims.conformance.paths import SETUPS
from aeclaims.conformance.stack import Stack
from aeclaims.errors import NotSupported
from aeclaims.experiment import IDENTITY, RELU, SIGMOID, TANH, Adam, Experiment, Model, Uniform, leaky_relu
from aeclaims.judging.claim import conformance
from aeclaims.judging.judge import Judge

# Every activation, log-loss, decay and a short last minibatch: one program shows most mistakes that a compiler can make.
ALL_AT_ONCE = Experiment(
    rows=Uniform(features=3),
    model=Model((3, 4, 7, 4, 6, 3), (RELU, TANH, leaky_relu(0.3), IDENTITY, SIGMOID)),
    loss="bce",
    optimizer=Adam(lr=3e-3, weight_decay=0.01),
    epochs=100,
    n_rows=12,
    batch_size=8,
)
LONG = dataclasses.replace(SETUPS["tanh"], epochs=700)
NAMES = (
    "every activation, widths 3 to 7",
    "a wide layer",
    "BCE of probabilities",
    "BCE on logits",
    "SGD with momentum and decay",
    "Adam with decay",
    "gradients that add up",
    "a short last minibatch",
    "minibatches of one row",
)
EXPERIMENTS = {"all at once": ALL_AT_ONCE, **{name: SETUPS[name] for name in NAMES}, "700 steps": LONG}
QUICK = {"loop": ("700 steps",), "compiled model": (), "compiled step": ("all at once",)}
WORDS = {
    "loop": "a plain loop",
    "compiled model": "a loop whose network torch.compile compiles",
    "compiled step": "a loop whose step torch.compile compiles",
}
CASES = [
    pytest.param(
        kind,
        experiment,
        id=f"{kind}-{name}",
        marks=conformance(
            f"{kind}: {name}",
            seeds=1 if name == "700 steps" else 2,
            source="loops",
            statement=f"{words} has the oracle's losses, gradients, parameters and moments",
            is_quick=name in QUICK[kind],
        ),
    )
    for kind, words in WORDS.items()
    for name, experiment in EXPERIMENTS.items()
]


@pytest.mark.parametrize(("kind", "experiment"), CASES)
def test_a_loop_walks_the_oracles_path(kind: str, experiment: Experiment, stack: Stack, judge: Judge) -> None:
    under_test(stack)
    compilation = None
    if kind != "loop":
        from aeclaims.backends.torch.compile import Compilation

        is_step = kind == "compiled step"
        compilation = dataclasses.replace(stack.compilation or Compilation(), scope="step" if is_step else "model")
        if is_step and counts_in_python(stack, experiment):
            raise NotSupported("the optimizer's step changes Python state, on which torch.compile sets no guard")
        if is_step:  # each seed compiles its own step
            stack = dataclasses.replace(stack, seeds=stack.seeds[:1])
    after = (1, 10, 200, 700) if experiment == LONG else (1, 10, 200)
    judge_loop(stack, judge, experiment, compilation, after)
