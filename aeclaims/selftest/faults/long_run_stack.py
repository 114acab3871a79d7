"""A stack for late faults: the reference, one epoch at a time, under another name.

At literal sizes torch would take minutes for each fault. The agreement with the reference is judged, since the name differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from aeclaims.backends.backend import Backend
from aeclaims.experiment import Experiment
from aeclaims.run import Run
from aeclaims.selftest.faults.fault import Inject
from aeclaims.selftest.faults.lazy_imports import kernel, numba_population
from aeclaims.selftest.faults.patches import replaced
from aeclaims.start import Start

if TYPE_CHECKING:
    from aeclaims.backends.numba.population import SeedBatch

NAME, TRAIN, EPOCH = f"{__name__}:STACK", f"{__name__}.train", f"{__name__}.train_epoch"
Condition = Callable[[Experiment], bool]
Step = Callable[["SeedBatch"], None]


def train(start: Start) -> Run:
    """Train as the reference does, in one thread and one epoch at a time, so that a fault can begin late."""
    experiment = start.experiment
    population = numba_population.Population(experiment, start)
    for number in range(experiment.epochs):
        order = start.order(number)
        for seed_batch in population.seed_batches:
            own = order[seed_batch.seeds[0]] if order.ndim == 2 else order
            train_epoch(seed_batch, np.ascontiguousarray(own), number, number * experiment.steps_per_epoch)
    return Run(start, population.epoch_loss, population.collect())


def train_epoch(seed_batch: SeedBatch, order: Any, number: int, counted: int) -> None:
    """Train a seed batch for one epoch over the rows in that order; the optimizer has counted `counted` steps."""
    rows = seed_batch.rows
    if len(order) < len(rows):  # the loop runs over all rows
        rows, order = rows[order], np.arange(len(order), dtype=order.dtype)
    size, losses = seed_batch.experiment.batch_size, np.zeros((1, *seed_batch.parameters.shape[1:]))
    kernel.train_epochs(
        rows,
        order[None],
        size,
        *seed_batch.constants,
        counted,
        *seed_batch.workspace,
        seed_batch.parameters,
        seed_batch.gradient,
        seed_batch.first,
        seed_batch.second,
        losses,
    )
    seed_batch.epoch_loss[number, seed_batch.seeds] = losses.reshape(-1) / -(-len(order) // size)


# The lambda looks train up by name, so that patches of this module take effect.
STACK = Backend("late", lambda start: train(start))


def steps(seed_batch: SeedBatch, number: int) -> int:
    """Return the number of steps before an epoch."""
    return number * seed_batch.experiment.steps_per_epoch


def after(done: int, change: Step, meets: Condition = lambda experiment: True, *, once: bool = False) -> Inject:
    """Apply a change before each epoch that begins after `done` steps, if the training meets a condition.

    Args:
        done: Number of steps.
        change: Change of a seed batch.
        meets: Condition on the experiment.
        once: Whether to apply the change only before the first such epoch.
    """

    def changed(stock: Any) -> Any:
        def epoch(seed_batch: SeedBatch, order: Any, number: int, counted: int) -> None:
            is_first = steps(seed_batch, number - 1) < done
            if steps(seed_batch, number) >= done and (is_first or not once) and meets(seed_batch.experiment):
                change(seed_batch)
            stock(seed_batch, order, number, counted)

        return epoch

    return replaced(changed, EPOCH)


def setting(place: int, value: Callable[[float], float]) -> Step:
    """Change the optimizer's learning rate (place 0), decay (1) or momentum (2), in the reference's layout."""

    def change(seed_batch: SeedBatch) -> None:
        seed_batch.constants[5][place] = value(float(numba_population._optimizer(seed_batch.experiment)[1][place]))

    return change


def logged(change: Callable[[Experiment, Any], Any]) -> Inject:
    """Change the logged losses of a training, shape (E, S)."""

    def changed(stock: Any) -> Any:
        def run(start: Start) -> Run:
            sound = stock(start)
            return Run(start, change(start.experiment, sound.epoch_loss), sound.parameters)

        return run

    return replaced(changed, TRAIN)


def handed_back(epochs: Callable[[Experiment, Any], int]) -> Inject:
    """Return the parameters after epochs(experiment, losses) epochs in place of the final ones."""

    def changed(stock: Any) -> Any:
        def run(start: Start) -> Run:
            sound = stock(start)
            earlier = replace(start.experiment, epochs=epochs(start.experiment, sound.epoch_loss))
            parameters = stock(replace(start, experiment=earlier)).parameters
            return Run(start, sound.epoch_loss, parameters)

        return run

    return replaced(changed, TRAIN)
