"""The backends torch-loop and torch-compile: one seed at a time, in the training loop that you would write. Slow and obvious.

torch-compile is the same loop with torch.compile around the network, or around the step.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from aeclaims.backends.torch import parts
from aeclaims.backends.torch.compile import Compilation, begin_anew, quiet, unsupported_reason
from aeclaims.backends.torch.watch import Watch
from aeclaims.errors import NotSupported
from aeclaims.experiment import Adam
from aeclaims.run import Run
from aeclaims.runtime.progress import progress
from aeclaims.start import Start


def train(
    start: Start,
    *,
    device: str,
    compilation: Compilation | None = None,
    own: parts.Factory | None = None,
    needs_closure: bool = False,
) -> Run:
    """Train every seed of `start`, each from beginning to end.

    Args:
        start: The start; it holds its experiment.
        device: torch's name of the device.
        compilation: The arguments of torch.compile; None trains without a compiler.
        own: A custom optimizer in Adam's place.
        needs_closure: Whether the step of that optimizer needs a closure.
    Returns:
        The run.
    """
    epoch_loss = np.full((start.experiment.epochs, len(start.seeds)), np.nan)
    label, trained = "torch-loop" if compilation is None else "torch-compile", []
    with parts.conditions(start, device), progress(label, epoch_loss.size, losses=epoch_loss) as advance:
        loop = Loop(start, device=device, compilation=compilation, own=own, needs_closure=needs_closure)
        for seed in range(len(start.seeds)):
            loop.begin(seed)
            for epoch in range(start.experiment.epochs):
                epoch_loss[epoch, seed] = np.mean([loop.step(batch) for batch in loop.batches(epoch)])
                advance(1)
            trained.append([parameter.detach().clone() for parameter in loop.network.parameters()])
    return Run(start, epoch_loss, parts.collect([torch.stack(same) for same in zip(*trained, strict=True)]))


class Loop:
    """One network and its optimizer, in a plain training loop.

    Args:
        start: The start of all seeds.
        device: torch's name of the device.
        compilation: The arguments of torch.compile; None trains without a compiler.
        own: A custom optimizer in Adam's place.
        needs_closure: Whether the step of that optimizer needs a closure.
    """

    def __init__(
        self,
        start: Start,
        *,
        device: str,
        compilation: Compilation | None = None,
        own: parts.Factory | None = None,
        needs_closure: bool = False,
    ) -> None:
        self.start, self.experiment, self.device, self.own, self.compilation = (
            start,
            start.experiment,
            device,
            own,
            compilation,
        )
        self.rows, self.initial = start.rows(), start.parameters()
        self.network = parts.network(self.experiment.model, device, parts.torch_dtype(start.dtype))
        self.criterion = parts.LOSSES[self.experiment.loss]()
        takes_closure = needs_closure and isinstance(self.experiment.optimizer, Adam)
        self.take_step: Callable[[torch.Tensor], torch.Tensor] = (
            self.step_with_closure if takes_closure else self.plain_step
        )
        self.model: Callable[[torch.Tensor], torch.Tensor] = self.network
        self.watch = Watch()
        if compilation is not None:
            self.network.append(self.watch)
            begin_anew()
            if compilation.scope == "model":
                self.model = compilation(self.network)

    def begin(self, seed: int) -> None:
        """Begin with the initial parameters of the seed at that index, and with a new optimizer."""
        self.seed = seed
        parts.load(self.network, self.initial, seed)
        self.network.zero_grad()
        self.optimizer = parts.optimizer(self.experiment, list(self.network.parameters()), self.own)
        self.dataset = TensorDataset(parts.tensor(self.rows[seed if len(self.rows) > 1 else 0]).to(self.device))
        self.compiled_step = self.take_step
        if self.compilation is not None and self.compilation.scope == "step":
            begin_anew()
            self.compiled_step = self.compilation(self.take_step)

    def batches(self, epoch: int) -> Iterator[torch.Tensor]:
        """Return the minibatches of an epoch, (B, D) each, from a DataLoader."""
        order = self.start.order(epoch)
        sampler = (order[self.seed] if order.ndim == 2 else order).tolist()
        # The loader draws a seed for its workers. With a separate generator, the global one stays unchanged.
        loader = DataLoader(self.dataset, self.experiment.batch_size, sampler=sampler, generator=torch.Generator())
        return (batch for (batch,) in loader)

    def step(self, batch: torch.Tensor) -> float:
        """Take one training step, compiled if there are settings for it; returns the loss before it."""
        if self.compilation is None:
            return self.take_step(batch).item()
        try:
            with quiet():  # torch compiles at the first step, at the second, which has moments, and at each new size
                loss = self.compiled_step(batch).item()
            self.watch.require_compiled()
            return loss
        except Exception as error:
            if reason := unsupported_reason(error):
                raise NotSupported(reason) from error
            raise

    def plain_step(self, batch: torch.Tensor) -> torch.Tensor:
        """Take one training step as torch's documentation writes it; returns the loss before it."""
        if self.experiment.zero_grad:
            self.optimizer.zero_grad()
        loss = self.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()

    def step_with_closure(self, batch: torch.Tensor) -> torch.Tensor:
        """Take a step of an optimizer that may ask for the loss several times; returns the loss before it."""
        losses: list[torch.Tensor] = []

        def closure() -> torch.Tensor:
            if self.experiment.zero_grad:
                self.optimizer.zero_grad()
            loss = self.loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
            return loss

        self.optimizer.step(closure)
        return losses[0] if losses else torch.tensor(float("nan"))

    def loss(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of a minibatch, (B, D)."""
        with parts.rounded_products(self.start.products, self.device):
            output = self.model(batch)
        loss: torch.Tensor = self.criterion(output.to(batch.dtype), batch)
        return loss
