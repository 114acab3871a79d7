"""Whether steps of the user's own optimizer can be compiled, and then do what they do eagerly: tried out once, in float64.

torch.compile takes some optimizers and makes other steps of them, without a word: of torch.optim.ASGD, in torch 2.13, it writes
the step size of the moment into the program, which then never falls again.
"""

import multiprocessing
import sys
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Final

import numpy as np
import torch

from aeclaims.ahead import can_copy_processes
from aeclaims.backends.torch import parts as torch_parts
from aeclaims.backends.torch.population import Population, conditions
from aeclaims.backends.torch_compiled import CANNOT_COMPILE
from aeclaims.experiment import TANH, Adam, Experiment, Uniform, layers
from aeclaims.start import Start

# As many steps as the trial of the eager optimizer has, and one more that compiles.
SMALL: Final = Experiment(rows=Uniform(features=2), model=layers(2, 3, 2, hidden=TANH), loss="mse", optimizer=Adam(lr=1e-2),
                          epochs=1, n_rows=13 * 8, batch_size=8)
# Rounding errors of a few steps in float64; optimizers keep some numbers in float32.
APART: Final = {torch.float64: 1e-9}
APART_OTHERWISE: Final = 1e-5
SECONDS: Final = 120


def why_not(own: torch_parts.Factory, device: str) -> str:
    """Why steps of that optimizer are not to be compiled; empty where they may be."""
    return _elsewhere(lambda: _why_not(own, device))


def _why_not(own: torch_parts.Factory, device: str) -> str:
    start = Start(SMALL, (0, 1), np.dtype(np.float64))
    ended = []
    with conditions(SMALL, start, device), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for is_compiled in (False, True):
            population = Population(SMALL, start, device=device, is_compiled=is_compiled, own=own)
            population.train_epoch(start.order(0))
            ended.append(list(_left(population)))
    for warning in caught:
        if str(warning.message).startswith(CANNOT_COMPILE):
            return str(warning.message).partition(": ")[2] or CANNOT_COMPILE
    if len(ended[0]) != len(ended[1]) or not all(map(_are_same, *ended)):
        return "torch compiles its step to one that does something else"
    return ""


def _left(population: Population) -> Iterator[torch.Tensor]:
    """Parameters, and what the optimizer keeps of each."""
    for parameter in population.parameters.values():
        yield parameter.detach()
        yield from (value.detach() for value in population.optimizer.state[parameter].values() if torch.is_tensor(value))


def _are_same(eager: torch.Tensor, compiled: torch.Tensor) -> bool:
    if eager.shape != compiled.shape:
        return False
    scale = float(eager.double().abs().max()) if eager.numel() else 0.0
    within = APART.get(eager.dtype, APART_OTHERWISE) * scale
    return torch.allclose(compiled.double(), eager.double(), rtol=0, atol=within, equal_nan=True)


def _elsewhere(work: Callable[[], str]) -> str:
    """In a copy of this process: one that has compiled has threads, and could not be copied any more.

    Where it has compiled already it is not copied: locks that those threads hold would never be given back in the copy.
    """
    if not can_copy_processes() or "torch._inductor.compile_fx" in sys.modules:
        return work()
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(work, theirs), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of copies of processes with threads, see aeclaims.ahead
        process.start()
    theirs.close()
    try:
        return str(ours.recv()) if ours.poll(SECONDS) else f"compiling its step takes longer than {SECONDS} s"
    except EOFError:
        return "the process that compiled its step ended"
    finally:
        process.kill()
        process.join()
        ours.close()


def _answer(work: Callable[[], str], connection: Connection) -> None:
    try:
        connection.send(work())
    except Exception as error:
        connection.send(f"{type(error).__name__} when its step was compiled")
