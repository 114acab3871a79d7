"""A population's training step, compiled by torch.compile, and called as often as an epoch has minibatches.

Forward, backward and optimizer are traced from torch's own code into one graph, whose small products inductor_pass.py has
lowered in a way that suits them. A step of ten of the listing's networks then takes 90 us, but to call it takes torch 120 us
more: it gathers the 41 tensors that a step reads and writes, asks whether they are still those that it compiled for, and
unwraps them one layer after the other. None of them but the minibatch ever changes. So the call that arrives at the
compiled program is kept, as a CUDA graph would be, and repeated with other minibatches.
"""

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from aeclaims.backends.inductor_pass import WIDEST_WITHOUT_BLAS, MinibatchLast

if TYPE_CHECKING:
    from aeclaims.backends.torch_population import Population

__all__ = ["WIDEST_WITHOUT_BLAS", "CompiledStep"]

Step = Callable[[torch.Tensor], torch.Tensor]


class CompiledStep:
    """`Population.step`, compiled; where no compiler works, the eager one, and a warning."""

    def __init__(self, population: "Population") -> None:
        self.population, self.optimizer = population, population.optimizer
        for group in self.optimizer.param_groups:
            # Rates that lie in a tensor are no part of the program: trainings that differ by them are compiled once.
            group["lr"] = torch.tensor(group["lr"], dtype=torch.float64)
        # Each training is a new program: without a reset, dynamo would give up on compiling after eight of them.
        torch.compiler.reset()
        self.graph = torch.compile(torch.no_grad()(self.trace), fullgraph=True, dynamic=False, options={
            "joint_custom_pre_pass": MinibatchLast(), "size_asserts": False, "alignment_asserts": False, "scalar_asserts": False,
            # What the processor says that it can do; to have the compiler try takes 7 s.
            "cpp.vec_isa_ok": True})
        self.chosen: Step = self.at_first

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """One step on (S, B, D); returns (S,)."""
        return self.chosen(batch)

    def trace(self, batch: torch.Tensor) -> torch.Tensor:
        """The same as `Population.step`, written so that it compiles into one graph."""
        population = self.population
        gradients, losses = population.gradients(population.parameters, batch)
        for name, parameter in population.parameters.items():
            assert parameter.grad is not None
            clears = population.experiment.clear_gradients
            parameter.grad.copy_(gradients[name] if clears else parameter.grad + gradients[name])
        _bare_step(self.optimizer)(self.optimizer)
        return losses  # type: ignore[no-any-return]

    def at_first(self, batch: torch.Tensor) -> torch.Tensor:
        """Optimizers create their state in their first step; a graph traced before that would miss it.

        Eager Adam corrects its moments in double precision. A graph does so in that of its count of steps: float32 puts
        step sizes off by 2e-5 at first, which a network that still breaks symmetries grows to 3e-4 of the loss.
        """
        self.chosen = self.compiling
        losses = self.population.step(batch)
        for state in self.optimizer.state.values():
            if "step" in state:
                state["step"] = state["step"].double()
        return losses

    def compiling(self, batch: torch.Tensor) -> torch.Tensor:
        """The first call compiles, or shows that nothing can."""
        try:
            # The compiler's modules warn of each other's deprecations; `-W error` must not stop a training for that.
            # Numbers of the optimizer's never change: traced as if they did, dynamo would trace the step twice.
            with warnings.catch_warnings(), torch._dynamo.config.patch(specialize_float=True):
                warnings.simplefilter("ignore", DeprecationWarning)
                losses: torch.Tensor = self.graph(batch)
        except Exception as error:
            self.chosen = self.population.step
            warnings.warn(f"torch could not compile the training step and trains eagerly, which is slower: "
                          f"{type(error).__name__}: {str(error).splitlines()[0]}", RuntimeWarning, stacklevel=4)
            return self.chosen(batch)
        self.chosen = self.keeping
        return losses

    def keeping(self, batch: torch.Tensor) -> torch.Tensor:
        """The second call is kept, if repeating it does what it did, to the last bit; else the graph goes on being called."""
        self.chosen = self.graph
        with _recorded() as calls:
            before = self._state()
            losses: torch.Tensor = self.graph(batch)
        replay = _replay(calls, batch)
        if replay is not None:
            after = self._state()
            self._restore(before)
            again = replay(batch)
            if all(map(torch.equal, [losses, *after], [again, *self._state()])):
                self.chosen = replay
            else:
                self._restore(after)
        return losses

    def _tensors(self) -> list[torch.Tensor]:
        parameters = list(self.population.parameters.values())
        states = [value for state in self.optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
        return [*parameters, *(parameter.grad for parameter in parameters if parameter.grad is not None), *states]

    def _state(self) -> list[torch.Tensor]:
        return [tensor.detach().clone() for tensor in self._tensors()]

    def _restore(self, state: list[torch.Tensor]) -> None:
        with torch.no_grad():
            for tensor, value in zip(self._tensors(), state, strict=True):
                tensor.copy_(value)


def _bare_step(optimizer: torch.optim.Optimizer) -> Callable[[torch.optim.Optimizer], Any]:
    """The optimizer's own step, without torch's wrappers around it, which only set the grad mode and break the graph.

    Wrappers that are not torch's stay on.
    """
    wrappers = torch.optim.Optimizer.__init__.__code__.co_filename
    step: Callable[[torch.optim.Optimizer], Any] = inspect.unwrap(
        type(optimizer).step, stop=lambda f: f.__code__.co_filename != wrappers)
    return step


@contextmanager
def _recorded() -> Iterator[list[tuple[Any, list[Any]]]]:
    """The calls that arrive at inductor's compiled programs: the program and its arguments.

    Where torch keeps its programs otherwise than here, none are recorded, and none are repeated.
    """
    calls: list[tuple[Any, list[Any]]] = []
    try:
        from torch._inductor.output_code import CompiledFxGraph
    except ImportError:
        yield calls
        return
    call = CompiledFxGraph.__call__

    def record(self: Any, inputs: Any) -> Any:
        calls.append((self.current_callable, list(inputs)))
        return call(self, inputs)

    CompiledFxGraph.__call__ = record  # type: ignore[method-assign]
    try:
        yield calls
    finally:
        CompiledFxGraph.__call__ = call  # type: ignore[method-assign]


def _replay(calls: list[tuple[Any, list[Any]]], batch: torch.Tensor) -> Step | None:
    """A step that repeats the one recorded call with another minibatch; None where it is not clear how."""
    if len(calls) != 1:
        return None
    program, inputs = calls[0]
    places = [place for place, tensor in enumerate(inputs) if torch.is_tensor(tensor) and _is_same(tensor, batch)]
    if len(places) != 1 or not callable(program):
        return None
    place = places[0]

    stride = batch.stride()

    def replay(batch: torch.Tensor) -> torch.Tensor:
        if batch.stride() != stride:
            raise RuntimeError(f"a minibatch lies in memory by {batch.stride()}, where the step was compiled for {stride}")
        arguments = inputs.copy()
        arguments[place] = batch
        with torch.no_grad():
            (losses,) = program(arguments)
        return losses  # type: ignore[no-any-return]

    return replay


def _is_same(tensor: torch.Tensor, batch: torch.Tensor) -> bool:
    return tensor.data_ptr() == batch.data_ptr() and tensor.shape == batch.shape and tensor.stride() == batch.stride()
