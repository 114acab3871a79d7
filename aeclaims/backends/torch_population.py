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
import numpy.typing as npt
import torch
from torch import nn
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from aeclaims.backends import torch_parts
from aeclaims.experiment import Experiment
from aeclaims.progress import progress
from aeclaims.run import Double, Run
from aeclaims.start import Parameters, Start

# A compilation costs about 10 s, an eager step 1 ms more than a compiled one.
COMPILING_PAYS_FROM_STEPS = 10_000
# Several steps in one call save Python's overhead, where steps are as short as that; each costs seconds to compile.
MOST_STEPS_IN_A_CALL = 3
WIDEST_OF_SHORT_STEPS = 4
UNROLLING_PAYS_FROM_STEPS = 40_000
# Inductor vectorises whole lanes of seeds only: 10 replicas of the listing's network take 9 ms a step, 16 take 0.3 ms.
# The last seed is trained again in the lanes left over.
LANES = 16

Steps = Callable[[torch.Tensor], torch.Tensor]


def train(experiment: Experiment, start: Start, *, device: str, is_compiled: bool) -> Run:
    """Train every seed of `start` at once."""
    steps = experiment.n_rows // experiment.batch_size * experiment.epochs
    pays = is_compiled and torch.device(device).type == "cpu" and steps >= COMPILING_PAYS_FROM_STEPS
    epoch_loss = np.empty((experiment.epochs, len(start.seeds)))
    with torch_parts.default_dtype(torch_parts.torch_dtype(start.dtype)), torch_parts.threads(1 if pays else None):
        population = Population(experiment, start, device=device, is_compiled=pays)
        with progress("torch" if is_compiled else "torch-eager", experiment.epochs) as advance:
            for epoch in range(experiment.epochs):
                epoch_loss[epoch] = population.train_epoch(start.order(epoch))
                advance(1)
    return Run(start, epoch_loss, population.collect())


