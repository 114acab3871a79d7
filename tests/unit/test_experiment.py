"""Experiments are checked when they are made: each error names the field, the value and a solution."""

import dataclasses
import math

import numpy as np
import pytest

from aeclaims import (
    IDENTITY,
    RELU,
    SGD,
    SIGMOID,
    Activation,
    Adam,
    Bernoulli,
    Beta,
    Experiment,
    FixedRows,
    InvalidExperiment,
    Model,
    Redundant,
    Uniform,
    UnknownBackend,
    affine,
    leaky_relu,
    mlp,
    train,
)

GOOD = {"rows": Uniform(features=2), "model": affine(2, 2, 2), "loss": "mse", "optimizer": Adam(lr=1e-3), "epochs": 1}
BCE = {"loss": "bce", "model": affine(2, 2, 2, output=SIGMOID)}
NAN_ROW = np.array([[0.5, 0.5], [0.5, math.nan]])


def experiment(**changes):
    return Experiment(**(GOOD | changes))


BAD_CALLS = [
    (lambda: affine(2, 2, 3), "Model.widths", "end with 2"),
    (lambda: affine(2, 0, 2), "Model.widths[1] = 0", "at least 1"),
    (lambda: affine(2), "Model.widths", "output width"),
    (lambda: affine(2, 1.5, 2), "Model.widths[1] = 1.5", "whole number"),
    (lambda: Model((2, 2), (IDENTITY, RELU)), "Model.activations", "one for each"),
    (lambda: Model((2, 2), ("relu",)), "Model.activations", "Activation values"),
    (lambda: Activation("swish"), "'swish'", "leaky_relu"),
    (lambda: leaky_relu(-0.1), "Activation.slope = -0.1", "at least 0"),
    (lambda: Activation("relu", 0.1), "Activation.slope", "only leaky_relu"),
    (lambda: Uniform(features=0), "Uniform.features = 0", "at least 1"),
    (lambda: Bernoulli(1.5, features=2), "Bernoulli.p = 1.5", "[0, 1]"),
    (lambda: Bernoulli(math.nan, features=2), "Bernoulli.p = nan", "[0, 1]"),
    (lambda: Beta(0, 1, features=2), "Beta.a = 0", "above 0"),
    (lambda: Beta(1, math.inf, features=2), "Beta.b = inf", "above 0"),
    (lambda: Redundant(0, features=2), "Redundant.rank = 0", "at least 1"),
    (lambda: Redundant(3, features=2), "Redundant.rank = 3", "at most"),
    (lambda: FixedRows(NAN_ROW), "FixedRows.array[1, 1] = nan", "drop or fill"),
    (lambda: FixedRows(np.array([[math.inf]])), "FixedRows.array[0, 0] = inf", "drop or fill"),
    (lambda: FixedRows(np.zeros(3)), "FixedRows.array.shape", "two axes"),
    (lambda: FixedRows(np.zeros((0, 3))), "FixedRows.array.shape", "at least one row"),
    (lambda: FixedRows([["a", "b"]]), "FixedRows.array", "numbers"),
    (lambda: Adam(lr=0), "Adam.lr = 0", "above 0"),
    (lambda: Adam(lr=-1e-3), "Adam.lr = -0.001", "above 0"),
    (lambda: Adam(lr=math.nan), "Adam.lr = nan", "above 0"),
    (lambda: Adam(lr="fast"), "Adam.lr = 'fast'", "above 0"),
    (lambda: Adam(betas=(0.9, 1.0)), "Adam.betas[1] = 1.0", "[0, 1)"),
    (lambda: Adam(betas=(0.9,)), "Adam.betas", "two"),
    (lambda: Adam(eps=0), "Adam.eps = 0", "above 0"),
    (lambda: Adam(weight_decay=-1), "Adam.weight_decay = -1", "at least 0"),
    (lambda: SGD(lr=math.inf), "SGD.lr = inf", "above 0"),
    (lambda: SGD(lr=1, momentum=1), "SGD.momentum = 1", "[0, 1)"),
    (lambda: experiment(epochs=0), "Experiment.epochs = 0", "at least 1"),
    (lambda: experiment(epochs=True), "Experiment.epochs = True", "whole number"),
    (lambda: experiment(n_rows=0), "Experiment.n_rows = 0", "at least 1"),
    (lambda: experiment(batch_size=0), "Experiment.batch_size = 0", "at least 1"),
    (lambda: experiment(loss="mae"), "Experiment.loss = 'mae'", "mse, bce, bce_logits"),
    (lambda: experiment(loss=["mse"]), "Experiment.loss = ['mse']", "mse, bce, bce_logits"),
    (lambda: experiment(initialisation="he"), "Experiment.initialisation = 'he'", "pytorch, glorot"),
    (lambda: experiment(zero_grad="no"), "Experiment.zero_grad", "True or False"),
    (lambda: experiment(rows="uniform"), "Experiment.rows = 'uniform'", "Uniform"),
    (lambda: experiment(model=[2, 2]), "Experiment.model", "Model"),
    (lambda: experiment(optimizer="adam"), "Experiment.optimizer = 'adam'", "Adam or SGD"),
    (lambda: experiment(model=affine(3, 3)), "Experiment.model.widths = (3, 3)", "2 features"),
    (lambda: experiment(loss="bce"), "Experiment.loss = 'bce'", "output=SIGMOID"),
    (lambda: experiment(loss="bce_logits", model=affine(2, 2, output=SIGMOID)), "'bce_logits'", "output=IDENTITY"),
    (lambda: experiment(rows=Redundant(1, features=2), **BCE), "Experiment.loss = 'bce'", "use loss='mse'"),
    (lambda: experiment(rows=FixedRows(np.array([[0.5, 1.5]])), **BCE), "from 0.5 to 1.5", "rescale"),
    (lambda: experiment(rows=FixedRows(np.zeros((5, 2))), n_rows=6), "Experiment.n_rows = 6", "5 rows are given"),
    (lambda: train(experiment(), seeds=[], backend="numba"), "seeds = ()", "at least one seed"),
    (lambda: train(experiment(), seeds=[1, 2, 1], backend="numba"), "seeds = 1", "repeats"),
    (lambda: train(experiment(), seeds=[-1], backend="numba"), "seeds = -1", "at least 0"),
    (lambda: train(experiment(), seeds=[0.5], backend="numba"), "seeds", "whole numbers"),
    (lambda: train(experiment(), seeds=7, backend="numba"), "seeds = 7", "range(64)"),
    (lambda: train(experiment(), seeds=[0], backend="numba", dtype="int8"), "dtype = 'int8'", "float32, bfloat16, float16"),
    (lambda: train(experiment(), seeds=[0], backend="numba", dtype="float99"), "dtype = 'float99'", "float32, bfloat16"),
    (lambda: train(experiment(), seeds=[0], backend="tensorflow"), "'tensorflow'",
     "torch, torch-eager, torch-compile, torch-cudagraph, torch-loop, numba, oracle"),
    (lambda: train(experiment(), seeds=[0], backend="no.such:thing"), "'no.such:thing'", "can be imported"),
    (lambda: train(experiment(), seeds=[0], backend="math:pi"), "'math:pi'", "train(start)"),
    (lambda: train(experiment(), seeds=[0], backend="numba", device="cuda"), "'cuda'", "a torch backend"),
    (lambda: train(experiment(), seeds=[0], backend="torch", device="abacus"), "'abacus'", "cpu"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "field", "way_out"), BAD_CALLS, ids=[field for _, field, _ in BAD_CALLS])
