"""The backends torch-eager and torch: they train all seeds of a start at once, with torch.func's vmap and a stock optimizer.

`Population` runs each step as torch does without a compiler. `CompiledPopulation` calls torch.compile for the whole step, or for
the loss and its gradient; torch checks its guards at every call. Its layers are multiplications and sums over a minibatch that
lies last in memory. The parameters of a replica are one row of one tensor. Inductor then needs a fraction of the time.
"""

import dataclasses
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.func import functional_call, grad_and_value, vmap

from aeclaims.backends.torch import parts
from aeclaims.backends.torch.compile import Compilation, begin_anew, quiet, unsupported_reason
from aeclaims.backends.torch.watch import Watch
from aeclaims.errors import NotSupported
from aeclaims.experiment import Adam, Experiment
from aeclaims.run import Double, Run
from aeclaims.runtime.progress import progress
from aeclaims.start import LayerParameters, Parameters, Start

# A compilation takes 2 to 5 s, or 0.5 s if torch finds it on disk. An eager step takes 1 to 3 ms more than a compiled one.
COMPILING_PAYS_FROM_STEPS: Final = 900
# Number of minibatches that are copied from the rows at once, a multiple of two. A copy of 16 costs as many calls as one of 1.
COPIED_AT_ONCE: Final = 16
# All compiled minibatches have the same size.
DEFAULT: Final = Compilation(dynamic=False, scope="step")
# Each call costs 20 to 50 us. Each step of a program takes 2 s to compile, the first time. With two features, a step takes 85 us
# alone, 63 us if two share a call, and 50 us if three do. With ten features and weight decay, three steps take three times as
# long as one alone.
LONG: Final = 20_000


def train(
    start: Start,
    *,
    device: str,
    compilation: Compilation | None = None,
    own: parts.Factory | None = None,
    falls_back: bool = False,
) -> Run:
    """Train every seed of `start` at once, with or without a compiler.

    Args:
        start: The start; it holds its experiment.
        device: torch's name of the device.
        compilation: The arguments of torch.compile; None trains without a compiler.
        own: A custom optimizer in Adam's place.
        falls_back: Whether eager steps train, with a warning, if torch cannot compile; else it raises NotSupported.
    Returns:
        The run.
    """
    with parts.conditions(start, device):
        population = (
            Population(start, device=device, own=own)
            if compilation is None
            else CompiledPopulation(start, device=device, compilation=compilation, own=own, falls_back=falls_back)
        )
        return population.train("torch-eager" if compilation is None else "torch")


def train_by_default(start: Start, *, device: str, own: parts.Factory | None = None) -> Run:
    """Train as `torch` does by default: compiled if that pays. It does not pay for short trainings."""
    compilation = DEFAULT if own is None else dataclasses.replace(DEFAULT, scope="model")
    return train(
        start,
        device=device,
        compilation=compilation if compiling_pays(start, device) else None,
        own=own,
        falls_back=True,
    )


def compiling_pays(start: Start, device: str) -> bool:
    """Return whether compiling shortens a training of that many steps. It was not tried with rounded products."""
    return (
        torch.device(device).type == "cpu"
        and not start.products
        and full_minibatches(start.experiment) * start.experiment.epochs >= COMPILING_PAYS_FROM_STEPS
    )


def steps_per_call(experiment: Experiment) -> int:
    """Return the number of steps per call of a compiled function.

    It is two if a training is long and each epoch has an even number of full minibatches, else one.
    """
    full = full_minibatches(experiment)
    return 2 if full % 2 == 0 and full * experiment.epochs >= LONG else 1


def full_minibatches(experiment: Experiment) -> int:
    """Return the number of minibatches of an epoch, without a short last one."""
    return experiment.n_rows // experiment.batch_size