class Population:
    """All replicas, stacked on one axis, and the optimizer that trains them."""

    def __init__(self, experiment: Experiment, start: Start, *, device: str, is_compiled: bool) -> None:
        self.experiment, self.device, self.count = experiment, device, len(start.seeds)
        self.axis = -1 if is_compiled else 0
        replicas = [*range(self.count), *[self.count - 1] * (-self.count % LANES if is_compiled else 0)]
        self.pick = self._picker(start, replicas)
        self.parameters = self._parameters(start, replicas)
        self.optimizer = torch_parts.optimizer(experiment, list(self.parameters.values()))
        self.losses, self.gradients = self._functions(torch_parts.torch_dtype(start.dtype))
        full_steps = experiment.n_rows // experiment.batch_size
        is_short = max(experiment.model.widths) <= WIDEST_OF_SHORT_STEPS
        unrolls = is_compiled and is_short and full_steps * experiment.epochs >= UNROLLING_PAYS_FROM_STEPS
        self.together = _largest_divisor(full_steps, MOST_STEPS_IN_A_CALL) if unrolls else 1
        self.steps: Steps = CompiledSteps(self) if is_compiled else self.eager_steps

    def train_epoch(self, order: npt.NDArray[np.uint32]) -> Double:
        """One epoch over the rows in that order, (N,) or (S, N); returns the mean of its minibatch losses, (S,)."""
        size, count = self.experiment.batch_size, self.experiment.n_rows
        rows = torch.from_numpy(order.astype(np.int64)).to(self.device)
        losses = []
        for begin in range(0, count, size * self.together):
            end = begin + size * self.together
            picked = self.pick(rows[..., begin:end])
            if end <= count:
                batch_axis = 0 if self.axis else 1
                batches = picked.unflatten(batch_axis, (self.together, size)).movedim(batch_axis, 0)
                losses.append(self.steps(batches))
            else:  # fewer rows than a call takes: what is left of an epoch, its short minibatch last
                losses += [self.step(batch)[None] for batch in picked.split(size, dim=0 if self.axis else 1)]
        mean = torch.cat(losses).double().mean(dim=0)
        return np.asarray(mean[: self.count].cpu().numpy())

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
        return torch_parts.collect(values.detach().movedim(self.axis, 0)[: self.count]
                                   for values in self.parameters.values())

    def _parameters(self, start: Start, replicas: list[int]) -> dict[str, nn.Parameter]:
        initial, networks = start.parameters(), []
        for seed in replicas:
            networks.append(torch_parts.network(self.experiment.model, self.device, torch_parts.torch_dtype(start.dtype)))
            torch_parts.load(networks[-1], initial, seed)
        stacked, _ = stack_module_state(networks)
        parameters = {name: nn.Parameter(values.detach().movedim(0, self.axis).contiguous())
                      for name, values in stacked.items()}
        for parameter in parameters.values():
            parameter.grad = torch.zeros_like(parameter)
        return parameters

    def _functions(self, dtype: torch.dtype) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Each replica's loss on its own minibatch, and its gradient with the loss."""
        skeleton = torch_parts.network(self.experiment.model, "meta", dtype)
        criterion = torch_parts.LOSSES[self.experiment.loss]()

        def loss(parameters: dict[str, torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = criterion(functional_call(skeleton, parameters, (batch,)), batch)
            return output

        axes = (self.axis, self.axis)
        return vmap(loss, in_dims=axes), vmap(grad_and_value(loss), in_dims=axes, out_dims=(self.axis, 0))

    def _picker(self, start: Start, replicas: list[int]) -> Callable[[torch.Tensor], torch.Tensor]:
        """From row numbers, (B,) or (S, B), to those rows of every replica: (S, B, D), or (B, D, S) for axis -1."""
        rows = torch_parts.tensor(start.rows()).to(self.device)
        if start.has_shared_rows:
            return lambda order: rows[0][order[replicas]].movedim(0, self.axis).contiguous()
        if self.axis == 0:
            return lambda order: rows.index_select(1, order)
        last = rows.permute(1, 2, 0)[..., replicas].contiguous()
        return lambda order: last.index_select(0, order)


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
        self.eager_steps = population.eager_steps
        self.graph = torch.compile(torch.no_grad()(population.graph_steps), fullgraph=True, dynamic=False,
                                   options={"joint_custom_pre_pass": MultiplyAdds()})
        self.chosen: Steps = self.at_first

    def __call__(self, batches: torch.Tensor) -> torch.Tensor:
        """A step for each of the minibatches, (steps, ...); returns (steps, S)."""
        return self.chosen(batches)

    def at_first(self, batches: torch.Tensor) -> torch.Tensor:
        """Optimizers create their state in their first step; a graph traced before that would miss it."""
        self.chosen = self.compiling
        return self.eager_steps(batches)

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


class MultiplyAdds(CustomGraphPass):
    """Tells inductor to lower batched products as multiply-adds, with the batch, our seeds, last in memory."""

    def __call__(self, graph: torch.fx.Graph) -> None:
        """(S, M, K) times (S, K, N): the products of (M, K, 1, S) and (1, K, N, S), summed over K."""
        aten = torch.ops.aten

        def call(operator: Any, *arguments: Any) -> torch.fx.Node:
            node = graph.call_function(operator, arguments)
            node.meta["val"] = operator(*(a.meta["val"] if isinstance(a, torch.fx.Node) else a for a in arguments))
            return node

        for product in graph.find_nodes(op="call_function", target=aten.bmm.default):
            with graph.inserting_before(product):
                left, right = (call(aten.permute.default, factor, [1, 2, 0]) for factor in product.args)
                products = call(aten.mul.Tensor, call(aten.unsqueeze.default, left, 2), call(aten.unsqueeze.default, right, 0))
                product.replace_all_uses_with(call(aten.permute.default, call(aten.sum.dim_IntList, products, [1]), [2, 0, 1]))
            graph.erase_node(product)

    def uuid(self) -> Any:
        """What inductor's cache of compiled graphs knows this pass by."""
        return get_hash_for_files((__file__,))
