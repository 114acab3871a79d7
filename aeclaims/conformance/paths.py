"""Short trainings that together use all of the vocabulary. Backends are compared on them, step by step."""

import dataclasses

import numpy as np

from aeclaims.experiment import (
    IDENTITY,
    RELU,
    SGD,
    SIGMOID,
    TANH,
    Adam,
    Bernoulli,
    Beta,
    Experiment,
    FixedRows,
    Model,
    Redundant,
    Uniform,
    affine,
    leaky_relu,
    mlp,
)

STEPS = 200
# One minibatch per epoch, so that the loss of an epoch is the loss of a step.
_BASE = Experiment(
    rows=Uniform(features=3),
    model=affine(3, 2, 3),
    loss="mse",
    optimizer=Adam(lr=3e-3),
    epochs=STEPS,
    n_rows=48,
    batch_size=48,
)


def _with(**changes: object) -> Experiment:
    return dataclasses.replace(_BASE, **changes)  # type: ignore[arg-type]


def _few(**changes: object) -> Experiment:
    """Return a set-up with few rows, so that few rows come near a kink."""
    return _with(**changes, n_rows=8, batch_size=8)


# float32 represents these numbers exactly, so the rows are the same in every dtype.
_GIVEN = FixedRows(np.random.default_rng(0).random((70, 3), np.float32))

SETUPS = {
    "affine layers, MSE, Adam": _BASE,
    "ReLU": _few(model=mlp(3, 4, 3, hidden=RELU)),
    "leaky ReLU": _few(model=mlp(3, 4, 3, hidden=leaky_relu(0.1))),
    "tanh": _with(model=mlp(3, 5, 3, hidden=TANH)),
    "sigmoid": _with(model=mlp(3, 5, 3, hidden=SIGMOID)),
    "every activation, widths 3 to 7": _few(
        model=Model((3, 4, 7, 4, 6, 3), (RELU, TANH, leaky_relu(0.3), SIGMOID, IDENTITY))
    ),
    "tanh and sigmoid, widths 3 to 7": _with(model=Model((3, 7, 5, 4, 3), (TANH, SIGMOID, TANH, IDENTITY))),
    "a wide layer": _with(model=mlp(3, 40, 3, hidden=TANH)),
    "one feature": _with(rows=Uniform(features=1), model=mlp(1, 3, 1, hidden=TANH)),
    "BCE of probabilities": _with(model=affine(3, 2, 3, output=SIGMOID), loss="bce"),
    "BCE on logits": _with(loss="bce_logits"),
    "BCE of probabilities, bits": _with(
        rows=Bernoulli(0.3, features=3), model=affine(3, 3, 3, output=SIGMOID), loss="bce"
    ),
    "BCE on logits, rows near 0 and 1": _with(
        rows=Beta(0.1, 0.1, features=3), model=affine(3, 3, 3), loss="bce_logits"
    ),
    "MSE of a sigmoid": _with(model=affine(3, 2, 3, output=SIGMOID)),
    "normal rows of rank 1": _with(rows=Redundant(1, features=3)),
    "SGD": _with(optimizer=SGD(lr=0.1)),
    "SGD with momentum and decay": _with(optimizer=SGD(lr=0.05, momentum=0.9, weight_decay=0.01)),
    "Adam with decay": _with(optimizer=Adam(lr=3e-3, weight_decay=0.01)),
    "Adam with other moments and eps": _with(optimizer=Adam(lr=3e-3, betas=(0.8, 0.95), eps=1e-3)),
    "Glorot's initialisation": _with(initialisation="glorot"),
    "gradients that add up": _with(zero_grad=False, optimizer=SGD(lr=1e-3)),
    "a short last minibatch": _with(n_rows=110, epochs=67),
    "minibatches of one row": _with(n_rows=5, batch_size=1, epochs=40),
    "given rows": _with(rows=_GIVEN, n_rows=70, batch_size=32, epochs=67),
}

# `--claims-quick` follows the paths of these set-ups, and judges the gradients of all. They kill as many of 134 faults as all
# set-ups do, in a third of the time: one with kinks, one for each loss and optimizer, and those with several minibatches.
QUICK = (
    "affine layers, MSE, Adam",
    "ReLU",
    "tanh",
    "BCE of probabilities",
    "BCE on logits",
    "SGD with momentum and decay",
    "Adam with decay",
    "gradients that add up",
    "a short last minibatch",
    "given rows",
)

# For 64 seeds: as many as kernels take at once, and more.
POPULATION = _with(optimizer=SGD(lr=0.1), n_rows=110, epochs=10)

# Long enough to be worth compiling: 2,007 steps of whole minibatches. Stacks may treat such trainings differently.
LONG = {
    "affine layers": _with(n_rows=150, batch_size=16, epochs=223, optimizer=Adam(lr=1e-3)),
    # The same program as the first, if programs are kept; its learning rate differs.
    "affine layers, another rate": _with(n_rows=150, batch_size=16, epochs=223, optimizer=Adam(lr=2e-3)),
    "tanh, log-loss": _with(
        n_rows=150,
        batch_size=16,
        epochs=223,
        optimizer=Adam(lr=1e-3),
        loss="bce",
        model=mlp(3, 5, 3, hidden=TANH, output=SIGMOID),
    ),
}
