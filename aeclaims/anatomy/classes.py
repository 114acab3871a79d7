"""Targets of cross-entropy: labels, one-hot rows or soft rows, with optional label smoothing."""

from dataclasses import dataclass

import numpy as np

from aeclaims.anatomy.column_statistics import MOST_NUMBERS, Double, Numbers, chunks, sample
from aeclaims.anatomy.records import ENTROPY, MEAN, OUTPUT, Advice, Question, ReferenceValue, value
from aeclaims.anatomy.scale import placed
from aeclaims.errors import InvalidRows
from aeclaims.theory import floors

# Largest distance from 1 of the sum of a row of float16 probabilities.
SLACK = 2e-3


@dataclass(frozen=True, eq=False)
class Targets:
    """Targets of cross-entropy, and the entropy of the sampled rows.

    Attributes:
        count: Number of rows, N.
        classes: Number of classes, C.
        entropy: Entropy of each sampled row, shape (n,).
        shares: Mean target, shape (C,).
        is_hard: Whether all targets are one-hot.
    """

    count: int
    classes: int
    entropy: Double
    shares: Double
    is_hard: bool

    @property
    def error(self) -> float:
        """Standard error of the mean entropy; 0 if all rows are in the sample."""
        n = len(self.entropy)
        return float(self.entropy.std(ddof=1) / np.sqrt(n) * np.sqrt(1 - n / self.count))


def targets(question: Question, rows: Numbers) -> Targets:
    """Return the smoothed targets.

    Args:
        question: Question about the loss.
        rows: Labels, shape (N, 1), or distributions, shape (N, C).

    Raises:
        InvalidRows: If a label is not the number of a class, or a row is not a distribution.
    """
    if rows.shape[1] == 1:
        return _labels(question, rows[:, 0])
    classes, smoothing = rows.shape[1], question.smoothing
    if question.n_classes not in (None, classes):
        raise InvalidRows(
            f"{classes} columns for {question.n_classes} classes: give one column for each class, or one column of labels"
        )
    seen = sample(rows, max(2, MOST_NUMBERS // classes))
    entropy, sums, is_hard = np.empty(len(seen)), np.zeros(classes), True
    for begin, part in chunks(seen):
        total = part.sum(axis=1)
        is_distribution = (part >= 0).all(axis=1) & (np.abs(total - 1) <= SLACK)
        if not is_distribution.all():
            at = int(np.argmin(is_distribution))
            raise InvalidRows(
                f"row {begin + at} is not a distribution: from {part[at].min():g} to {part[at].max():g}, sum "
                f"{total[at]:g}; give probabilities of the classes that sum to 1, or one column of labels"
            )
        is_hard &= bool((part.max(axis=1) == 1).all())
        smoothed = (1 - smoothing) * part / total[:, None] + smoothing / classes
        sums += smoothed.sum(axis=0)
        entropy[begin : begin + len(part)] = floors.row_class_entropy(smoothed[None])[0]
    return Targets(len(rows), classes, entropy, sums / len(seen), is_hard)


def _labels(question: Question, labels: Numbers) -> Targets:
    if not (np.isfinite(labels).all() and (labels == np.floor(labels)).all() and labels.min() >= 0):
        at = int(np.argmin(np.isfinite(labels) & (labels == np.floor(labels)) & (labels >= 0)))
        raise InvalidRows(
            f"row {at}: {labels[at]} is not a label; a single column holds the numbers of classes, from 0"
        )
    classes = question.n_classes or max(2, int(labels.max()) + 1)
    if labels.max() >= classes:
        raise InvalidRows(
            f"row {int(labels.argmax())}: label {int(labels.max())} is too large for {classes} classes, which count from 0"
        )
    if classes > MOST_NUMBERS:
        raise InvalidRows(f"{classes:,} classes are too many: check that this column holds labels")
    shares = np.bincount(labels.astype(np.int64), minlength=classes) / len(labels)
    floor = floors.smoothing_floor(classes, question.smoothing)
    return Targets(
        len(labels),
        classes,
        np.full(len(labels), floor),
        (1 - question.smoothing) * shares + question.smoothing / classes,
        is_hard=True,
    )


def reference_values(question: Question, found: Targets) -> list[ReferenceValue]:
    """Return the reference values of cross-entropy, in ascending order."""
    note = "CE(t, p) = H(t) + KL(t || p): irreducible by any model"
    if found.is_hard:
        note = (
            f"labels smoothed by {question.smoothing:g}: irreducible by any model"
            if question.smoothing
            else "hard labels have none: a certain and correct prediction costs 0"
        )
    mean = float(floors.row_class_entropy(found.shares[None, None])[0, 0])
    scale = [
        ReferenceValue(ENTROPY, float(found.entropy.mean()), note, True, found.error),
        ReferenceValue(MEAN, mean, "the shares of the classes, for every row"),
    ]
    if question.output == "softmax" and found.is_hard:
        scale.append(
            ReferenceValue(
                OUTPUT,
                floors.softmax_twice_floor(found.classes, question.smoothing),
                "the loss applies a softmax: probabilities that are read as logits reach no lower",
                True,
            )
        )
    return placed(question, scale)


def advise(question: Question, found: Targets, scale: list[ReferenceValue]) -> list[Advice]:
    """Return the changes that would lower the floor of cross-entropy, each with the floor that it would give."""
    entropy, mean, advices = value(scale, ENTROPY), value(scale, MEAN), []
    if question.output == "softmax":
        advices.append(Advice("output: no activation, because the loss applies the softmax", entropy, mean))
    if entropy > 0:
        advices.append(Advice("report: the loss minus the entropy, KL(t || p)", 0.0, mean - entropy))
    if question.smoothing and found.is_hard:
        shares = (found.shares - question.smoothing / found.classes) / max(1 - question.smoothing, 1e-9)
        advices.append(
            Advice("labels: not smoothed", 0.0, float(floors.row_class_entropy(shares.clip(0)[None, None])[0, 0]))
        )
    return advices
