"""Why is my loss stuck? `explain` takes it apart: entropy, bottleneck, class, and what is left for training to win."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from aeclaims.anatomy import advice, classes, diagnoses
from aeclaims.anatomy.anatomy import TRAINED, Anatomy, Question, ReferenceValue
from aeclaims.anatomy.column_statistics import MOST_NUMBERS, Numbers, as_rows, column_statistics, sample
from aeclaims.anatomy.scale import reference_values
from aeclaims.backends import train
from aeclaims.experiment import Activation, Adam, Experiment, FixedRows, Model, require
from aeclaims.run import Run


def explain(
    rows: Any,
    *,
    loss: str,
    bottleneck: int | None = None,
    observed: float | None = None,
    activation: str | None = None,
    output: str | None = None,
    smoothing: float = 0.0,
    n_classes: int | None = None,
    dtype: str = "float32",
    batch_size: int = 128,
) -> Anatomy:
    """The anatomy of a loss on rows.

    observed = entropy + (output, class or bottleneck floor - entropy) + what is left for training.

    rows: (N, D), an array or what becomes one; images are flattened; a memory map is read in parts, and of more than 50
    million numbers a sample of rows is. For cross_entropy they are the targets: (N, C) distributions, or (N,) labels.
    loss: mse, bce (of probabilities), bce_logits, vae_bce (summed over features) or cross_entropy.
    bottleneck: the narrowest width.
    observed: the loss as it stands. activation: of the hidden layers; identity makes the class and bottleneck floors bounds.
    output: the last activation. smoothing, n_classes: of labels. dtype: float64, float32, float16 or bfloat16.
    Returns: an Anatomy, in `anatomy.question.unit`.
    Raises InvalidRows where rows are no numbers that the loss can take, InvalidExperiment where another argument is wrong.
    """
    anatomy: Anatomy = answer(
        Question(loss, bottleneck, observed, activation, output, smoothing, n_classes, dtype, batch_size), rows
    )
    return anatomy


# On a busy machine, threads of BLAS wait for each other: the asker's rows took 40 s, and take 0.8 with one.
@threadpool_limits.wrap(limits=1, user_api="blas")  # type: ignore[untyped-decorator]
def answer(question: Question, rows: Any, trained: Run | None = None) -> Anatomy:
    """The anatomy that answers a question about rows, with the loss that a run ended on among its levels; see `explain`."""
    given = as_rows(rows)
    if question.loss == "cross_entropy":
        return _of_classes(question, given)
    seen = column_statistics(given)
    found, notes = reference_values(question, seen)
    if trained is not None:
        scale = seen.features if question.loss == "vae_bce" else 1
        ended = ReferenceValue(TRAINED, float(np.median(trained.final_loss)) * scale, _set_up(trained.experiment))
        found = sorted([*found, ended], key=lambda level: level.value)
    return Anatomy(
        question,
        seen.count,
        seen.features,
        float(seen.low.min()),
        float(seen.high.max()),
        tuple(found),
        advice.sentence(question, found),
        tuple(advice.advise(question, seen, found)),
        tuple(diagnoses.diagnose(question, seen, found)),
        tuple(notes),
    )


def _of_classes(question: Question, given: Numbers) -> Anatomy:
    seen = classes.targets(question, given)
    found = classes.reference_values(question, seen)
    placed = [*diagnoses.of_output(question, found), *diagnoses.place(question, found, seen.classes, seen.count)]
    notes = [f"{len(seen.entropy):,} of {seen.count:,} rows were looked at"] * (len(seen.entropy) < seen.count)
    return Anatomy(
        question,
        seen.count,
        seen.classes,
        0,
        1,
        tuple(found),
        advice.sentence(question, found),
        tuple(classes.advise(question, seen, found)),
        tuple(placed),
        tuple(notes),
    )


def trained(
    question: Question,
    rows: Any,
    *,
    hidden: Iterable[int] = (),
    epochs: int = 50,
    lr: float = 1e-3,
    seeds: Iterable[int] = (0,),
) -> Run:
    """What the reference makes of these rows: affine layers of the `hidden` widths, else of the code, and Adam.

    The hidden activation is the question's, identity where it says none. Of more than 50 million numbers a sample is trained.
    Raises InvalidExperiment where the loss is not one that it trains, or the output does not fit the loss.
    """
    require(
        question.loss != "cross_entropy", "loss", question.loss, "its rows are targets without inputs: do not train"
    )
    given = as_rows(rows)
    features, inner = given.shape[1], tuple(hidden) or (question.bottleneck or given.shape[1],)
    activations = (_activation(question.activation or "identity"),) * len(inner) + (
        _activation(question.output or "identity"),
    )
    experiment = Experiment(
        rows=FixedRows(sample(given, max(2, MOST_NUMBERS // features))),
        model=Model((features, *inner, features), activations),
        loss="bce" if question.loss == "vae_bce" else question.loss,  # type: ignore[arg-type]  # Question has checked it
        optimizer=Adam(lr=lr),
        epochs=epochs,
        batch_size=question.batch_size,
    )
    return train(
        experiment, seeds=seeds, backend="numba", dtype="float64" if question.dtype == "float64" else "float32"
    )


def _activation(kind: str) -> Activation:
    return Activation(kind, 0.01 if kind == "leaky_relu" else 0.0)  # type: ignore[arg-type]  # Question has checked it


def _set_up(experiment: Experiment) -> str:
    """A training in a few words."""
    widths = "-".join(str(width) for width in experiment.model.widths)
    return (
        f"{widths} {experiment.model.activations[0].kind.replace('_', ' ')}, Adam {experiment.optimizer.lr:g}, "
        f"{experiment.epochs} epochs"
    )
