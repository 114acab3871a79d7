"""The torch and torch-eager backends: a population trained at once by vmap, with torch's autograd and optimizers.

torch-eager keeps seeds on the first axis and runs each step as torch does without a compiler. torch compiles several
steps into one call where that pays: on a CPU, for long trainings. It then keeps seeds on the last axis, where the
vector units are, and has inductor lower the batched products of nn.Linear to multiply-adds, as inductor itself does
for shapes it deems too small for BLAS; forward, backward and optimizer are otherwise traced from torch's own code.
"""

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from aeclaims.backends import torch_parts
from aeclaims.experiment import Experiment
from aeclaims.progress import progress
from aeclaims.run import Run
from aeclaims.start import Start

# A compilation costs about 10 s, an eager step 1 ms more than a compiled one.
COMPILING_PAYS_FROM_STEPS = 10_000
# More steps in one call save Python's overhead again, but each costs seconds of compilation.
MOST_STEPS_IN_A_CALL = 6

Losses = torch.Tensor


class Population:
    """All replicas' parameters, stacked on `axis`, with the optimizer that trains them."""

    def __init__(self, experiment: Experiment, start: Start, device: str, axis: int) -> None:
        dtype = torch_parts.torch_dtype(start.dtype)
        initial = start.parameters()
        networks = []
        for seed in range(len(start.seeds)):
            networks.append(torch_parts.network(experiment.model, device, dtype))
            torch_parts.load(networks[-1], initial, seed)
        stacked, _ = stack_module_state(networks)  # type: ignore[arg-type]
        self.clears, self.axis = experiment.clear_gradients, axis
        self.parameters = {name: nn.Parameter(values.detach().movedim(0, axis).contiguous())
                           for name, values in stacked.items()}
        for parameter in self.parameters.values():
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer = torch_parts.optimizer(experiment, list(self.parameters.values()))
        skeleton = torch_parts.network(experiment.model, "meta", dtype)
        criterion = torch_parts.LOSSES[experiment.loss]()

        def loss(parameters: dict[str, torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = criterion(functional_call(skeleton, parameters, (batch,)), batch)
            return output

        self.losses = vmap(loss, in_dims=(axis, axis))
        self.gradients = vmap(grad_and_value(loss), in_dims=(axis, axis), out_dims=(axis, 0))

    def step(self, batch: torch.Tensor) -> Losses:
        """One training step as people write it; returns each replica's loss before it, (S,)."""
        if self.clears:
            self.optimizer.zero_grad(set_to_none=False)
        losses: torch.Tensor = self.losses(self.parameters, batch)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return losses.detach()

    def steps(self, batches: torch.Tensor) -> Losses:
        """The same for several minibatches, (steps, ...), written so that it compiles into one graph: (steps, S)."""
        found = []
        for batch in batches.unbind():
            gradients, losses = self.gradients(self.parameters, batch)
            for name, parameter in self.parameters.items():
                assert parameter.grad is not None
                parameter.grad.copy_(gradients[name] if self.clears else parameter.grad + gradients[name])
            _bare_step(self.optimizer)(self.optimizer)
            found.append(losses)
        return torch.stack(found)


def _bare_step(optimizer: torch.optim.Optimizer) -> Callable[[torch.optim.Optimizer], Any]:
    """The optimizer's own step, without torch's wrapper around it, which only sets the grad mode and breaks the graph.

    Wrappers that are not torch's stay on.
    """
    wrapper = torch.optim.Optimizer.__init__.__code__.co_filename
    step: Callable[[torch.optim.Optimizer], Any] = inspect.unwrap(
        type(optimizer).step, stop=lambda f: f.__code__.co_filename != wrapper)  # type: ignore[attr-defined]
    return step


def train(experiment: Experiment, start: Start, *, device: str, is_compiled: bool) -> Run:
    """Train every seed of `start` at once."""
    full_steps = experiment.n_rows // experiment.batch_size
    compiles = (is_compiled and torch.device(device).type == "cpu"
                and full_steps * experiment.epochs >= COMPILING_PAYS_FROM_STEPS)
    together = _largest_divisor(full_steps, MOST_STEPS_IN_A_CALL) if compiles else 1
    axis = -1 if compiles else 0
    with torch_parts.default_dtype(torch_parts.torch_dtype(start.dtype)):
        population = Population(experiment, start, device, axis)
        pick = _picker(start, device, axis)
        steps = _compile(population) if compiles else None
        epoch_loss = np.empty((experiment.epochs, len(start.seeds)))
        with progress("torch" if is_compiled else "torch-eager", experiment.epochs) as advance:
            for epoch in range(experiment.epochs):
                order = torch.from_numpy(start.order(epoch).astype(np.int64)).to(device)
                losses = []
                begin = 0
                while begin < experiment.n_rows:
                    end = begin + experiment.batch_size * together
                    if steps is not None and end <= experiment.n_rows:
                        batches = pick(order[..., begin:end])
                        losses.append(steps(batches.unflatten(0, (together, experiment.batch_size))))
                    else:
                        end = min(begin + experiment.batch_size, experiment.n_rows)
                        losses.append(population.step(pick(order[..., begin:end]))[None])
                    begin = end
                epoch_loss[epoch] = torch.cat(losses).double().mean(dim=0).cpu().numpy()
                advance(1)
    final = [values.detach().movedim(axis, 0) for values in population.parameters.values()]
    return Run(start, epoch_loss, torch_parts.collect(final))


def _picker(start: Start, device: str, axis: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from row numbers to those rows of every replica: (B,) or (S, B) to (S, B, D), or (B, D, S) for axis -1."""
    rows = torch_parts.tensor(start.rows()).to(device)
    if start.has_shared_rows:
        return lambda order: rows[0][order].movedim(0, axis).contiguous()
    if axis == 0:
        return lambda order: rows.index_select(1, order)
    last = rows.movedim(0, -1).contiguous()
    return lambda order: last.index_select(0, order)


def _largest_divisor(number: int, limit: int) -> int:
    return max(divisor for divisor in range(1, limit + 1) if number % divisor == 0) if number else 1


def _compile(population: Population) -> Callable[[torch.Tensor], Losses]:
    """population.steps compiled into one graph; where no compiler works, one eager step at a time, and a warning."""
    # Each training is a new program: without a reset, dynamo would give up on compiling after eight of them.
    torch.compiler.reset()
    compiled = torch.compile(torch.no_grad()(population.steps), backend=_inductor, fullgraph=True, dynamic=False)

    def eagerly(batches: torch.Tensor) -> Losses:
        return torch.stack([population.step(batch) for batch in batches.unbind()])

    def at_first(batches: torch.Tensor) -> Losses:
        # Optimizers create their state in their first step; a graph traced before that would miss it.
        nonlocal current
        current = compiling
        return eagerly(batches)

    def compiling(batches: torch.Tensor) -> Losses:
        nonlocal current
        try:
            losses: torch.Tensor = compiled(batches)
        except Exception as error:
            warnings.warn(f"torch could not compile the training step and trains eagerly, which is slower: "
                          f"{type(error).__name__}: {str(error).splitlines()[0]}", RuntimeWarning, stacklevel=3)
            current = eagerly
            return eagerly(batches)
        current = compiled
        return losses

    current: Callable[[torch.Tensor], Losses] = at_first
    return lambda batches: current(batches)


def _inductor(graph: Any, inputs: Any) -> Any:
    from torch._inductor.compile_fx import compile_fx
    from torch._inductor.decomposition import select_decomp_table

    return compile_fx(graph, inputs, decompositions={**select_decomp_table(), torch.ops.aten.bmm.default: _multiply_add})


def _multiply_add(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Batched product as multiply-adds with the batch on the last axis of the result's memory, where seeds are."""
    left, right = left.permute(1, 2, 0), right.permute(1, 2, 0)
    return (left.unsqueeze(2) * right.unsqueeze(0)).sum(1).permute(2, 0, 1)


