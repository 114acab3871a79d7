"""The vocabulary as torch's modules, losses and optimizers. None of them is re-implemented."""

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

# A function of parameters and a learning rate; it makes the optimizer that trains in Adam's place.
Factory = Callable[[Sequence[nn.Parameter], float], Any]
# Wider layers are faster as matrix products of BLAS.
WIDEST_WITHOUT_BLAS: Final = 32
LOSSES = {"mse": nn.MSELoss, "bce": nn.BCELoss, "bce_logits": nn.BCEWithLogitsLoss}


def activation(spec: Activation) -> nn.Module | None:
    """Return torch's module for an activation; None for identity."""
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
    """Return the model as an nn.Sequential of nn.Linear layers, or of a subclass, and activations."""
    parts: list[nn.Module] = []
    for inputs, outputs, spec in zip(model.widths, model.widths[1:], model.activations, strict=False):
        parts.append(layer(inputs, outputs, device=device, dtype=dtype))
        if (module := activation(spec)) is not None:
            parts.append(module)
    return nn.Sequential(*parts)


def load(module: nn.Sequential, parameters: Parameters, seed: int) -> None:
    """Copy the initial parameters of the seed at that index into a network."""
    linear = [part for part in module if isinstance(part, nn.Linear)]
    with torch.no_grad():
        for part, (weight, bias) in zip(linear, parameters, strict=True):
            part.weight.copy_(tensor(weight[seed]))
            part.bias.copy_(tensor(bias[seed]))


def collect(tensors: Iterable[torch.Tensor]) -> Parameters:
    """Return stacked parameters as NumPy arrays, seeds first. The tensors come in the order weight, bias, weight, ..."""
    arrays = [values.detach().cpu().numpy().copy() for values in tensors]
    return tuple(LayerParameters(w, b) for w, b in zip(arrays[::2], arrays[1::2], strict=True))


def optimizer(
    experiment: Experiment, parameters: list[nn.Parameter], own: Factory | None = None, **settings: Any
) -> Any:
    """Return torch's stock optimizer, with these settings besides the experiment's, or a custom one in Adam's place."""
    spec = experiment.optimizer
    if own is not None and isinstance(spec, Adam):
        return own(parameters, spec.lr)
    common: dict[str, Any] = {"lr": spec.lr, "weight_decay": spec.weight_decay, **settings}
    if isinstance(spec, Adam):
        return torch.optim.Adam(parameters, betas=spec.betas, eps=spec.eps, **common)
    return torch.optim.SGD(parameters, momentum=spec.momentum, **common)


def update(experiment: Experiment, parameter: torch.Tensor) -> tuple[Callable[..., None], list[torch.Tensor]]:
    """Return a step of torch's functional Adam or SGD, and its first state.

    The step takes a parameter, its gradient and a state, and changes the parameter and the state in place. The step of
    torch.optim.Adam and torch.optim.SGD calls the same functions, but torch.compile breaks the graph at that step. The count of
    steps is float64, as precise as Python's number, unless the device lacks float64. Under the compiler Adam is capturable. Else
    torch 2.13 checks in Python, at each call, that the count is not NaN, which takes 50 us.
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
    """Return the array as a tensor, without a copy. torch warns that writing to it is undefined; nothing here writes to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array)


@contextmanager
def conditions(start: Start, device: str) -> Iterator[None]:
    """Set torch's default dtype and threads, and let denormals count as zero, while a backend trains."""
    # A step of narrow networks takes 10 to 100 us. Two threads wait for each other as long as they work. If another process
    # keeps a processor busy, 400 steps of a plain loop took 7.6 s with two threads, and 0.28 s with one.
    count = 1 if max(start.experiment.model.widths) <= WIDEST_WITHOUT_BLAS else parallel.cpu_count()
    with default_dtype(torch_dtype(start.dtype)), threads(count), flushed_denormals(device):
        yield


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Set torch's default dtype, as you would to train in float64. Adam then counts its steps in float64 too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def rounded_products(products: str, device: str) -> AbstractContextManager[object]:
    """Return torch's autocast to bfloat16 or float16, or a null context if products are not rounded.

    Losses are computed outside of it, in float32. The cache is off, because a weight that was rounded in one step is old in the
    next. If products are not rounded, there is no autocast at all. torch keeps no trace on disk of steps with autocast, even if
    it is disabled, and compiles 1.3 s longer.
    """
    if not products:
        return nullcontext()
    return torch.autocast(torch.device(device).type, getattr(torch, products), cache_enabled=False)


@contextmanager
def flushed_denormals(device: str) -> Iterator[None]:
    """Let numbers that are too small to be normal count as zero on a CPU, as they do on GPUs.

    Adam's moments of dead units decay into such numbers, which make a CPU slow. After three epochs a step of the question's
    network took 2.3 ms with them, and 1.3 ms if they count as zero.
    """
    is_flushed = not bool(torch.tensor([1e-40]) * 1)
    torch.set_flush_denormal(is_flushed or torch.device(device).type == "cpu")
    try:
        yield
    finally:
        torch.set_flush_denormal(is_flushed)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use that many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def torch_dtype(dtype: Any) -> torch.dtype:
    """Return torch's dtype for a NumPy dtype."""
    return torch.float64 if dtype == "float64" else torch.float32
