"""The torch-cudagraph backend: it captures an epoch of steps once as a CUDA graph, and replays it without Python in between.

It trains the first epoch step by step. Optimizers make their state in it, and an earlier capture would miss that state. All that
changes from then on lies in memory that the graph reads at each replay: parameters, moments, the count of steps, and the order
of the rows. Each new order is copied to the memory from which the captured epoch read its order. Rows stay on the device. The
losses of an epoch come to the host once, and the next order is drawn while the device trains.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch

from aeclaims.backends.torch import parts
from aeclaims.backends.torch.population import Population
from aeclaims.experiment import Adam, Experiment
from aeclaims.run import Run
from aeclaims.runtime.progress import progress
from aeclaims.start import Start


def train(start: Start, *, device: str, own: parts.Factory | None = None) -> Run:
    """Train every seed of `start` at once.

    Args:
        start: The start; it holds its experiment.
        device: torch's name of the CUDA device.
        own: A custom optimizer in Adam's place, whose steps can be captured.
    Returns:
        The run.
    """
    experiment = start.experiment
    epoch_loss = np.full((experiment.epochs, len(start.seeds)), np.nan)
    with parts.conditions(start, device), progress("torch-cudagraph", experiment.epochs, losses=epoch_loss) as advance:
        population = Population(start, device=device, own=own, **settings(experiment))
        epochs, order = Epochs(population), start.order(0)
        for epoch in range(experiment.epochs):
            losses = epochs.begin(order)
            if epoch + 1 < experiment.epochs:
                order = start.order(epoch + 1)
            epoch_loss[epoch] = losses.cpu().numpy()
            advance(1)
    return Run(start, epoch_loss, population.collect())


def settings(experiment: Experiment) -> dict[str, bool]:
    """Return the arguments with which torch's optimizers keep all changing values on the device, in fixed memory."""
    return {"fused": True, "capturable": True} if isinstance(experiment.optimizer, Adam) else {"fused": True}


class Epochs:
    """The epochs of a population: the first runs step by step, the others replay one capture."""

    def __init__(self, population: Population) -> None:
        self.population = population
        self.order: torch.Tensor | None = None
        self.losses: torch.Tensor | None = None
        self.replay: Callable[[], object] | None = None

    def begin(self, order: npt.NDArray[np.uint32]) -> torch.Tensor:
        """Let the device train an epoch in that order; returns its mean losses, (S,), which are valid when the device is done."""
        drawn = torch.from_numpy(order.astype(np.int64))
        if self.order is None:
            self.order = drawn.to(self.population.device)
            with beside(self.population.device):
                return self.population.epoch(self.order)
        if self.replay is None:
            self.replay = captured(self._train)
        # This memory is pageable: the copy leaves it before the call returns, and is on the device before the replay begins.
        self.order.copy_(drawn)
        self.replay()
        assert self.losses is not None
        return self.losses

    def _train(self) -> None:
        assert self.order is not None
        self.losses = self.population.epoch(self.order)


@contextmanager
def beside(device: str) -> Iterator[None]:
    """Run the work on a separate stream, as CUDA requires for the work before a capture."""
    if torch.device(device).type != "cuda":
        yield
        return
    current, own = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    own.wait_stream(current)
    with torch.cuda.stream(own):
        yield
    current.wait_stream(own)


def captured(work: Callable[[], None]) -> Callable[[], object]:
    """Capture the kernels that `work` launches, and return a function that replays them on the same memory.

    The capture does not execute the kernels.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay
