"""A population's training step, compiled by torch.compile, and called as often as an epoch has minibatches.

Forward, backward and optimizer are traced from torch's own code into one graph, whose small products inductor_pass.py has
lowered in a way that suits them. A step of ten of the listing's networks then takes 90 us, but to call it takes torch 120 us
more: it gathers the 41 tensors that a step reads and writes, asks whether they are still those that it compiled for, and
unwraps them one layer after the other. None of them but the minibatch ever changes. So the call that arrives at the
compiled program is kept, as a CUDA graph would be, and repeated with other minibatches. A training that differs from an
earlier one by its rows or its learning rate only is the same program: it takes it over, without being compiled at all.
"""

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from unittest import mock

import torch

from aeclaims.own_optimizer import one_line

if TYPE_CHECKING:
    from aeclaims.backends.torch.population import Population

# Wider layers are BLAS's.
WIDEST_WITHOUT_BLAS: Final = 32
CANNOT_COMPILE: Final = "torch could not compile the training step"
Steps = Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]


class Program(NamedTuple):
    """A compiled step, and which of a population's tensors each of its arguments is; None for the minibatch."""

    run: Callable[[list[Any]], tuple[torch.Tensor, ...]]
    places: tuple[int | None, ...]
    layouts: tuple[Any, ...]


# By all that is written into a program: the experiment without its rows and rates, the number of seeds, dtype, threads.
PROGRAMS: dict[Any, Program] = {}


