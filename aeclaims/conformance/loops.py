"""States of a training loop and of the oracle: losses, gradients, parameters and moments after some steps."""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from aeclaims.backends import no_skipping, oracle
from aeclaims.conformance.stack import ROUNDINGS, SINGLE, Stack, relative
from aeclaims.experiment import Adam, Experiment
from aeclaims.judging.judge import Judge
from aeclaims.run import Double
from aeclaims.start import checked

if TYPE_CHECKING:
    from aeclaims.backends.torch.compile import Compilation

AFTER = (1, 10, 200)
WHY = "rounding errors may grow as they do along the oracle's path in float32"
# By number of steps and name of the quantity: an array of all seeds, (S, ...).
States = dict[tuple[int, str], Double]


@lru_cache(maxsize=64)
def oracle_states(
    experiment: Experiment,
    seeds: tuple[int, ...],
    dtype: str,
    counts: tuple[int, ...],
    count_type: Callable[[int], Any] = int,
) -> tuple[Double, States]:
    """Return the oracle's losses of all steps, (steps, S), and its states after some of them."""
    losses, states = list[Double](), States()
    for count, step in enumerate(islice(oracle.steps(checked(experiment, seeds, dtype), count_type), max(counts)), 1):
        losses.append(step.loss.astype(np.float64))
        if count in counts:
            kinds = {"gradient": step.gradients, "parameter": [array for layer in step.after for array in layer]}
            if isinstance(experiment.optimizer, Adam):
                kinds |= {"first moment": step.m, "second moment": step.v}
            elif experiment.optimizer.momentum:
                kinds |= {"velocity": step.m}
            for kind, arrays in kinds.items():
                states |= {
                    (count, f"{kind} of the {name}"): array.astype(np.float64)
                    for name, array in zip(names(len(arrays)), arrays, strict=True)
                }
    return np.array(losses, np.float64), states


def loop_states(
    stack: Stack, experiment: Experiment, counts: tuple[int, ...], compilation: "Compilation | None"
) -> tuple[Double, States]:
    """Return the same quantities of a plain training loop, on the stack's device and in its dtype."""
    from aeclaims.backends.torch import parts
    from aeclaims.backends.torch.loop import Loop

    start = stack.start(experiment)
    losses: list[list[float]] = []
    by_seed: list[States] = []
    with parts.conditions(start, stack.backend.device), no_skipping(f"backend {stack.backend.name}"):
        loop = Loop(start, device=stack.backend.device, compilation=compilation)
        for seed in range(len(start.seeds)):
            loop.begin(seed)
            batches = islice(
                (batch for epoch in range(experiment.epochs) for batch in loop.batches(epoch)), max(counts)
            )
            own, states = list[float](), States()
            for count, batch in enumerate(batches, 1):
                own.append(loop.step(batch))
                if count in counts:
                    states |= {(count, name): value for name, value in _state(loop)}
            losses.append(own)
            by_seed.append(states)
    return np.array(losses).T, {key: np.stack([states[key] for states in by_seed]) for key in by_seed[0]}


def _state(loop: Any) -> Iterable[tuple[str, Double]]:
    """Yield the present state of a loop, by the oracle's names."""
    words = {"exp_avg": "first moment", "exp_avg_sq": "second moment", "momentum_buffer": "velocity"}
    parameters = list(loop.network.parameters())
    for name, parameter in zip(names(len(parameters)), parameters, strict=True):
        kept = {word: loop.optimizer.state[parameter].get(key) for key, word in words.items()}
        for kind, tensor in {"gradient": parameter.grad, "parameter": parameter, **kept}.items():
            if tensor is not None:
                yield f"{kind} of the {name}", tensor.detach().cpu().double().numpy().copy()


def python_state(value: Any, inside: tuple[int, ...] = ()) -> Any:
    """Return the state of an optimizer that lies in Python objects, not in tensors, in a comparable form."""
    import torch

    if isinstance(value, bool | int | float | str | None):
        return value
    if torch.is_tensor(value) or id(value) in inside:
        return type(value).__name__
    inside = (*inside, id(value))
    if isinstance(value, Mapping):
        return [
            (id(key) if torch.is_tensor(key) else str(key), python_state(one, inside)) for key, one in value.items()
        ]
    if isinstance(value, list | tuple | set):
        return [python_state(one, inside) for one in value]
    if not hasattr(value, "__dict__"):  # such as itertools.count, whose repr shows its state
        return repr(value)
    return [type(value).__name__, python_state(vars(value), inside)]


