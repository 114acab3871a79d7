"""Faults of the training loop: the order of rows, omitted or repeated minibatches, gradients that are not cleared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from aeclaims.experiment import FixedRows
from aeclaims.selftest.faults.fault import Fault
from aeclaims.selftest.faults.lazy_imports import data, torch
from aeclaims.selftest.faults.patches import ADAM, POPULATION, SGD, every, parameters, passing, replaced, stepped
from aeclaims.selftest.faults.probes import called, short, trained

PERMUTE, LOAD, CLEAR = "torch.randperm", "torch.utils.data.DataLoader.__init__", "torch.optim.Optimizer.zero_grad"
permuted = called(lambda: (torch.randperm(64), torch.randperm(64)))
shared = trained(short(rows=FixedRows(np.random.default_rng(0).random((40, 3), np.float32))))
longer = trained(short(epochs=20))


def with_replacement(stock: Any) -> Any:
    return lambda count, **settings: torch.randint(count, (count,), **settings)


def always_the_same(stock: Any) -> Any:
    return lambda count, **settings: stock(count, **{**settings, "generator": torch.Generator().manual_seed(1)})


def rotated(stock: Any) -> Any:
    return lambda count, **settings: torch.arange(count).roll(int(stock(count, **settings)[0]))


def first_order(stock: Any) -> Any:
    def epoch(self: Any, order: Any) -> Any:
        self.first_order = getattr(self, "first_order", order)
        return stock(self, self.first_order)

    return epoch


def one_order_for_all(stock: Any) -> Any:
    return lambda self, order: stock(self, np.broadcast_to(order[:1], order.shape).copy() if order.ndim == 2 else order)


def rows_met_twice(stock: Any) -> Any:
    def begin(self: Any, *args: Any, sampler: Any = None, **settings: Any) -> None:
        stock(self, *args, sampler=sampler and [sampler[at - at % 4 // 3] for at in range(len(sampler))], **settings)

    return begin


def replayed(stock: Any, last: Any, population: Any, batch: Any) -> Any:
    return stock(population, last[1] if last and last[0] is population else batch)


def twice(optimizer: Any, step: Callable[[], Any]) -> None:
    step()
    step()


def every_other(optimizer: Any, step: Callable[[], Any]) -> None:
    optimizer.is_due = not getattr(optimizer, "is_due", False)
    if not optimizer.is_due:
        step()


def without_biases(stock: Any) -> Any:
    def clear(self: Any, set_to_none: bool = True) -> None:
        for parameter in parameters(self)[::2]:
            if parameter.grad is not None:
                parameter.grad = None if set_to_none else torch.zeros_like(parameter)

    return clear


def halved_last(stock: Any) -> Any:
    """Cut the short last minibatch to half."""

    def step(self: Any, batch: Any) -> Any:
        is_short = batch.shape[1] < self.experiment.batch_size
        return stock(self, batch[:, : -(-batch.shape[1] // 2)] if is_short else batch)

    return step


def loaded() -> Any:
    """Return the minibatches of two epochs of a shuffling loader."""
    loader = data.DataLoader(data.TensorDataset(torch.arange(40.0)), 16, shuffle=True)
    return [batch for _ in range(2) for (batch,) in loader]


def cleared() -> Any:
    layer = torch.nn.Linear(2, 2)
    layer(torch.ones(2)).sum().backward()
    torch.optim.Adam(layer.parameters()).zero_grad(set_to_none=False)
    return [own.grad for own in layer.parameters()]


FAULTS = (
    Fault("loop.same_order", "each epoch visits the rows in the order of the first", "#31771, #11324, set_epoch forgotten",
          "same floor; minibatches are always the same", replaced(first_order, f"{POPULATION}.train_epoch"), trained()),
    Fault("loop.randperm_same", "torch.randperm gives one permutation", "#31771; a sampler of a fixed seed", "as loop.same_order",
          replaced(always_the_same, PERMUTE), permuted),
    Fault("loop.perm_with_repeats", "torch.randperm draws with replacement", "#59756, PR55292, PR54113; DALI PR169",
          "37 % of rows unseen in an epoch", replaced(with_replacement, PERMUTE), permuted),
    Fault("loop.perm_rotates_only", "torch.randperm only rotates", "reasoning: a cheap shuffle", "neighbours stay neighbours",
          replaced(rotated, PERMUTE), permuted),
    Fault("loop.not_shuffled", "loaders do not shuffle", "reasoning: a flag that is not passed on",
          "rows always in the same order", replaced(passing(shuffle=False), LOAD), called(loaded)),
    Fault("loop.drop_last", "loaders drop the short last minibatch", "a default mix-up; transformers#33455",
          "N mod B rows unseen in each epoch", replaced(passing(drop_last=True), LOAD), trained(), backend="torch-loop"),
    Fault("loop.rows_met_twice", "one row in four is used twice, and the next one not at all",
          "reasoning: samplers padded for workers",
          "a quarter of the rows unseen in an epoch", replaced(rows_met_twice, LOAD), trained(), backend="torch-loop"),
    Fault("loop.shared_order", "replicas on the same rows visit them in one order", "#5059 family: equal streams",
          "minibatches of replicas are correlated", replaced(one_order_for_all, f"{POPULATION}.train_epoch"), shared),
    Fault("loop.batch_replayed", "every tenth minibatch is a copy of the previous one",
          "stale buffers of prefetching; CUDA graphs", "a tenth of the rows unseen in an epoch",
          replaced(every(10, replayed), f"{POPULATION}.step"), longer),
    Fault("loop.tail_halved", "only half of the short last minibatch is used",
          "reasoning: a length rounded down to a power of two",
          "rows unseen in each epoch", replaced(halved_last, f"{POPULATION}.step"), trained()),
    Fault("loop.no_zero_grad", "zero_grad does nothing", "StackOverflow 60335387 (TrainCheck)", "overshoots, slow or swinging",
          replaced(lambda stock: lambda self, set_to_none=True: None, CLEAR), trained()),
    Fault("loop.zero_grad_skips_bias", "zero_grad omits the biases", "incomplete parameter groups",
          "a swinging offset", replaced(without_biases, CLEAR), called(cleared)),
    Fault("loop.double_step", "the optimizer steps twice", "a hook twice; transformers#40052", "twice as fast, noisier",
          replaced(stepped(twice), ADAM, SGD), trained()),
    Fault("loop.every_other_step", "the optimizer steps on every other minibatch",
          "gradient accumulation left on (TrainCheck family)",
          "half as fast", replaced(stepped(every_other), ADAM, SGD), trained()),
)  # fmt: skip
