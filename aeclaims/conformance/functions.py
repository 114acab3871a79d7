"""Comparison of torch's functions with their formulas in float64: values and gradients, also at extreme inputs."""

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
WHY_FEW = "a few operations round once each: at most 8 roundings of the largest number that is added"
WHY_SUM = "a sum of n products rounds at most 2 n times"


class Case(NamedTuple):
    """A function of tensors at some inputs, with its exact value and gradient.

    Attributes:
        name: Name in messages.
        function: Function under test.
        inputs: Arguments; the dtype represents them exactly.
        value: Value of the formula in float64.
        slope: Gradient of the sum of the values with respect to the first input.
        allowed: Largest allowed error of the value.
        allowed_slope: Largest allowed error of the gradient.
        reason: Reason for `allowed`.
        because_slope: Reason for `allowed_slope`.
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
    """Round arrays to the dtype under test, and return them in float64."""
    return [host(torch.tensor(array)) for array in arrays]


def activations(torch: Torch, *, is_compiled: bool = False) -> list[Case]:
    """Return cases of ReLU, leaky ReLU, tanh and sigmoid.

    Values may be off by 8 roundings, and derivatives by 8 roundings of 1. Compiled code may compute tanh as 2 sigmoid(2 x) - 1,
    which rounds numbers of size 1. Inductor of torch 2.6 does: its error is up to 1.8e-7 near 0. The error of eager tanh is at
    most 3e-8 everywhere.
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
    """Return the case of BCEWithLogitsLoss on each pair of a logit and a target."""
    z, x = held(torch, *np.meshgrid(LOGITS, TARGETS))
    value = np.where(x == 1, np.logaddexp(0, -z), np.logaddexp(0, z) - x * z)
    # torch adds (1 - x) z and -log(sigmoid(z)), which cancel if z is far below 0. If x = 1, the first term is exactly 0.
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
    """Return the case of BCELoss on each pair of a probability and a target. Logarithms are clamped to at least -100.

    The kernel of torch 2.13 divides by at least 1e-12 rounded to float32. Inductor's decomposition divides by at least 1e-12
    itself. The relative difference of these divisors is 4e-9.
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
    """Return cases of the losses as you call them: means over all axes, here of 7 rows of 5 numbers."""
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
            reason="each term rounds a few times, and so does their sum",
        )
        for name, (function, value, slope) in formulas.items()
    ]


def arithmetic(torch: Torch) -> list[Case]:
    """Return cases of roots, powers, quotients, exponentials and logarithms, which optimizers and losses use."""
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
    # The exponent x of a power is rounded first. Its relative error of eps / 2 changes 0.9^x by x ln 0.9 times as much.
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
    """Return cases of layers, products of batches, sums and means.

    The gradients of layers are those by their inputs, by their weights and by their biases.
    """
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
    """Judge the values and gradients of cases. `compiled` compiles one function that calls all of theirs."""
    calls = [case.function for case in cases]
    inputs = [[torch.tensor(array) for array in case.inputs] for case in cases]
    for own in inputs:
        own[0].requires_grad_()
    values = compiled(lambda tensors: [function(*own) for function, own in zip(calls, tensors, strict=True)])(inputs)
    torch.module.stack([value.sum() for value in values]).sum().backward()
    for case, own, value in zip(cases, inputs, values, strict=True):
        close(judge, host(value), case.value, case.allowed, what=f"error of {case.name}", reason=case.reason)
        close(
            judge,
            host(own[0].grad),
            case.slope,
            case.allowed_slope,
            what=f"error of the gradient of {case.name}",
            reason=case.because_slope,
        )