def counts_in_python(stack: Stack, experiment: Experiment) -> bool:
    """Return whether the stock optimizer changes Python state from step to step.

    torch.compile sets no guard on such state (torch 2.13).
    """
    from aeclaims.backends.torch import parts
    from aeclaims.backends.torch.loop import Loop

    start = stack.start(experiment, stack.seeds[:1])
    with parts.conditions(start, stack.backend.device):
        loop = Loop(start, device=stack.backend.device)
        loop.begin(0)
        seen = []
        for batch in islice((batch for epoch in range(experiment.epochs) for batch in loop.batches(epoch)), 3):
            loop.step(batch)
            seen.append(python_state(vars(loop.optimizer)))
    return bool(seen[1] != seen[2])  # the first step creates the state


def names(count: int) -> list[str]:
    """Return the names of weights and biases, in their order."""
    return [f"{kind} of layer {layer}" for layer in range(1, count // 2 + 1) for kind in ("weight", "bias")]


def judge_loop(
    stack: Stack,
    judge: Judge,
    experiment: Experiment,
    compilation: "Compilation | None" = None,
    after: tuple[int, ...] = AFTER,
) -> None:
    """Judge the losses of all steps, and gradients, parameters and moments after some of them."""
    steps = experiment.epochs * experiment.steps_per_epoch
    counts = tuple(sorted({min(count, steps) for count in after}))
    exact_losses, exact = oracle_states(experiment, stack.seeds, "float64", counts)
    counts_on_device = compilation is not None and compilation.scope == "step"
    rounded_losses, rounded = oracle_states(
        experiment, stack.seeds, "float32", counts, np.float32 if counts_on_device else int
    )
    seen_losses, seen = loop_states(stack, experiment, counts, compilation)
    clear = np.repeat(stack.away_from_relu_kinks(experiment), experiment.steps_per_epoch, axis=0)[: max(counts)]
    grown = np.maximum.accumulate(np.where(clear, relative(rounded_losses, exact_losses), 0).max(axis=1)) / SINGLE
    before = np.vstack([np.ones((1, len(stack.seeds)), bool), clear[:-1]])
    allowed = np.where(before, stack.times * (grown[:, None] + ROUNDINGS) * stack.eps, np.inf)

    def judge_states(chosen: Iterable[tuple[int, str]]) -> None:
        for count, name in chosen:
            is_clear, values = clear[count - 1], exact[count, name]
            if is_clear.any():
                growth = float(np.where(is_clear, _off(rounded[count, name], values), 0).max()) / SINGLE
                bound = np.where(is_clear, stack.times * (growth + ROUNDINGS) * stack.eps, np.inf)
                judge.all_within(
                    _off(seen[count, name], values),
                    at_most=bound,
                    seeds=stack.seeds,
                    reason=WHY,
                    what=f"{name} after step {count}, deviation relative to the largest",
                )

    # An error of the first step is named before its consequences: the loss, the layers from the last to the first, the optimizer.
    judge.all_within(
        relative(seen_losses, exact_losses)[:1],
        at_most=allowed[:1],
        seeds=stack.seeds,
        reason=WHY,
        what="loss of step 1, relative deviation from the oracle",
    )
    judge_states(key for key in reversed(exact) if key[0] == 1 and key[1].startswith("gradient"))
    judge_states(key for key in exact if key[0] == 1)
    judge.all_within(
        relative(seen_losses, exact_losses),
        at_most=allowed,
        seeds=stack.seeds,
        reason=WHY,
        what="relative deviation of step losses from the oracle (the epochs below are steps)",
    )
    judge_states(key for key in exact if key[0] > 1)


def _off(seen: Double, exact: Double) -> Double:
    """Return each seed's largest deviation, relative to the largest value of all seeds, (S,)."""
    scale = max(float(np.abs(exact).max()), float(np.finfo(np.float32).tiny))
    return np.asarray(np.abs(seen.astype(np.float64) - exact).reshape(len(exact), -1).max(axis=1) / scale)