class CompiledSteps:
    """`Population.eager_steps`, compiled; where no compiler works, the eager ones, and a warning.

    compiler: torch's name for it. What inductor makes of a step is kept and repeated; of another compiler it is called.
    """

    def __init__(self, population: "Population", compiler: str = "inductor") -> None:
        self.population, self.optimizer, self.compiler = population, population.optimizer, compiler
        self.repeated: Steps | None = None
        self.next: Callable[[torch.Tensor], torch.Tensor] = self.first
        if population.own is not None:
            self.next = self.first_of_own
            return
        for group in self.optimizer.param_groups:
            # Rates that lie in a tensor are no part of the program: trainings that differ by them are compiled once.
            group["lr"] = torch.tensor(group["lr"], dtype=torch.float64)

    def __call__(self, batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """A step on each of the minibatches, (S, B, D); returns the losses of each, (S,)."""
        losses: list[torch.Tensor] = []
        for place, batch in enumerate(batches):
            if self.repeated is not None:
                return [*losses, *self.repeated(batches[place:])]
            losses.append(self.next(batch))
        return losses

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

    def first(self, batch: torch.Tensor) -> torch.Tensor:
        """Optimizers create their state in their first step; a graph traced before that would miss it.

        Eager Adam corrects its moments in double precision. A graph does so in that of its count of steps: float32 puts
        step sizes off by 2e-5 at first, which a network that still breaks symmetries grows to 3e-4 of the loss.
        """
        losses = self.population.step(batch)
        for state in self.optimizer.state.values():
            if "step" in state:
                state["step"] = state["step"].double()
        self.next, self.repeated = self.compiling, self._known() if self.compiler == "inductor" else None
        return losses

    def first_of_own(self, batch: torch.Tensor) -> torch.Tensor:
        """The first step of an optimizer of the user's own: what it holds may be changed by torch's graph only, not by us."""
        self.next = self.compiling
        return self.population.step(batch)

    def compiling(self, batch: torch.Tensor) -> torch.Tensor:
        """The first call compiles, or shows that nothing can."""
        # Each training is a new program: without a reset, dynamo would give up on compiling after eight of them.
        torch.compiler.reset()
        # Here, for it imports inductor, which takes 0.7 s, and short trainings compile nothing.
        from aeclaims.backends.inductor_pass import MinibatchLast

        options: Any = None if self.compiler != "inductor" else {
            "joint_custom_pre_pass": MinibatchLast(), "size_asserts": False, "alignment_asserts": False, "scalar_asserts": False,
            # What the processor says that it can do; to have the compiler try takes 7 s.
            "cpp.vec_isa_ok": True}
        self.graph = torch.compile(torch.no_grad()(self.trace), fullgraph=True, dynamic=False, backend=self.compiler,
                                   options=options)
        try:
            # The compiler's modules warn of each other's deprecations; `-W error` must not stop a training for that.
            with warnings.catch_warnings(), torch._dynamo.config.patch(specialize_float=True), _traced_once():
                warnings.simplefilter("ignore", DeprecationWarning)
                losses: torch.Tensor = self.graph(batch)
        except Exception as error:
            return self._eagerly(batch, error)
        is_kept = self.compiler == "inductor"
        self.next = self.guarded if self.population.own is not None else self.keeping if is_kept else self.graph
        return losses

    def guarded(self, batch: torch.Tensor) -> torch.Tensor:
        """A step of the user's own optimizer: torch asks each time whether what it compiled for still is so.

        Where it is not, the optimizer changes something in Python, which a call that is kept would repeat as it was.
        """
        try:
            with torch._dynamo.config.patch(specialize_float=True, error_on_recompile=True):
                losses: torch.Tensor = self.graph(batch)
        except Exception as error:
            return self._eagerly(batch, error)
        return losses

    def _eagerly(self, batch: torch.Tensor, error: Exception) -> torch.Tensor:
        self.next = self.population.step
        warnings.warn(f"{CANNOT_COMPILE} and trains eagerly, which is slower: {one_line(error)}", RuntimeWarning, stacklevel=5)
        return self.next(batch)

    def keeping(self, batch: torch.Tensor) -> torch.Tensor:
        """The second call is kept, if repeating it does what it did, to the last bit; else the graph goes on being called."""
        self.next = self.graph
        with _recorded() as calls:
            before = self._state()
            losses: torch.Tensor = self.graph(batch)
        program = _program(calls, self._tensors(), batch)
        if program is not None:
            after = self._state()
            self._restore(before)
            repeated = self._repeating(program)
            if all(map(torch.equal, [losses, *after], [*repeated([batch]), *self._state()])):
                self.repeated, PROGRAMS[self._key()] = repeated, program
            else:
                self._restore(after)
        return losses

    def _key(self) -> Any:
        experiment = self.population.experiment
        written = replace(experiment.optimizer, lr=1.0)
        tensors = self._tensors()
        return (experiment.model, experiment.loss, written, experiment.clear_gradients, experiment.batch_size,
                tensors[0].shape, tensors[0].dtype, type(self.optimizer), torch.get_num_threads())

    def _known(self) -> Steps | None:
        """Steps by the program of an earlier training, where this one's tensors lie in memory as that one's did."""
        program, tensors = PROGRAMS.get(self._key()), self._tensors()
        fits = program is not None and all(place is None or _layout(tensors[place]) == layout
                                           for place, layout in zip(program.places, program.layouts, strict=True))
        return self._repeating(program) if program is not None and fits else None

    def _repeating(self, program: Program) -> Steps:
        """Steps by a program: its arguments are this population's tensors, and another minibatch each time."""
        tensors = self._tensors()
        arguments = [None if place is None else tensors[place] for place in program.places]
        batch_at = program.places.index(None)
        layout = program.layouts[batch_at]

        def repeat(batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
            if batches and _layout(batches[0]) != layout:
                raise RuntimeError(f"minibatches lie in memory as {_layout(batches[0])}; the step was compiled for {layout}")
            losses: list[torch.Tensor] = []
            with torch.no_grad():
                for batch in batches:
                    given = arguments.copy()
                    given[batch_at] = batch
                    losses += program.run(given)
            return losses

        return repeat

    def _tensors(self) -> list[torch.Tensor]:
        """All that a step reads or writes but the minibatch, in an order that trainings of one program share."""
        parameters = list(self.population.parameters.values())
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        states = [value for parameter in parameters for value in self.optimizer.state[parameter].values()]
        rates = [group["lr"] for group in self.optimizer.param_groups]
        return [value for value in (*parameters, *gradients, *states, *rates) if torch.is_tensor(value)]

    def _state(self) -> list[torch.Tensor]:
        return [tensor.detach().clone() for tensor in self._tensors()]

    def _restore(self, state: list[torch.Tensor]) -> None:
        with torch.no_grad():
            for tensor, value in zip(self._tensors(), state, strict=True):
                tensor.copy_(value)


@contextmanager
def _traced_once() -> Iterator[None]:
    """Numbers of the optimizer's never change, and nothing reads its rate or its counts of steps but tensors.

    Of each double without axes dynamo notes that it might be read as a number. Where it then is not, dynamo traces again.
    """
    noted = getattr(torch._dynamo.symbolic_convert, "TensorifyState", None)
    if noted is None:  # a torch that notes nothing
        yield
        return
    with mock.patch.object(noted, "should_specialize", return_value=True):
        yield


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


def _program(calls: list[tuple[Any, list[Any]]], tensors: list[torch.Tensor], batch: torch.Tensor) -> Program | None:
    """The program of the one recorded call; None where there were others, or where it is not clear what it was called with."""
    if len(calls) != 1 or not callable(calls[0][0]):
        return None
    run, arguments = calls[0]
    known = {tensor.data_ptr(): place for place, tensor in enumerate(tensors)}
    if len(known) < len(tensors) or not all(map(torch.is_tensor, arguments)):
        return None
    places = tuple(known.get(argument.data_ptr()) for argument in arguments)
    unknown = [argument for argument, place in zip(arguments, places, strict=True) if place is None]
    if len(unknown) != 1 or unknown[0].data_ptr() != batch.data_ptr():
        return None
    return Program(run, places, tuple(map(_layout, arguments)))


def _layout(tensor: torch.Tensor) -> Any:
    return tensor.shape, tensor.stride(), tensor.dtype
