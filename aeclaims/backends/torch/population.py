"""The torch and torch-eager backends: a population trained at once by vmap, with torch's autograd and optimizers.

torch-eager runs each step as torch does without a compiler. torch compiles its step where that pays: on a CPU, for
trainings that are not short (torch_compiled.py).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.func import functional_call, grad_and_value, vmap

from aeclaims import processors
from aeclaims.backends.torch import parts as torch_parts
from aeclaims.backends.torch_compiled import WIDEST_WITHOUT_BLAS, CompiledSteps
from aeclaims.experiment import Adam, Experiment
from aeclaims.progress import progress
from aeclaims.run import Double, Run
from aeclaims.start import Parameters, Start

# A compilation costs 3 to 6 s, an eager step 1 to 3 ms more than a compiled one.
COMPILING_PAYS_FROM_STEPS: Final = 2_000
# Compiled steps whose minibatches are picked from the rows at once: Python costs as much for one as for all.
PICKED_AT_ONCE: Final = 16
Steps = Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]


def train(
    experiment: Experiment, start: Start, *, device: str, is_compiled: bool, compiler: str = "",
    own: torch_parts.Factory | None = None,
) -> Run:
    """Train every seed of `start` at once; by an optimizer of the user's own in Adam's place, where there is one.

    Compiled where that pays, or, where a compiler of torch is named, in any case.
    """
    epoch_loss = np.full((experiment.epochs, len(start.seeds)), np.nan)
    with conditions(experiment, start, device):
        population = Population(experiment, start, device=device, compiler=compiler or "inductor", own=own,
                                is_compiled=bool(compiler) or (is_compiled and _pays(start, device)))
        with progress("torch" if is_compiled else "torch-eager", experiment.epochs, losses=epoch_loss) as advance:
            for epoch in range(experiment.epochs):
                epoch_loss[epoch] = population.train_epoch(start.order(epoch))
                advance(1)
    return Run(start, epoch_loss, population.collect())


def _pays(start: Start, device: str) -> bool:
    """Whether compiling makes a training of that many steps shorter; with rounded products it was not tried."""
    experiment = start.experiment
    steps = experiment.n_rows // experiment.batch_size * experiment.epochs
    return torch.device(device).type == "cpu" and not start.products and steps >= COMPILING_PAYS_FROM_STEPS


@contextmanager
def conditions(experiment: Experiment, start: Start, device: str) -> Iterator[None]:
    """How torch is set while a population trains: its default dtype, its threads, and that denormals count as zero."""
    # A compiled step of narrow networks takes 10 to 100 us: two threads wait for each other as long as they work, and five
    # times as long where other processes want the processors too.
    threads = 1 if max(experiment.model.widths) <= WIDEST_WITHOUT_BLAS else processors.count()
    dtype = torch_parts.torch_dtype(start.dtype)
    with torch_parts.default_dtype(dtype), torch_parts.threads(threads), torch_parts.flushed_denormals(device):
        yield


class Population:
    """All replicas, stacked on one axis, and the optimizer that trains them."""

    def __init__(
        self, experiment: Experiment, start: Start, *, device: str, is_compiled: bool = False, is_fused: bool = False,
        compiler: str = "inductor", own: torch_parts.Factory | None = None,
    ) -> None:
        self.experiment, self.device = experiment, device
        self.own = own if isinstance(experiment.optimizer, Adam) else None
        self.pick, self.steps_picked = self._picker(start, is_compiled), PICKED_AT_ONCE if is_compiled else 1
        skeleton = torch_parts.network(experiment.model, "meta", torch_parts.torch_dtype(start.dtype))
        self.parameters = self._parameters(start, [name for name, _ in skeleton.named_parameters()])
        self.optimizer = torch_parts.optimizer(experiment, list(self.parameters.values()), own, is_fused=is_fused)
        criterion = torch_parts.LOSSES[experiment.loss]()

        def loss(parameters: Mapping[str, torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
            with torch_parts.rounded_products(start, device):
                output = functional_call(skeleton, dict(parameters), (batch,)).to(batch.dtype)
            # A mean does not ask for the order: compiled, it is summed as it lies in memory.
            mean: torch.Tensor = criterion(output.mT, batch.mT) if is_compiled else criterion(output, batch)
            return mean

        self.losses, self.gradients = vmap(loss), vmap(grad_and_value(loss))
        self.steps: Steps = CompiledSteps(self, compiler) if is_compiled else self.eager_steps

    def train_epoch(self, order: npt.NDArray[np.uint32]) -> Double:
        """One epoch over the rows in that order, (N,) or (S, N); returns the mean of its minibatch losses, (S,)."""
        losses = self.epoch(torch.from_numpy(order.astype(np.int64)).to(self.device))
        return np.asarray(losses.cpu().numpy())

    def epoch(self, rows: torch.Tensor) -> torch.Tensor:
        """`train_epoch`, of row numbers and with losses on the device: nothing waits for it."""
        size = self.experiment.batch_size
        losses: list[torch.Tensor] = []
        for some in rows.split(self.steps_picked * size, dim=-1):
            batches = self.pick(some).split(size, dim=1)
            full = len(batches) - (batches[-1].shape[1] < size)
            losses += [*self.steps(batches[:full]), *self.eager_steps(batches[full:])]
        return torch.stack(losses).double().mean(dim=0)

    def eager_steps(self, batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """A step on each of the minibatches, in their order; returns the losses of each."""
        return [self.step(batch) for batch in batches]

    def step(self, batch: torch.Tensor) -> torch.Tensor:
        """One training step as people write it, on (S, B, D); returns each replica's loss before it, (S,)."""
        if self.experiment.clear_gradients:
            self.optimizer.zero_grad(set_to_none=False)
        losses: torch.Tensor = self.losses(self.parameters, batch)
        losses.sum().backward()
        self.optimizer.step()
        return losses.detach()

    def collect(self) -> Parameters:
        """The parameters as they now are, seeds first."""
        return torch_parts.collect(self.parameters.values())

    def _parameters(self, start: Start, names: list[str]) -> dict[str, nn.Parameter]:
        """Stacked on the first axis, as torch.func.stack_module_state stacks them, without a module for each seed."""
        initial = [values for layer in start.parameters() for values in layer]
        parameters = {name: nn.Parameter(torch_parts.tensor(values).clone().to(self.device))
                      for name, values in zip(names, initial, strict=True)}
        for parameter in parameters.values():
            parameter.grad = torch.zeros_like(parameter)
        return parameters

    def _picker(self, start: Start, is_compiled: bool) -> Callable[[torch.Tensor], torch.Tensor]:
        """From row numbers, (B,) or (S, B), to those rows of every replica: (S, B, D)."""
        rows = torch_parts.tensor(start.rows()).to(self.device)
        if start.has_shared_rows:
            return lambda order: rows[0][order.mT].transpose(0, 1)
        if not is_compiled:  # with rows that lie otherwise, eager torch sums a mean of 6,000 less well, 56 roundings off
            return lambda order: rows.index_select(1, order)
        # All replicas' rows of one number side by side: B long copies instead of S B short ones.
        by_number = rows.transpose(0, 1).contiguous()
        return lambda order: by_number.index_select(0, order).transpose(0, 1)
