"""Faults of a suite like this one: in reports of its backends, in its runs and judges, and in its compiled programs.

The reference uses the same runs, judges and floors (H01, H06, H07, H13): a comparison with it cannot show such faults, but
counting by hand can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from aeclaims.errors import ClaimFailed
from aeclaims.experiment import Adam
from aeclaims.judging.judge import Judge, Proportion
from aeclaims.run import Run
from aeclaims.selftest.faults.fault import Fault, Inject
from aeclaims.selftest.faults.lazy_imports import torch
from aeclaims.selftest.faults.patches import POPULATION, both, compiled_as, optimizer_of, replaced, returning
from aeclaims.selftest.faults.probes import called, compiled, short, trained
from aeclaims.start import Start
from aeclaims.theory import floors

REACHED = "aeclaims.run.Run.first_epoch_below"
START = Start(short(), (0, 1, 2))
Reduce = Callable[[Any, Any], Any]


def history(reduce: Reduce) -> Inject:
    """Replace an epoch's loss by reduce(losses, sizes) of its M minibatches, with shapes (M, S) and (M, 1)."""

    def step(stock: Any) -> Any:
        def one(self: Any, batch: Any) -> Any:
            losses = stock(self, batch)
            self.seen.append((losses, batch.shape[1]))
            return losses

        return one

    def epoch(stock: Any) -> Any:
        def whole(self: Any, order: Any) -> Any:
            self.seen = []
            stock(self, order)
            losses, sizes = zip(*self.seen, strict=True)
            return reduce(torch.stack(losses).double(), torch.tensor(sizes, dtype=torch.float64)[:, None])

        return whole

    return both(replaced(step, f"{POPULATION}.step"), replaced(epoch, f"{POPULATION}.epoch"))


def added_in_half(losses: Any, sizes: Any) -> Any:
    total = torch.zeros_like(losses[0]).half()
    for loss in losses:
        total += loss.half()
    return total.double() / len(losses)


def logged_late(stock: Any) -> Any:
    def step(self: Any, batch: Any) -> Any:
        stock(self, batch)
        return self.losses(self.parameters, batch).detach()

    return step


def without_last_epoch(stock: Any) -> Any:
    """Omit the training of the last epoch, and report the previous loss for it."""

    def epoch(self: Any, order: Any) -> Any:
        self.epochs_trained = getattr(self, "epochs_trained", 0) + 1
        if 1 < self.epochs_trained == self.experiment.epochs:
            return self.reported
        self.reported = stock(self, order)
        return self.reported

    return epoch


def reached(is_below: Callable[[Any, float], Any], late: int = 0) -> Any:
    def first(self: Any, bound: float) -> Any:
        below = is_below(self.epoch_loss, bound)
        return np.where(below.any(axis=0), below.argmax(axis=0) + 1 + late, 0)

    return lambda stock: first


def epochs_to(bound: float) -> Any:
    """Return a probe of the first epoch below a bound of three replicas: one falls to 0.25, one stays, one is NaN."""
    losses = np.array([[0.5, 2.0, np.nan], [0.25, 2.0, np.nan], [0.25, 2.0, np.nan], [0.25, 2.0, np.nan]])
    return called(lambda: Run(START, losses, START.parameters()).first_epoch_below(bound))


def rejected(function: Callable[[Judge], None]) -> Any:
    """Return a probe of whether a judge rejects."""

    def judged() -> Any:
        try:
            function(Judge())
        except ClaimFailed:
            return 1
        return 0

    return called(judged)


def inclusive(stock: Any) -> Any:
    """Make a share's judge drop one hit, as if it confused P(X < k) with P(X <= k)."""
    return lambda self, hits, *rest, **kwargs: stock(self, np.asarray(hits) & (np.cumsum(hits) > 1), *rest, **kwargs)


def first_minibatch_only(function: Any, compiled: Any) -> Any:
    first: dict[Any, Any] = {}

    def stale(*arguments: Any) -> Any:
        *others, batch = arguments
        return compiled(*others, first.setdefault(batch.shape, batch.detach().clone()))

    return stale


@contextmanager
def rate_of_first() -> Iterator[None]:
    """Make compiled steps of one kind of optimizer use the first learning rate of that kind."""
    rates: dict[str, float] = {}

    def change(function: Any, compiled: Any) -> Any:
        def step(*arguments: Any) -> Any:
            optimizer = optimizer_of(function)
            for group in optimizer.param_groups if optimizer else ():
                group["lr"] = rates.setdefault(type(optimizer).__name__, group["lr"])
            return compiled(*arguments)

        return step

    with compiled_as(change)():
        yield


