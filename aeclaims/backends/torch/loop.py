"""The torch-loop backend: one seed at a time, the way people write a training loop. Slow and obvious."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from aeclaims.backends.torch import parts as torch_parts
from aeclaims.experiment import Adam, Experiment
from aeclaims.progress import progress
from aeclaims.run import Run
from aeclaims.start import Start

LossOf = Callable[[torch.Tensor], torch.Tensor]


def train(
    experiment: Experiment, start: Start, *, device: str, own: torch_parts.Factory | None = None, needs_closure: bool = False,
) -> Run:
    """Train every seed of `start`, each from beginning to end; by an optimizer of the user's own in Adam's place."""
    dtype = torch_parts.torch_dtype(start.dtype)
    rows, initial = start.rows(), start.parameters()
    epoch_loss = np.full((experiment.epochs, len(start.seeds)), np.nan)
    networks, is_closed = [], needs_closure and isinstance(experiment.optimizer, Adam)
    with torch_parts.default_dtype(dtype), progress("torch-loop", epoch_loss.size, losses=epoch_loss) as advance:
        for seed in range(len(start.seeds)):
            network = torch_parts.network(experiment.model, device, dtype)
            torch_parts.load(network, initial, seed)
            loss_of = partial(mean_loss, network, torch_parts.LOSSES[experiment.loss](), start, device)
            optimizer = torch_parts.optimizer(experiment, list(network.parameters()), own)
            dataset = TensorDataset(torch_parts.tensor(rows[seed if len(rows) > 1 else 0]).to(device))
            for epoch in range(experiment.epochs):
                order = start.order(epoch)
                sampler = (order[seed] if order.ndim == 2 else order).tolist()
                # The loader draws a seed for its workers; a generator of its own leaves the global one alone.
                loader = DataLoader(dataset, experiment.batch_size, sampler=sampler, generator=torch.Generator())
                losses = []
                for (batch,) in loader:
                    if is_closed:
                        losses.append(closed_step(experiment, loss_of, optimizer, batch))
                        continue
                    if experiment.clear_gradients:
                        optimizer.zero_grad()
                    loss = loss_of(batch)
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    losses.append(loss.item())
                epoch_loss[epoch, seed] = np.mean(losses)
                advance(1)
            networks.append(network)
    stacked = [torch.stack(same) for same in zip(*(network.parameters() for network in networks), strict=True)]
    return Run(start, epoch_loss, torch_parts.collect(stacked))


def mean_loss(network: nn.Sequential, criterion: nn.Module, start: Start, device: str, batch: torch.Tensor) -> torch.Tensor:
    """The loss of a minibatch, (B, D)."""
    with torch_parts.rounded_products(start, device):
        output = network(batch)
    loss: torch.Tensor = criterion(output.to(batch.dtype), batch)
    return loss


def closed_step(experiment: Experiment, loss_of: LossOf, optimizer: Any, batch: torch.Tensor) -> float:
    """A step of an optimizer that asks for the loss as often as it likes; returns the loss before it."""
    losses = []

    def closure() -> torch.Tensor:
        if experiment.clear_gradients:
            optimizer.zero_grad()
        loss = loss_of(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.item())
        return loss

    optimizer.step(closure)
    return losses[0] if losses else float("nan")
