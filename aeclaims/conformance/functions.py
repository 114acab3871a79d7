"""Functions of torch beside their formulas in float64: values and gradients, at their extremes too."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy

from aeclaims.conformance.direct import Torch, close, host
from aeclaims.judging.judge import Judge

Array = npt.NDArray[np.float64]
LOGITS = np.array([-110, -88, -60, -17, -5, -1, -1e-3, -1e-4, 0, 1e-4, 1e-3, 1, 5, 17, 60, 88, 110], np.float64)
PROBABILITIES = np.array([0, 1e-37, 1e-20, 4e-5, 1e-3, 0.25, 0.5, 0.9, 1 - 2.0**-20, 1])
TARGETS = np.array([0, 1e-6, 0.25, 0.5, 0.75, 1 - 2.0**-20, 1])
TINY = float(np.finfo(np.float32).tiny)
WHY_FEW = "a few operations, each of which rounds once: 8 roundings of the largest number that is added"
WHY_SUM = "a sum of n products rounds 2 n times at most"


class Case(NamedTuple):
    """A function of tensors at some inputs, its value and its gradient there.

    inputs: numbers that the dtype holds.    value: the formula in float64.    slope: the gradient of its sum by the first input.
    allowed, allowed_slope: by how much both may be off.
    """

    name: str
    function: Callable[..., Any]
    inputs: tuple[Array, ...]
    value: Array
    slope: Array
    allowed: Array
    allowed_slope: Array
    reason: str = WHY_FEW
    because_slope: str = WHY_FEW


def held(torch: Torch, *arrays: Any) -> list[Array]:
    """The numbers that the dtype holds, in float64."""
    return [host(torch.tensor(array)) for array in arrays]


def activations(torch: Torch, *, is_compiled: bool = False) -> list[Case]:
    """ReLU, leaky ReLU, tanh and sigmoid, to within 8 roundings; derivatives to within 8 roundings of 1.

    Compiled code may take tanh as 2 sigmoid(2 x) - 1, which rounds numbers of size 1. inductor of torch 2.6 does: it is off by
    up to 1.8e-7 next to 0, and eager tanh by 3e-8 anywhere.
    """
    nn = torch.module.nn
    (x,) = held(torch, np.concatenate([LOGITS / 10, np.linspace(-8, 8, 400), [1e-20, -1e-20]]))
    formulas: dict[str, tuple[Callable[[Any], Any], Array, Array]] = {
        "ReLU": (nn.ReLU(), np.maximum(x, 0), (x > 0).astype(float)),
        "tanh": (nn.Tanh(), np.tanh(x), 1 - np.tanh(x) ** 2),
        "sigmoid": (nn.Sigmoid(), scipy.special.expit(x), scipy.special.expit(x) * scipy.special.expit(-x)),
    }
    for slope in (0.01, 0.1, 0.3):
        formulas[f"leaky ReLU of {slope}"] = (
            nn.LeakyReLU(slope),
            np.where(x > 0, x, slope * x),
            np.where(x > 0, 1, slope),
        )
    return [
        Case(
            name,
            function,
            (x,),
            value,
            derivative,
            8 * torch.eps * (np.ones_like(x) if is_compiled and name == "tanh" else np.abs(value)),
            np.full_like(x, 8 * torch.eps),
        )
        for name, (function, value, derivative) in formulas.items()
    ]


def log_loss_on_logits(torch: Torch) -> Case:
    """BCEWithLogitsLoss of each number."""
    z, x = held(torch, *np.meshgrid(LOGITS, TARGETS))
    value = np.where(x == 1, np.logaddexp(0, -z), np.logaddexp(0, z) - x * z)
    # torch adds (1 - x) z and -log(sigmoid(z)), which cancel for z far below 0; where x = 1 the first is exactly 0.
    scale = np.where(x == 1, value, 1 + np.abs(z))
    return Case(
        "BCE on logits",
        torch.module.nn.BCEWithLogitsLoss(reduction="none"),
        (z, x),
        value,
        scipy.special.expit(z) - x,
        8 * torch.eps * scale + TINY,
        np.full_like(z, 8 * torch.eps),
        because_slope="sigmoid(z) - x, below 1",
    )


def log_loss_of_probabilities(torch: Torch, *, is_compiled: bool = False) -> Case:
    """BCELoss of each number; its logarithms are held at -100.

    torch 2.13's kernel divides by at least 1e-12 rounded to float32, inductor's decomposition by 1e-12 itself: 4e-9 apart.
    """
    p, x = held(torch, *np.meshgrid(PROBABILITIES, TARGETS))
    with np.errstate(divide="ignore"):
        log_p, log_rest = np.maximum(np.log(p), -100), np.maximum(np.log1p(-p), -100)
    value = -(x * log_p + (1 - x) * log_rest)
    least = float(np.float32(1e-12))
    slope = (p - x) / np.maximum((1 - p) * p, least)
    of_least = np.where((1 - p) * p < least, abs(1 - 1e-12 / least), 0) * is_compiled
    return Case(
        "BCE of probabilities",
        torch.module.nn.BCELoss(reduction="none"),
        (p, x),
        value,
        slope,
        8 * torch.eps * (np.abs(value) + torch.eps),
        (8 * torch.eps + of_least) * np.abs(slope) + TINY,
        because_slope="(p - x) / max(p (1 - p), 1e-12), as torch documents it",
    )


def losses_of_minibatches(torch: Torch) -> list[Case]:
    """The losses as people call them: means over all axes, here of 7 rows of 5 numbers."""
    nn = torch.module.nn
    y, x = held(torch, *np.random.default_rng(1).uniform(0.1, 0.9, (2, 7, 5)))
    formulas = {
        "MSE": (nn.MSELoss(), (y - x) ** 2, 2 * (y - x)),
        "the mean of BCE of probabilities": (
            nn.BCELoss(),
            -(x * np.log(y) + (1 - x) * np.log1p(-y)),
            (y - x) / (y * (1 - y)),
        ),
        "the mean of BCE on logits": (nn.BCEWithLogitsLoss(), np.logaddexp(0, y) - x * y, scipy.special.expit(y) - x),
    }
    return [
        Case(
            name,
            function,
            (y, x),
            value.mean(),
            slope / y.size,
            32 * torch.eps * np.abs(value.mean()),
            8 * torch.eps * (np.abs(slope) + 1) / y.size,
            reason="terms round a few times, and are added up",
        )
        for name, (function, value, slope) in formulas.items()
    ]


def arithmetic(torch: Torch) -> list[Case]:
    """Roots, powers, quotients, exponentials and logarithms, as optimizers and losses use them."""
    module = torch.module
    x, y = held(torch, 10.0 ** np.linspace(-6, 1.5, 61), np.linspace(0.5, 80, 61))
    formulas: dict[str, tuple[Callable[..., Any], Array, Array]] = {
        "sqrt": (lambda x, y: module.sqrt(x), np.sqrt(x), 0.5 / np.sqrt(x)),
        "a quotient": (lambda x, y: y / x, y / x, -y / x**2),
        "a reciprocal": (lambda x, y: 1 / x, 1 / x, -1 / x**2),
        "0.9^x": (lambda x, y: 0.9**x, 0.9**x, np.log(0.9) * 0.9**x),
        "exp": (lambda x, y: module.exp(-x), np.exp(-x), -np.exp(-x)),
        "log": (lambda x, y: module.log(x), np.log(x), 1 / x),
    }
    # The exponent of a power is rounded before it is raised: x by eps / 2, which a power of 0.9 multiplies by x ln 0.9.
    return [
        Case(
            name,
            function,
            (x, y),
            value,
            slope,
            8 * torch.eps * (np.abs(value) + (name == "log") * torch.eps),
            8 * torch.eps * np.abs(slope),
        )
        for name, (function, value, slope) in formulas.items()
    ]


def products(torch: Torch, rows: int = 8, inner: int = 5) -> list[Case]:
    """Layers and products of batches, by their inputs and by their weights; sums and means over the rows."""
    random, module = np.random.default_rng(0), torch.module
    x, w, b = held(
        torch, random.standard_normal((rows, inner)), random.standard_normal((3, inner)), random.standard_normal(3)
    )
    many, others = held(torch, random.standard_normal((2, rows, inner)), random.standard_normal((2, inner, 3)))
    linear, ones = module.nn.functional.linear, np.ones((rows, 3))
    size = np.abs(x) @ np.abs(w).T + np.abs(b)
    formulas: dict[str, tuple[Callable[..., Any], tuple[Array, ...], Array, Array, Array, Array, int]] = {
        "linear": (linear, (x, w, b), x @ w.T + b, ones @ w, size, ones @ np.abs(w), inner),
        "linear, by its weight": (
            lambda w, x, b: linear(x, w, b),
            (w, x, b),
            x @ w.T + b,
            ones.T @ x,
            size,
            ones.T @ np.abs(x),
            rows,
        ),
        "linear, by its bias": (
            lambda b, x, w: linear(x, w, b),
            (b, x, w),
            x @ w.T + b,
            ones.sum(axis=0),
            size,
            ones.sum(axis=0),
            rows,
        ),
        "bmm": (
            module.bmm,
            (many, others),
            many @ others,
            np.ones((2, rows, 3)) @ others.swapaxes(1, 2),
            np.abs(many) @ np.abs(others),
            np.ones((2, rows, 3)) @ np.abs(others).swapaxes(1, 2),
            inner,
        ),
        "a sum over rows": (
            lambda x: x.sum(dim=0),
            (x,),
            x.sum(axis=0),
            np.ones_like(x),
            np.abs(x).sum(axis=0),
            np.ones_like(x),
            rows,
        ),
        "a mean": (
            lambda x: x.mean(),
            (x,),
            x.mean(),
            np.full_like(x, 1 / x.size),
            np.abs(x).mean(),
            np.full_like(x, 1 / x.size),
            x.size,
        ),
    }
    return [
        Case(
            name,
            function,
            inputs,
            np.asarray(value),
            slope,
            (count + 3) * torch.eps * np.asarray(size),
            (count + 3) * torch.eps * size_of_slope,
            WHY_SUM,
            WHY_SUM,
        )
        for name, (function, inputs, value, slope, size, size_of_slope, count) in formulas.items()
    ]


def judge_cases(
    torch: Torch,
    judge: Judge,
    cases: list[Case],
    compiled: Callable[[Any], Any] = lambda function: function,
) -> None:
    """Judge values and gradients of functions; `compiled` compiles one call of all of them."""
    calls = [case.function for case in cases]
    inputs = [[torch.tensor(array) for array in case.inputs] for case in cases]
    for own in inputs:
        own[0].requires_grad_()
    values = compiled(lambda tensors: [function(*own) for function, own in zip(calls, tensors, strict=True)])(inputs)
    torch.module.stack([value.sum() for value in values]).sum().backward()
    for case, own, value in zip(cases, inputs, values, strict=True):
        close(judge, host(value), case.value, case.allowed, what=f"{case.name}, off by", reason=case.reason)
        close(
            judge,
            host(own[0].grad),
            case.slope,
            case.allowed_slope,
            what=f"gradient of {case.name}, off by",
            reason=case.because_slope,
        )