def count_of_second(function: Any, compiled: Any) -> Any:
    """Keep the count of steps of the second compiled step for ever."""
    calls: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    def stuck(*arguments: Any) -> Any:
        optimizer = optimizer_of(function)
        result = compiled(*arguments)
        if optimizer is not None:
            calls[optimizer] = calls.get(optimizer, 0) + 1
            for state in optimizer.state.values() if calls[optimizer] > 2 else ():
                if "step" in state:
                    state["step"].fill_(2)
        return result

    return stuck


OTHERS = "aeclaims.theory.floors.row_entropy"
FAULTS = (
    Fault("H01", "the first epoch below a bound is counted one too high", "suites like this one",
          "times one epoch longer", replaced(reached(lambda loss, bound: loss < bound, late=1), REACHED), epochs_to(0.3)),
    Fault("H02", "the history keeps the least minibatch loss of an epoch", "numalogic#53 class", "curves below the floor",
          history(lambda losses, sizes: losses.amin(dim=0)), trained()),
    Fault("H02-last", "the history keeps the last minibatch's loss of an epoch", "deepinv PR73 class",
          "noisier curves, a little lower", history(lambda losses, sizes: losses[-1]), trained()),
    Fault("H03", "the short last minibatch is weighted by its rows", "suites like this one", "under 1 % of a loss",
          history(lambda losses, sizes: (losses * sizes).sum(dim=0) / sizes.sum()), trained()),
    Fault("H04", "the loss is logged after the update", "suites like this one", "curves one step early",
          replaced(logged_late, f"{POPULATION}.step"), trained()),
    Fault("H05", "each replica's history is reported under the next", "suites like this one", "no statistic sees it",
          replaced(returning(lambda losses: np.roll(losses, 1)), f"{POPULATION}.train_epoch"), trained()),
    Fault("H06", "a loss on the bound counts as below it", "< and <= confused",
          "none, except for losses exactly on a bound",
          replaced(reached(lambda loss, bound: loss <= bound), REACHED), epochs_to(0.25)),
    Fault("H06-share", "a share's judge counts one hit too few", "P(X < k), not P(X <= k)",
          "slightly more false alarms than stated", replaced(inclusive, "aeclaims.judging.judge.Judge.proportion"), rejected(
              lambda judge: judge.proportion([True], Proportion(at_most=1e-9), what="hits", reason="", seeds=(0,)))),
    Fault("H07", "a replica that is NaN counts as below a bound", "not (loss >= bound), not loss < bound",
          "replicas that diverge pass", replaced(reached(lambda loss, bound: ~(loss >= bound)), REACHED), epochs_to(0.3)),
    Fault("H07-judge", "NaN lies within a judge's bounds", "not (value > bound), not value <= bound",
          "replicas that diverge pass",
          replaced(lambda stock: lambda self, values, **kwargs: stock(self, np.nan_to_num(values), **kwargs),
                   "aeclaims.judging.judge.Judge.all_within"),
          rejected(lambda judge: judge.all_within([np.nan], at_most=1.0, what="loss", reason="", seeds=(0,)))),
    Fault("H08", "compiled functions always see their first minibatch", "a captured graph without new inputs",
          "a few rows learnt by heart", compiled_as(first_minibatch_only), compiled(), backend="torch"),
    Fault("H09", "compiled steps of one kind of optimizer share the first learning rate", "a rate baked into a graph",
          "all learning rates are equal", rate_of_first, compiled(Adam(lr=3e-3), Adam(lr=1e-3)), backend="torch"),
    Fault("H09-count", "compiled steps never count beyond 2", "a count of steps baked into a graph",
          "steps always three times too long", compiled_as(count_of_second), compiled(), backend="torch"),
    Fault("H12", "the last epoch is missing", "range() off by one", "one epoch less", replaced(without_last_epoch,
          f"{POPULATION}.train_epoch"), trained()),
    Fault("H13", "floors are computed on the rows of the next replica", "suites like this one", "floors off by 1e-3",
          replaced(lambda stock: lambda rows: stock(np.roll(rows, 1, axis=0)), OTHERS),
          called(lambda: floors.entropy(START.rows()))),
    Fault("H14", "an epoch's losses are summed in float16", "suites like this one", "losses quantised to 1e-3",
          history(added_in_half), trained()),
)  # fmt: skip