def test_a_bad_call_names_the_field_and_the_way_out(call, field, way_out):
    with pytest.raises((InvalidExperiment, UnknownBackend)) as raised:
        call()
    message = str(raised.value)
    assert field in message
    assert way_out in message


def test_an_experiment_is_a_frozen_value():
    assert experiment() == experiment()
    assert hash(experiment()) == hash(experiment())
    assert experiment() != experiment(epochs=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        experiment().epochs = 3


def test_given_rows_compare_by_value_and_cannot_be_changed():
    rows = np.full((4, 2), 0.25)
    given = FixedRows(rows)
    rows[:] = 9
    assert given == FixedRows(np.full((4, 2), 0.25))
    assert hash(given) == hash(FixedRows(np.full((4, 2), 0.25)))
    assert given != FixedRows(np.full((4, 2), 0.5))
    with pytest.raises(ValueError, match="read-only"):
        given.array[0, 0] = 1


def test_the_defaults_are_the_answers_set_up():
    made = experiment()
    assert (made.n_rows, made.batch_size, made.initialisation, made.steps_per_epoch) == (30_000, 128, "pytorch", 235)
    assert experiment(rows=FixedRows(np.zeros((7, 2)))).n_rows == 7


def test_a_model_knows_its_code_and_whether_it_is_affine():
    assert affine(4, 1, 4).bottleneck == 1
    assert affine(4, 4, output=SIGMOID).is_affine
    assert not mlp(4, 2, 4, hidden=RELU).is_affine


def test_every_error_of_the_package_has_one_root():
    import importlib
    import pkgutil

    import aeclaims
    import pytest_aeclaims

    names = [
        module.name
        for package in (aeclaims, pytest_aeclaims)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not module.name.endswith("__main__")
    ]
    # `Stopped` ends a training behind other work, and `ChildFailed` a child of the self-test: no caller sees them.
    internal = {"Stopped", "ChildFailed", "WrongUsage"}
    errors = {
        value
        for name in names
        for value in vars(importlib.import_module(name)).values()
        if isinstance(value, type)
        and issubclass(value, Exception)
        and value.__module__.startswith(("aeclaims", "pytest_ae"))
    }
    assert {error.__name__ for error in errors if not issubclass(error, aeclaims.AeclaimsError)} <= internal
    assert len(errors) > 10
