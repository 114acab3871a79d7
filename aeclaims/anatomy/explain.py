"""Why is my loss stuck? `explain` takes a loss apart: entropy, bottleneck, model class, and the gain left for training."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from aeclaims.anatomy import advice, classes, diagnoses
from aeclaims.anatomy.column_statistics import MOST_NUMBERS, Numbers, as_rows, column_statistics, sample
from aeclaims.anatomy.records import TRAINED, Anatomy, Question, ReferenceValue
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
    """Take the loss of a model on your rows apart.

        observed = entropy + (output, class or bottleneck floor - entropy) + rest, which training can remove

    Args:
        rows: Array of shape (N, D), or a value that NumPy converts to one. Images are flattened. A memory map is read in
            parts. If there are more than 50 million numbers, a sample of rows is used. For cross_entropy, rows are the
            targets: distributions, shape (N, C), or labels, shape (N,).
        loss: One of mse, bce (of probabilities), bce_logits, vae_bce (summed over features) and cross_entropy.
        bottleneck: Narrowest width.
        observed: Present loss of your model.
        activation: Activation of the hidden layers. If it is identity, the class and bottleneck floors are bounds.
        output: Last activation.
        smoothing: Smoothing of the labels.
        n_classes: Number of classes of the labels.
        dtype: One of float64, float32, float16 and bfloat16.
        batch_size: Rows of a minibatch, B.

    Returns:
        The parts of the loss, in `anatomy.question.unit`.

    Raises:
        InvalidRows: If rows are not numbers that the loss can take.
        InvalidExperiment: If another argument is invalid.
    """
    anatomy: Anatomy = answer(
        Question(loss, bottleneck, observed, activation, output, smoothing, n_classes, dtype, batch_size), rows
    )
    return anatomy


# On a busy machine, BLAS threads wait for each other. The asker's rows took 40 s, and take 0.8 s with one thread.
@threadpool_limits.wrap(limits=1, user_api="blas")  # type: ignore[untyped-decorator]
def answer(question: Question, rows: Any, trained: Run | None = None) -> Anatomy:
    """Answer a question about rows, see `explain`.

    Args:
        question: Question about the loss.
        rows: Array of shape (N, D), or the targets of cross_entropy.
        trained: Run whose final loss joins the reference values.
    """
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
    notes = [f"a sample of {len(seen.entropy):,} of {seen.count:,} rows was used"] * (len(seen.entropy) < seen.count)
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
    """Train the reference backend on these rows with Adam.

    If there are more than 50 million numbers, it trains on a sample of the rows.

    Args:
        question: Question about the loss. Its activation is that of the hidden layers, by default identity.
        rows: Array of shape (N, D).
        hidden: Widths of the hidden layers, by default the bottleneck.
        epochs: Number of epochs, E.
        lr: Learning rate of Adam.
        seeds: One seed for each replica.

    Raises:
        InvalidExperiment: If the reference cannot train the loss, or the output does not fit the loss.
    """
    require(
        question.loss != "cross_entropy", "loss", question.loss, "the rows are targets without inputs: do not train"
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
    """Describe a training in a few words."""
    widths = "-".join(str(width) for width in experiment.model.widths)
    return (
        f"{widths} {experiment.model.activations[0].kind.replace('_', ' ')}, Adam {experiment.optimizer.lr:g}, "
        f"{experiment.epochs} epochs"
    )