class Population:
    """All replicas, stacked on the first axis, and the stock optimizer that trains them.

    Args:
        start: The start of the replicas.
        device: torch's name of the device.
        own: A custom optimizer in Adam's place.
        optimizer_settings: Arguments of torch's optimizers besides those of the experiment.
    """

    def __init__(
        self, start: Start, *, device: str, own: parts.Factory | None = None, **optimizer_settings: Any
    ) -> None:
        self.start, self.experiment, self.device = start, start.experiment, device
        self.parameters = self.stack(start.parameters())
        for parameter in self.parameters.values():
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer = parts.optimizer(self.experiment, list(self.parameters.values()), own, **optimizer_settings)
        self.losses = vmap(
            self.loss_of_replica(parts.network(self.experiment.model, "meta", parts.torch_dtype(start.dtype)))
        )
        self.minibatches = self.copier()

    def train(self, label: str) -> Run:
        """Train all epochs; returns the run."""
        epoch_loss = np.full((self.experiment.epochs, len(self.start.seeds)), np.nan)
        with progress(label, self.experiment.epochs, losses=epoch_loss) as advance:
            for epoch in range(self.experiment.epochs):
                epoch_loss[epoch] = self.train_epoch(self.start.order(epoch))
                advance(1)
        return Run(self.start, epoch_loss, self.collect())

    def train_epoch(self, order: npt.NDArray[np.uint32]) -> Double:
        """Train one epoch over the rows in that order, (N,) or (S, N); returns the mean of its minibatch losses, (S,)."""
        losses = self.epoch(torch.from_numpy(order.astype(np.int64)).to(self.device))
        return np.asarray(losses.cpu().numpy())

    def epoch(self, order: torch.Tensor) -> torch.Tensor:
        """Train one epoch with the order and the losses on the device, without waiting for it."""
        losses: list[torch.Tensor] = []
        for numbers in order.split(self.experiment.batch_size, dim=-1):
            losses += [self.step(batch) for batch in self.minibatches(numbers)]
        return torch.stack(losses).double().mean(dim=0)

    def step(self, batch: torch.Tensor) -> torch.Tensor:
        """Take one plain training step on a minibatch, (S, B, D); returns each replica's loss before it, (S,)."""
        if self.experiment.zero_grad:
            self.optimizer.zero_grad(set_to_none=False)
        losses: torch.Tensor = self.losses(self.parameters, batch)
        losses.sum().backward()
        self.optimizer.step()
        return losses.detach()

    def collect(self) -> Parameters:
        """Return the present parameters, seeds first."""
        return parts.collect(self.parameters.values())

    def stack(self, initial: Parameters) -> dict[str, nn.Parameter]:
        """Return one parameter for each weight and bias, (S, ...), by the names that nn.Sequential gives them."""
        names = parts.network(self.experiment.model, "meta", parts.torch_dtype(self.start.dtype)).state_dict()
        arrays = [values for layer in initial for values in layer]
        return {
            name: nn.Parameter(parts.tensor(values).clone().to(self.device))
            for name, values in zip(names, arrays, strict=True)
        }

    def loss_of_replica(self, network: nn.Module) -> Callable[[Any, torch.Tensor], torch.Tensor]:
        """Return the loss of one replica, as a function of its parameters and its minibatch, (B, D)."""
        criterion = parts.LOSSES[self.experiment.loss]()
        # If the loss referred to the start, torch 2.6 would put a guard on given rows, which fails outside of the gradient.
        products, device = self.start.products, self.device

        def loss(parameters: Mapping[str, torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
            with parts.rounded_products(products, device):
                output = functional_call(network, dict(parameters), (batch,))
            mean: torch.Tensor = criterion(output.to(batch.dtype), batch)
            return mean

        return loss

    def copier(self) -> Callable[[torch.Tensor], Sequence[torch.Tensor]]:
        """Return a function from row numbers, (B,) or (S, B), to the minibatch of those rows of every replica, (S, B, D)."""
        rows = parts.tensor(self.start.rows()).to(self.device)
        if self.start.has_shared_rows:
            return lambda numbers: [rows[0][numbers]]
        return lambda numbers: [rows.index_select(1, numbers)]


class CompiledPopulation(Population):
    """A population whose training steps, or whose loss and its gradient, are one function under torch.compile.

    Scope "step" compiles the function that the step of torch's optimizer calls, because dynamo breaks the graph at the step.
    A long training takes two steps in a call. Scope "model" compiles the gradient alone, and the optimizer takes eager steps.
    A custom optimizer always takes its own step; scope "step" compiles it. If the network is narrow, a minibatch is (S, D, B),
    and a layer is a multiplication and a sum. A wide network keeps nn.Linear, which calls BLAS.
    The short last minibatch of an epoch runs without the compiler, unless sizes are dynamic.

    Args:
        start: The start of the replicas.
        device: torch's name of the device.
        compilation: The arguments of torch.compile.
        own: A custom optimizer in Adam's place.
        falls_back: Whether eager steps train, with a warning, if torch cannot compile; else it raises NotSupported.
    """

    def __init__(
        self,
        start: Start,
        *,
        device: str,
        compilation: Compilation,
        own: parts.Factory | None = None,
        falls_back: bool = False,
    ) -> None:
        experiment, model, self.falls_back = start.experiment, start.experiment.model, falls_back
        self.is_narrow = max(model.widths) <= parts.WIDEST_WITHOUT_BLAS and not start.products
        self.shapes = [
            shape
            for inputs, outputs in zip(model.widths, model.widths[1:], strict=False)
            for shape in ((outputs, inputs), (outputs,))
        ]
        has_class = compilation.scope == "model" or (own is not None and isinstance(experiment.optimizer, Adam))
        self.steps_per_call = 1 if has_class else steps_per_call(experiment)
        super().__init__(start, device=device, own=own)
        layer = ProductSum if self.is_narrow else nn.Linear
        self.watch = Watch()
        network = parts.network(model, "meta", parts.torch_dtype(start.dtype), layer).append(self.watch)
        gradients = vmap(grad_and_value(self.loss_of_replica(network)))
        self.descend: Callable[..., None] = self.descend_by_class
        self.state: list[torch.Tensor] = []
        if not has_class:
            self.descend, self.state = parts.update(experiment, self.parameters["all"].detach())
        self.compilation, self.calls, self.is_first, self.fell_back = compilation, Counter[int](), True, False
        self.plain_steps = torch.no_grad()(self.steps_with(gradients))
        self.compiled_steps = (
            compilation(self.plain_steps)
            if compilation.scope == "step"
            else self.steps_with(compilation(torch.no_grad()(gradients)))
        )

    def epoch(self, order: torch.Tensor) -> torch.Tensor:
        """Train one epoch in that order, (N,) or (S, N); returns the mean of its minibatch losses, (S,), on the device."""
        losses = [
            self.steps(batches)
            for numbers in order.split(COPIED_AT_ONCE * self.experiment.batch_size, dim=-1)
            for batches in self.minibatches(numbers)
        ]
        return torch.cat(losses).double().mean(dim=0)

    def steps(self, batches: torch.Tensor) -> torch.Tensor:
        """Take a step on each minibatch, (K, S, D, B) or (K, S, B, D); returns each replica's losses before them, (K, S)."""
        arguments, size = (self.parameters["all"], batches, *self.state), batches.shape[3 if self.is_narrow else 2]
        if size < min(self.experiment.batch_size, self.experiment.n_rows) and not self.compilation.dynamic:
            return self.plain_steps(*arguments)
        losses = self.first_steps(size, *arguments) if self.calls[size] < 2 else self.compiled_steps(*arguments)
        return losses.clone() if self.compilation.uses_cudagraphs else losses

    def steps_with(self, gradients: Callable[..., Any]) -> Callable[..., torch.Tensor]:
        """Return a function of parameters, minibatches and optimizer state that takes a step on each minibatch, in place."""
        descend = self.descend

        def steps(flat: torch.Tensor, batches: torch.Tensor, *state: torch.Tensor) -> torch.Tensor:
            losses = []
            for batch in batches.unbind():
                gradient, loss = gradients(flat, batch)
                descend(flat, gradient, *state)
                losses.append(loss)
            return torch.stack(losses)

        return steps

    def descend_by_class(self, flat: torch.Tensor, gradient: torch.Tensor) -> None:
        """Pass the gradient to the optimizer, and take its step."""
        if self.experiment.zero_grad:
            flat.grad = gradient
        else:
            assert flat.grad is not None
            flat.grad = flat.grad + gradient
        self.optimizer.step()

    def first_steps(self, size: int, *arguments: torch.Tensor) -> torch.Tensor:
        """Take the steps at which torch compiles: the first of a size, and the second, which has an optimizer's moments.

        If torch cannot compile, this raises NotSupported. If `falls_back` is set, it warns instead, and eager steps train.
        """
        if self.is_first:
            self.is_first = False
            begin_anew()
        self.calls[size] += 1
        self.watch.ran_plainly = False  # a short minibatch sets it
        losses: torch.Tensor | None = None
        try:
            with quiet():
                losses = self.compiled_steps(*arguments)
            if not self.fell_back:
                self.watch.require_compiled()
            return losses
        except Exception as error:
            reason = unsupported_reason(error)
            if not reason:
                raise
            if not self.falls_back:
                raise NotSupported(reason) from error
            self.compiled_steps, self.fell_back = self.plain_steps, True
            warnings.warn(
                f"{reason}; the training runs without a compiler, which takes longer", RuntimeWarning, stacklevel=2
            )
            return self.plain_steps(*arguments) if losses is None else losses

    def stack(self, initial: Parameters) -> dict[str, nn.Parameter]:
        """Return one parameter, (S, P): the flattened weight and bias of each layer in turn, for each replica."""
        arrays = [parts.tensor(values).flatten(1) for layer in initial for values in layer]
        return {"all": nn.Parameter(torch.cat(arrays, dim=1).to(self.device))}

    def unflatten(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """Return the weights and biases of one replica as views of its parameters, (P,)."""
        sizes = [torch.Size(shape).numel() for shape in self.shapes]
        return [part.view(shape) for part, shape in zip(flat.split(sizes), self.shapes, strict=True)]

    def loss_of_replica(self, network: nn.Module) -> Callable[[Any, torch.Tensor], torch.Tensor]:
        """Return the loss of one replica, as a function of its flat parameters, (P,), and its minibatch, (D, B) or (B, D)."""
        loss, names = super().loss_of_replica(network), list(network.state_dict())
        return lambda flat, batch: loss(dict(zip(names, self.unflatten(flat), strict=True)), batch)

    def collect(self) -> Parameters:
        """Return the present parameters, seeds first."""
        flat = self.parameters["all"].detach().cpu().numpy()
        ends = list(accumulate(int(np.prod(shape)) for shape in self.shapes))
        arrays = [
            flat[:, begin:end].reshape(-1, *shape).copy()
            for begin, end, shape in zip([0, *ends], ends, self.shapes, strict=False)
        ]
        return tuple(LayerParameters(weight, bias) for weight, bias in zip(arrays[::2], arrays[1::2], strict=True))

    def copier(self) -> Callable[[torch.Tensor], Sequence[torch.Tensor]]:
        """Return a function from the row numbers of minibatches to contiguous groups of `steps_per_call` minibatches."""
        rows, size = parts.tensor(self.start.rows()).to(self.device), self.experiment.batch_size
        # All replicas' rows of one number lie side by side, so that a minibatch takes B long copies instead of S B short ones.
        by_number, shape = rows.transpose(0, 1).flatten(1).contiguous(), (rows.shape[0], rows.shape[2])

        def grouped(numbers: torch.Tensor) -> list[torch.Tensor]:
            full = numbers.shape[-1] // size * size
            groups: list[torch.Tensor] = []
            for count, some in ((full // size, numbers[..., :full]), (1, numbers[..., full:])):
                if some.shape[-1]:
                    copied = (
                        rows[0][some].transpose(0, 1)
                        if self.start.has_shared_rows
                        else by_number.index_select(0, some).view(-1, *shape)
                    )  # (K B, S, D)
                    copied = copied.unflatten(0, (count, -1)).movedim(1, 3 if self.is_narrow else 2).contiguous()
                    groups += copied.split(self.steps_per_call)
            return groups

        return grouped


class ProductSum(nn.Linear):
    """nn.Linear for minibatches on the last axis, (inputs, B): x -> W x + b, as a multiplication and a sum over inputs."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the outputs, (outputs, B)."""
        return (self.weight[:, :, None] * input).sum(dim=1) + self.bias[:, None]
