"""The torch-loop backend: one seed at a time, the way people write a training loop. Slow and obvious."""

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from aeclaims.backends import torch_parts
from aeclaims.experiment import Experiment
from aeclaims.progress import progress
from aeclaims.run import Run
from aeclaims.start import Start


def train(experiment: Experiment, start: Start, *, device: str) -> Run:
    """Train every seed of `start`, each from beginning to end."""
    dtype = torch_parts.torch_dtype(start.dtype)
    rows, initial = start.rows(), start.parameters()
    epoch_loss = np.empty((experiment.epochs, len(start.seeds)))
    networks = []
    with torch_parts.default_dtype(dtype), progress("torch-loop", experiment.epochs * len(start.seeds)) as advance:
        for seed in range(len(start.seeds)):
            network = torch_parts.network(experiment.model, device, dtype)
            torch_parts.load(network, initial, seed)
            criterion = torch_parts.LOSSES[experiment.loss]()
            optimizer = torch_parts.optimizer(experiment, list(network.parameters()))
            dataset = TensorDataset(torch_parts.tensor(rows[seed if len(rows) > 1 else 0]).to(device))
            for epoch in range(experiment.epochs):
                order = start.order(epoch)
                sampler = (order[seed] if order.ndim == 2 else order).tolist()
                # The loader draws a seed for its workers; a generator of its own leaves the global one alone.
                loader = DataLoader(dataset, experiment.batch_size, sampler=sampler, generator=torch.Generator())
                losses = []
                for (batch,) in loader:
                    if experiment.clear_gradients:
                        optimizer.zero_grad()
                    loss = criterion(network(batch), batch)
                    loss.backward()
                    optimizer.step()
                    losses.append(loss.item())
                epoch_loss[epoch, seed] = np.mean(losses)
                advance(1)
            networks.append(network)
    stacked = [torch.stack(same) for same in zip(*(network.parameters() for network in networks), strict=True)]
    return Run(start, epoch_loss, torch_parts.collect(stacked))
