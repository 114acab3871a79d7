"""The vocabulary in torch's own terms: modules, losses and optimizers, none of them re-implemented."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

import torch
from torch import nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from aeclaims.experiment import Activation, Adam, Experiment, Model
from aeclaims.runtime import parallel
from aeclaims.start import Array, LayerParameters, Parameters, Start

# Of parameters and a learning rate: what trains in Adam's place.
Factory = Callable[[Sequence[nn.Parameter], float], Any]
# Wider layers are faster as products of matrices, by BLAS.
WIDEST_WITHOUT_BLAS: Final = 32
LOSSES = {"mse": nn.MSELoss, "bce": nn.BCELoss, "bce_logits": nn.BCEWithLogitsLoss}


def activation(spec: Activation) -> nn.Module | None:
    """torch's module for an activation; None for identity."""
    match spec.kind:
        case "identity":
            return None
        case "relu":
            return nn.ReLU()
        case "leaky_relu":
            return nn.LeakyReLU(spec.slope)
        case "tanh":
            return nn.Tanh()
        case "sigmoid":
            return nn.Sigmoid()


def network(model: Model, device: str, dtype: torch.dtype, layer: type[nn.Linear] = nn.Linear) -> nn.Sequential:
    """The model as people write it: nn.Linear layers, or a subclass's, and activations in an nn.Sequential."""
    parts: list[nn.Module] = []
    for inputs, outputs, spec in zip(model.widths, model.widths[1:], model.activations, strict=False):
        parts.append(layer(inputs, outputs, device=device, dtype=dtype))
        if (module := activation(spec)) is not None:
            parts.append(module)
    return nn.Sequential(*parts)


def load(module: nn.Sequential, parameters: Parameters, seed: int) -> None:
    """Give a network the initial parameters of the seed at that index."""
    linear = [part for part in module if isinstance(part, nn.Linear)]
    with torch.no_grad():
        for part, (weight, bias) in zip(linear, parameters, strict=True):
            part.weight.copy_(tensor(weight[seed]))
            part.bias.copy_(tensor(bias[seed]))


def collect(tensors: Iterable[torch.Tensor]) -> Parameters:
    """Stacked parameters, in the order weight, bias, weight, ..., seeds first, as NumPy arrays."""
    arrays = [values.detach().cpu().numpy().copy() for values in tensors]
    return tuple(LayerParameters(w, b) for w, b in zip(arrays[::2], arrays[1::2], strict=True))


def optimizer(
    experiment: Experiment, parameters: list[nn.Parameter], own: Factory | None = None, **settings: Any
) -> Any:
    """torch's stock optimizer, with these settings besides the experiment's; or a custom one in Adam's place."""
    spec = experiment.optimizer
    if own is not None and isinstance(spec, Adam):
        return own(parameters, spec.lr)
    common: dict[str, Any] = {"lr": spec.lr, "weight_decay": spec.weight_decay, **settings}
    if isinstance(spec, Adam):
        return torch.optim.Adam(parameters, betas=spec.betas, eps=spec.eps, **common)
    return torch.optim.SGD(parameters, momentum=spec.momentum, **common)


def update(experiment: Experiment, parameter: torch.Tensor) -> tuple[Callable[..., None], list[torch.Tensor]]:
    """torch's functional Adam or SGD, of a parameter, its gradient and a state, all changed in place; and the first state.

    The step of torch.optim.Adam and torch.optim.SGD calls the same functions; torch.compile breaks the graph at the step itself.
    The count of steps is float64, as precise as the step's number of Python, unless the device lacks such numbers. Under the
    compiler Adam is capturable: else torch 2.13 checks in Python, at each call, that the count is not NaN, which takes 50 us.
    """
    spec = experiment.optimizer
    common: dict[str, Any] = {"foreach": False, "lr": spec.lr, "weight_decay": spec.weight_decay, "maximize": False}
    total = [] if experiment.zero_grad else [torch.zeros_like(parameter)]
    if isinstance(spec, Adam):
        common |= {"amsgrad": False, "beta1": spec.betas[0], "beta2": spec.betas[1], "eps": spec.eps}
        count = torch.zeros((), device=parameter.device, dtype=torch.float32 if parameter.is_mps else torch.float64)
        state = [torch.zeros_like(parameter), torch.zeros_like(parameter), count]
    else:
        common |= {"momentum": spec.momentum, "dampening": 0.0, "nesterov": False}
        state = [torch.zeros_like(parameter)] if spec.momentum else []

    def step(parameter: torch.Tensor, gradient: torch.Tensor, *state: torch.Tensor) -> None:
        if total:
            gradient, state = state[0].add_(gradient), state[1:]
        if isinstance(spec, Adam):
            first, second, count = state
            adam(
                [parameter],
                [gradient],
                [first],
                [second],
                [],
                [count],
                capturable=torch.compiler.is_compiling(),
                **common,
            )
        else:
            sgd([parameter], [gradient], list(state) or [None], **common)

    return step, [*total, *state]


def tensor(array: Array) -> torch.Tensor:
    """The array as a tensor, without a copy: nothing here writes to it, which is all that torch's warning is about."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array)


@contextmanager
def conditions(start: Start, device: str) -> Iterator[None]:
    """torch's settings while a backend trains: its default dtype, its threads, and denormals that count as zero."""
    # A step of narrow networks takes 10 to 100 us. Two threads wait for each other as long as they work; beside another process
    # that keeps a processor busy, 400 steps of a plain loop took 7.6 s with two threads, and 0.28 s with one.
    count = 1 if max(start.experiment.model.widths) <= WIDEST_WITHOUT_BLAS else parallel.cpu_count()
    with default_dtype(torch_dtype(start.dtype)), threads(count), flushed_denormals(device):
        yield


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """People who train in float64 set it as the default; Adam then counts its steps in float64 too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def rounded_products(products: str, device: str) -> AbstractContextManager[object]:
    """Where products are to be rounded to bfloat16 or float16, torch does so on its own; losses are taken outside, in float32.

    Nothing is kept of one step for the next: a weight that was rounded for it would be an old one. Where they are not, there is
    no autocast at all: of steps with one, even one that is not enabled, torch keeps no trace on disk, and compiles 1.3 s longer.
    """
    if not products:
        return nullcontext()
    return torch.autocast(torch.device(device).type, getattr(torch, products), cache_enabled=False)


@contextmanager
def flushed_denormals(device: str) -> Iterator[None]:
    """On a CPU, numbers too small to be normal count as zero, as they do on GPUs.

    Adam's moments of dead units decay into such numbers, with which a CPU is slow: after three epochs a step of the question's
    network took 2.3 ms, and 1.3 ms so.
    """
    is_flushed = not bool(torch.tensor([1e-40]) * 1)
    torch.set_flush_denormal(is_flushed or torch.device(device).type == "cpu")
    try:
        yield
    finally:
        torch.set_flush_denormal(is_flushed)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """That many threads for torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def torch_dtype(dtype: Any) -> torch.dtype:
    """torch's name for a NumPy dtype."""
    return torch.float64 if dtype == "float64" else torch.float32
