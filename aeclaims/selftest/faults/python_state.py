"""Faults in Python code outside torch's kernels: late hooks, optimizers and loaders, counts in Python, and item().

Most of them begin after 500 steps: short checks cannot see them, and compiled programs do not contain them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from aeclaims.selftest.faults import hooks
from aeclaims.selftest.faults.fault import Fault, Inject
from aeclaims.selftest.faults.hooks import (
    LATE,
    LINEAR,
    MODULE,
    OPTIMIZER,
    late,
    late_hook,
    late_pre_hook,
    on_each,
    registered,
)
from aeclaims.selftest.faults.lazy_imports import torch
from aeclaims.selftest.faults.optimizer import by_hand
from aeclaims.selftest.faults.patches import ADAM, counted, forwarded, parameters, replaced, stepped
from aeclaims.selftest.faults.probes import Probe, looped, short, trained

# ------------------------------------------------------------------ optimizers, losses, loaders in Python


def of_nine_bits(count: int) -> int:
    return count % 512 or 1


def counting(changed: Callable[[int], int]) -> Inject:
    """Replace Adam by a version that counts steps in Python, and change the count before each use."""

    def change(optimizer: Any, step: Callable[[], Any]) -> None:
        own = optimizer.__dict__.setdefault("python_count", [0])
        own[0] += 1
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                state = optimizer.state[parameter]
                if "step" in state:
                    state["step"].fill_(changed(own[0]) - 1)
        step()

    return replaced(lambda stock: stepped(change)(by_hand()(stock)), ADAM)


@contextmanager
def one_count() -> Iterator[None]:
    """Make all Adam optimizers of a process share one count of steps."""
    total = 0

    def change(optimizer: Any, step: Callable[[], Any]) -> None:
        nonlocal total
        total += 1
        for state in optimizer.state.values():
            if "step" in state:
                state["step"].fill_(total - 1)
        step()

    with replaced(stepped(change), ADAM)():
        yield


def instead_of_adam(step: Callable[[Any, Callable[[], Any]], Any]) -> Inject:
    """Replace torch.optim.Adam by a subclass with step(optimizer, Adam's step)."""

    def subclass(stock: Any) -> Any:
        class Adam(stock):  # type: ignore[misc]
            def step(self, closure: Any = None) -> Any:
                return step(self, lambda: stock.step(self, closure))

        return Adam

    return replaced(subclass, "torch.optim.Adam")


def dropping(optimizer: Any, step: Callable[[], Any]) -> Any:
    return None if counted(optimizer) > LATE and optimizer.steps_counted % 7 == 0 else step()


def shrinking(optimizer: Any, step: Callable[[], Any]) -> Any:
    result = step()
    if counted(optimizer) > LATE:
        with torch.no_grad():
            for parameter in parameters(optimizer):
                parameter.mul_(1 - 1e-4)
    return result


class Wrapper:
    """A wrapper of an optimizer that raises its learning rate by 5 % at step 500."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.steps = inner, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def step(self, closure: Any = None) -> Any:
        """Take one step of the wrapped optimizer."""
        self.steps += 1
        for group in self.inner.param_groups if self.steps == LATE else ():
            group["lr"] *= 1.05
        return self.inner.step(closure)


def not_cleared(stock: Any) -> Any:
    """Disable zero_grad in one step of ten from step 500 on."""
    calls: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    def clear(self: Any, set_to_none: bool = True) -> None:
        calls[self] = calls.get(self, 0) + 1
        if calls[self] < LATE or calls[self] % 10:
            stock(self, set_to_none)

    return clear


def in_half(stock: Any) -> Any:
    return lambda self: stock(self.half()) if self.is_floating_point() else stock(self)


def loaded(change: Callable[[Any], Any], begins: int = LATE) -> Inject:
    """Change a loader's minibatches from the 500th pass over its dataset on."""

    def made(stock: Any) -> Any:
        def iterate(self: Any) -> Any:
            count = self.dataset.__dict__["loaders_counted"] = self.dataset.__dict__.get("loaders_counted", 0) + 1
            return map(change, stock(self)) if count >= begins else stock(self)

        return iterate

    return replaced(made, "torch.utils.data.DataLoader.__iter__")


def first_row_again(batch: Any) -> Any:
    return [torch.cat([each[:-1], each[:1]]) if len(each) > 1 else each for each in batch]


def filled_up(stock: Any) -> Any:
    """Fill the short last minibatch with copies of its first row."""

    def iterate(self: Any) -> Any:
        for batch in stock(self):
            lacking = min(self.batch_size or 1, len(self.dataset)) - len(batch[0])
            yield [torch.cat([each, each[:1].expand(lacking, *each.shape[1:])]) for each in batch] if lacking else batch

    return iterate


# -------------------------------------------------------------------------------------------- records


def fault(name: str, does: str, origin: str, expected: str, change: Inject, shows: Probe) -> Fault:
    return Fault(f"python-state.{name}", does, origin, expected, change, shows, backend="torch")


LONG = trained(short(epochs=220), seeds=(0,))


def two_trainings(backend: str) -> Iterable[Any]:
    """Return losses and parameters of two trainings, one after the other."""
    return [values for _ in range(2) for values in trained(short(), seeds=(0,))(backend)]


LOOP = looped(short(epochs=220))
ONE_BATCH = looped(short(n_rows=16, epochs=520))
FAULTS = (
    fault("hook_rounds", "from step 500 on, a global hook rounds parameters to bfloat16 after each step",
          "a callback that casts for a checkpoint; DeepSpeed#1801 class", "updates below 0.4 % are lost, late",
          registered(f"{OPTIMIZER}_post_hook", late(hooks.rounded)), LONG),
    fault("hook_momentum", "from step 500 on, a hook of each optimizer clears the first moments every 20 steps",
          "TrainCheck: states not restored", "a little slower, late",
          on_each("register_step_post_hook", late(hooks.without_momentum)), LONG),
    fault("hook_gradients", "from step 600 on, a hook before each step scales gradients by 1.01",
          "transformers#40052 family: a rescale that comes late", "Adam hides it after a while",
          on_each("register_step_pre_hook", late(hooks.scaled_gradients(1.01), 600)), LONG),
    fault("hook_clips", "from step 500 on, a global hook clips gradients to a norm of 1e-3", "DeepCrime OCG; #148259",
          "steps of other sizes, late", registered(f"{OPTIMIZER}_pre_hook", late(hooks.clipped)), LONG),
    fault("hook_rate", "at step 500 a hook halves the learning rate", "DeepCrime HLR; a scheduler left on", "slower, late",
          registered(f"{OPTIMIZER}_post_hook", late(hooks.slowed)), LONG),
    fault("hook_average", "at step 550 a moving average takes the weights' place",
          "reasoning: averages that are swapped in but not out", "a jump back",
          registered(f"{OPTIMIZER}_post_hook", late(hooks.averaged, 1)), LONG),
    fault("hook_outputs", "from their 500th call on, a global hook rounds the outputs of layers to bfloat16",
          "#65766 family: a cast left on", "forward off by 5e-4, late",
          registered(f"{MODULE}_hook", late_hook(lambda y: forwarded(y.bfloat16().to(y.dtype), y))), LONG),
    fault("hook_inputs", "from their 500th call on, a hook of layers scales their inputs by 1.0005",
          "reasoning: an observer of ranges that begins to quantise", "other curves, late",
          on_each("register_forward_pre_hook", late_pre_hook(lambda x: x * 1.0005), LINEAR), LONG),
    fault("count_of_9_bits", "Adam counts steps in Python, and restarts after 511", "reasoning: a counter of few bits",
          "its bias correction restarts during a training", counting(of_nine_bits), LONG),
    fault("count_by_hundreds", "Adam counts steps in Python, rounded down to hundreds from step 100 on",
          "reasoning: a logged step number is used", "bias corrections a little too small, for 1,000 steps",
          counting(lambda count: count if count < 100 else count // 100 * 100), LONG),
    fault("one_count", "all Adam optimizers of a process share one count of steps", "#5059 family: state of a class",
          "later trainings begin without bias correction", one_count, two_trainings),
    fault("subclass_drops", "a subclass of Adam omits one step in seven after step 500", "#115607 (TrainCheck)",
          "a seventh slower, late", instead_of_adam(dropping), LONG),
    fault("subclass_decays", "a subclass of Adam shrinks parameters by 0.01 % in each step after step 500",
          "AdamW's default; FlagGems#4988", "a floor a little higher, late", instead_of_adam(shrinking), LONG),
    fault("wrapper_rate", "a wrapper of Adam raises the learning rate by 5 % at step 500", "DeepCrime HLR",
          "a little faster, late",
          replaced(lambda stock: lambda *args, **kwargs: Wrapper(stock(*args, **kwargs)), "torch.optim.Adam"),
          LONG),
    fault("not_cleared", "from step 500 on, zero_grad does nothing in one step of ten", "StackOverflow 60335387 (TrainCheck)",
          "one step in ten has two gradients", replaced(not_cleared, "torch.optim.Optimizer.zero_grad"), LONG),
    fault("item_half", "item() goes through float16", "reasoning: a log of few bits", "losses quantised to 1e-3",
          replaced(in_half, "torch.Tensor.item"), LOOP),
    fault("loader_row", "from the 500th epoch on, the last row of each minibatch is its first row again",
          "stale buffers of prefetching; #114844 class", "a row unseen in each epoch, late", loaded(first_row_again), ONE_BATCH),
    fault("loader_half", "from the 500th epoch on, rows are rounded to float16", "reasoning: a cache of few bits",
          "floors of other rows, late", loaded(lambda batch: [each.half().to(each.dtype) for each in batch]), ONE_BATCH),
    fault("loader_fills_up", "the short last minibatch is filled with copies of its first row", "samplers padded for workers",
          "one row weighs more", replaced(filled_up, "torch.utils.data.DataLoader.__iter__"), LOOP),
)  # fmt: skip
