"""The torch and torch-eager backends: a population trained at once by vmap, with torch's autograd and optimizers.

torch-eager runs each step as torch does without a compiler. torch compiles one or several steps into one call where
that pays: on a CPU, for long trainings. Forward, backward and optimizer are traced from torch's own code; inductor_pass.py
has their small products lowered in a way that suits them.
"""

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from aeclaims.backends import torch_parts
from aeclaims.backends.inductor_pass import WIDEST_WITHOUT_BLAS, MinibatchLast
from aeclaims.experiment import Experiment
from aeclaims.progress import progress
from aeclaims.run import Double, Run
from aeclaims.start import Parameters, Start

# A compilation costs 3 to 10 s, an eager step 1 to 3 ms more than a compiled one.
COMPILING_PAYS_FROM_STEPS = 2_000
# Several steps in one call save 0.04 ms of Python a step; each costs 2 s to compile, 5 s where layers are wider.
UNROLLING_PAYS_FROM_STEPS = 60_000
MOST_STEPS_IN_A_CALL = 3
WIDEST_OF_SHORT_STEPS = 4
Steps = Callable[[torch.Tensor], torch.Tensor]


def train(experiment: Experiment, start: Start, *, device: str, is_compiled: bool) -> Run:
    """Train every seed of `start` at once."""
    steps = experiment.n_rows // experiment.batch_size * experiment.epochs
    pays = is_compiled and torch.device(device).type == "cpu" and steps >= COMPILING_PAYS_FROM_STEPS
    threads = 1 if pays and max(experiment.model.widths) <= WIDEST_WITHOUT_BLAS else None
    epoch_loss = np.empty((experiment.epochs, len(start.seeds)))
    with torch_parts.default_dtype(torch_parts.torch_dtype(start.dtype)), torch_parts.threads(threads):
        population = Population(experiment, start, device=device, is_compiled=pays)
        with progress("torch" if is_compiled else "torch-eager", experiment.epochs) as advance:
            for epoch in range(experiment.epochs):
                epoch_loss[epoch] = population.train_epoch(start.order(epoch))
                advance(1)
    return Run(start, epoch_loss, population.collect())


class Population:
    """All replicas, stacked on one axis, and the optimizer that trains them."""

    def __init__(self, experiment: Experiment, start: Start, *, device: str, is_compiled: bool) -> None:
        self.experiment, self.device, self.is_compiled, self.is_warm = experiment, device, is_compiled, False
        self.pick = self._picker(start)
        self.parameters = self._parameters(start)
        # Rates that lie in a tensor are no part of the program: trainings that differ by them are compiled once.
        rate = torch.tensor(experiment.optimizer.lr, dtype=torch.float64) if is_compiled else None
        self.optimizer = torch_parts.optimizer(experiment, list(self.parameters.values()), rate)
        self.losses, self.gradients = self._functions(torch_parts.torch_dtype(start.dtype))
        full_steps = experiment.n_rows // experiment.batch_size
        is_short = max(experiment.model.widths) <= WIDEST_OF_SHORT_STEPS
        unrolls = is_compiled and is_short and full_steps * experiment.epochs >= UNROLLING_PAYS_FROM_STEPS
        self.together = _largest_divisor(full_steps, MOST_STEPS_IN_A_CALL) if unrolls else 1
        self.steps: Steps = CompiledSteps(self) if is_compiled else self.eager_steps

    def train_epoch(self, order: npt.NDArray[np.uint32]) -> Double:
        """One epoch over the rows in that order, (N,) or (S, N); returns the mean of its minibatch losses, (S,)."""
        # What the first epoch compiled fits all: a population's shapes never change, so that no step has to check them.
        with torch.compiler.set_stance("default", skip_guard_eval_unsafe=self.is_warm):
            losses = self._train_epoch(order)
        self.is_warm = self.is_compiled
        return losses

    def _train_epoch(self, order: npt.NDArray[np.uint32]) -> Double:
        size, count = self.experiment.batch_size, self.experiment.n_rows
        rows = torch.from_numpy(order.astype(np.int64)).to(self.device)
        losses = []
        for begin in range(0, count, size * self.together):
            end = begin + size * self.together
            picked = self.pick(rows[..., begin:end])
            if end <= count:
                losses.append(self.steps(picked.unflatten(1, (self.together, size)).movedim(1, 0)))
            else:  # fewer rows than a call takes: what is left of an epoch, its short minibatch last
                losses += [self.step(batch)[None] for batch in picked.split(size, dim=1)]
        return np.asarray(torch.cat(losses).double().mean(dim=0).cpu().numpy())

    def step(self, batch: torch.Tensor) -> torch.Tensor:
        """One training step as people write it; returns each replica's loss before it, (S,)."""
        if self.experiment.clear_gradients:
            self.optimizer.zero_grad(set_to_none=False)
        losses: torch.Tensor = self.losses(self.parameters, batch)
        losses.sum().backward()
        self.optimizer.step()
        return losses.detach()

    def eager_steps(self, batches: torch.Tensor) -> torch.Tensor:
        """A step for each of the minibatches, (steps, ...); returns (steps, S)."""
        return torch.stack([self.step(batch) for batch in batches.unbind()])

    def graph_steps(self, batches: torch.Tensor) -> torch.Tensor:
        """The same as `eager_steps`, written so that it compiles into one graph."""
        found = []
        for batch in batches.unbind():
            gradients, losses = self.gradients(self.parameters, batch)
            for name, parameter in self.parameters.items():
                assert parameter.grad is not None
                clears = self.experiment.clear_gradients
                parameter.grad.copy_(gradients[name] if clears else parameter.grad + gradients[name])
            _bare_step(self.optimizer)(self.optimizer)
            found.append(losses)
        return torch.stack(found)

    def collect(self) -> Parameters:
        """The parameters as they now are, seeds first."""
        return torch_parts.collect(self.parameters.values())

    def _parameters(self, start: Start) -> dict[str, nn.Parameter]:
        initial, networks = start.parameters(), []
        for seed in range(len(start.seeds)):
            networks.append(torch_parts.network(self.experiment.model, self.device, torch_parts.torch_dtype(start.dtype)))
            torch_parts.load(networks[-1], initial, seed)
        stacked, _ = stack_module_state(networks)
        parameters = {name: nn.Parameter(values.detach()) for name, values in stacked.items()}
        for parameter in parameters.values():
            parameter.grad = torch.zeros_like(parameter)
        return parameters

    def _functions(self, dtype: torch.dtype) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Each replica's loss on its own minibatch, and its gradient with the loss."""
        skeleton = torch_parts.network(self.experiment.model, "meta", dtype)
        criterion = torch_parts.LOSSES[self.experiment.loss]()

        def loss(parameters: dict[str, torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
            output = functional_call(skeleton, parameters, (batch,))
            # A mean does not ask for the order: compiled, it is summed as it lies in memory.
            mean: torch.Tensor = criterion(output.mT, batch.mT) if self.is_compiled else criterion(output, batch)
            return mean

        return vmap(loss), vmap(grad_and_value(loss))

    def _picker(self, start: Start) -> Callable[[torch.Tensor], torch.Tensor]:
        """From row numbers, (B,) or (S, B), to those rows of every replica: (S, B, D)."""
        rows = torch_parts.tensor(start.rows()).to(self.device)
        if start.has_shared_rows:
            return lambda order: rows[0][order]
        if not self.is_compiled:  # with rows that lie otherwise, eager torch sums a mean of 6,000 less well, 56 roundings off
            return lambda order: rows.index_select(1, order)
        # All replicas' rows of one number side by side: B long copies instead of S B short ones.
        by_number = rows.transpose(0, 1).contiguous()
        return lambda order: by_number.index_select(0, order).transpose(0, 1)


def _bare_step(optimizer: torch.optim.Optimizer) -> Callable[[torch.optim.Optimizer], Any]:
    """The optimizer's own step, without torch's wrappers around it, which only set the grad mode and break the graph.

    Wrappers that are not torch's stay on.
    """
    wrappers = torch.optim.Optimizer.__init__.__code__.co_filename
    step: Callable[[torch.optim.Optimizer], Any] = inspect.unwrap(
        type(optimizer).step, stop=lambda f: f.__code__.co_filename != wrappers)
    return step


def _largest_divisor(number: int, limit: int) -> int:
    return max((divisor for divisor in range(1, limit + 1) if number % divisor == 0), default=1)


class CompiledSteps:
    """A population's graph_steps, compiled; where no compiler works, its eager steps, and a warning."""

    def __init__(self, population: Population) -> None:
        # Each training is a new program: without a reset, dynamo would give up on compiling after eight of them.
        torch.compiler.reset()
        self.eager_steps, self.optimizer = population.eager_steps, population.optimizer
        self.graph = torch.compile(torch.no_grad()(population.graph_steps), fullgraph=True, dynamic=False, options={
            "joint_custom_pre_pass": MinibatchLast(), "size_asserts": False, "alignment_asserts": False, "scalar_asserts": False})
        self.chosen: Steps = self.at_first

    def __call__(self, batches: torch.Tensor) -> torch.Tensor:
        """A step for each of the minibatches, (steps, ...); returns (steps, S)."""
        return self.chosen(batches)

    def at_first(self, batches: torch.Tensor) -> torch.Tensor:
        """Optimizers create their state in their first step; a graph traced before that would miss it.

        Eager Adam corrects its moments in double precision. A graph does so in that of its count of steps: float32 puts
        step sizes off by 2e-5 at first, which a network that still breaks symmetries grows to 3e-4 of the loss.
        """
        self.chosen = self.compiling
        losses = self.eager_steps(batches)
        for state in self.optimizer.state.values():
            if "step" in state:
                state["step"] = state["step"].double()
        return losses

    def compiling(self, batches: torch.Tensor) -> torch.Tensor:
        """The first call compiles, or shows that nothing can."""
        try:
            # The compiler's modules warn of each other's deprecations; `-W error` must not stop a training for that.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                losses: torch.Tensor = self.graph(batches)
        except Exception as error:
            self.chosen = self.eager_steps
            warnings.warn(f"torch could not compile the training step and trains eagerly, which is slower: "
                          f"{type(error).__name__}: {str(error).splitlines()[0]}", RuntimeWarning, stacklevel=4)
            return self.chosen(batches)
        self.chosen = self.graph
        return losses
