"""torch's own functions against float64: losses and activations at their extremes, NaN, and products of matrices."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy

from aeclaims.claim import ALL, conformance
from aeclaims.conformance.direct import Torch, close, host, number, seeded, under_test
from aeclaims.judge import Judge
from aeclaims.stack import Stack

LOGITS = np.array([-110, -88, -60, -17, -5, -1, -1e-3, -1e-4, 0, 1e-4, 1e-3, 1, 5, 17, 60, 88, 110], np.float64)
TARGETS = np.array([0, 1e-6, 0.25, 0.5, 0.75, 1 - 2.0**-20, 1])
WHY_FEW = "a few operations, each of which rounds once: 8 roundings of the largest number that is added"


@conformance("BCEWithLogitsLoss", says="value and gradient at extreme logits and targets", where="torch", seeds=1, is_quick=True)
def test_log_loss_on_logits(stack: Stack, judge: Judge) -> None:
    torch = under_test(stack)
    z, x = _rounded(torch, *np.meshgrid(LOGITS, TARGETS))
    value, slope = _value_and_slope(torch, torch.module.nn.BCEWithLogitsLoss(reduction="none"), z, x)
    truth = np.where(x == 1, np.logaddexp(0, -z), np.logaddexp(0, z) - x * z)
    # torch adds (1 - x) z and -log(sigmoid(z)), which cancel for z far below 0; where x = 1 the first is exactly 0.
    scale = np.where(x == 1, truth, 1 + np.abs(z))
    close(judge, value, truth, 8 * torch.eps * scale + np.finfo(np.float32).tiny, what="BCE on logits, off by", because=WHY_FEW)
    close(judge, slope, scipy.special.expit(z) - x, 8 * torch.eps, what="gradient of BCE on logits, off by",
          because="sigmoid(z) - x, below 1")
    judge_mean(torch, judge, torch.module.nn.BCEWithLogitsLoss(), lambda z, x: np.logaddexp(0, z) - x * z, "BCE on logits")


@conformance("BCELoss", says="value and gradient of probabilities, its logarithms held at -100",
             where="torch", seeds=1, is_quick=True)
def test_log_loss_of_probabilities(stack: Stack, judge: Judge) -> None:
    torch = under_test(stack)
    probabilities = np.array([0, 1e-37, 1e-20, 4e-5, 1e-3, 0.25, 0.5, 0.9, 1 - 2.0**-20, 1])
    p, x = _rounded(torch, *np.meshgrid(probabilities, TARGETS))
    value, slope = _value_and_slope(torch, torch.module.nn.BCELoss(reduction="none"), p, x)
    with np.errstate(divide="ignore"):
        log_p, log_rest = np.maximum(np.log(p), -100), np.maximum(np.log1p(-p), -100)
    truth = -(x * log_p + (1 - x) * log_rest)
    close(judge, value, truth, 8 * torch.eps * (np.abs(truth) + torch.eps), what="BCE of probabilities, off by", because=WHY_FEW)
    expected = (p - x) / np.maximum((1 - p) * p, float(np.float32(1e-12)))  # torch holds that number in float32
    close(judge, slope, expected, 8 * torch.eps * np.abs(expected) + np.finfo(np.float32).tiny,
          what="gradient of BCE of probabilities, off by", because="(p - x) / max(p (1 - p), 1e-12), as torch documents it")
    judge_mean(torch, judge, torch.module.nn.BCELoss(), lambda p, x: -(x * np.log(p) + (1 - x) * np.log1p(-p)),
               "BCE of probabilities")


def judge_mean(torch: Torch, judge: Judge, loss: Any, truth: Callable[[Any, Any], Any], name: str) -> None:
    """A loss as it is used: the mean over all axes, of a full and of a short minibatch."""
    for shape in ((128, 3), (48, 3), (20_000, 2)):
        y, x = _rounded(torch, *np.random.default_rng(1).uniform(0.1, 0.9, (2, *shape)))
        value, slope = _value_and_slope(torch, loss, y, x)
        number(judge, abs(float(value) / truth(y, x).mean() - 1), at_most=32 * torch.eps,
               what=f"relative deviation of the mean of {name} over {shape}",
               because="terms round a few times, and sums are taken in blocks")
        number(judge, float(np.abs(slope).max()), at_most=10 / x.size, what=f"gradient of the mean of {name} over {shape}",
               because="a mean over n numbers weighs each with 1/n; here its slope is below 10")


@conformance("MSELoss", says="the mean over all axes of squares, row by row, and its gradient",
             where="torch", seeds=1, is_quick=True)
def test_squared_error(stack: Stack, judge: Judge) -> None:
    torch = under_test(stack)
    random = np.random.default_rng(0)
    for shape in ((7, 5), (300, 2), (20_000, 3)):
        for scale in (1.0, 1e-5):
            y, x = _rounded(torch, random.random(shape), random.random(shape))
            y = _rounded(torch, x + scale * (y - x))[0]
            value, slope = _value_and_slope(torch, torch.module.nn.MSELoss(), y, x)
            truth = float(((y - x) ** 2).mean())
            number(judge, abs(float(value) / truth - 1), at_most=32 * torch.eps,
                   what=f"relative deviation of MSE of {shape}, {scale:g}",
                   because="differences are exact or round once, and sums are taken in blocks")
            expected = 2 * (y - x) / x.size
            close(judge, slope, expected, 8 * torch.eps * np.abs(expected) + torch.eps * np.abs(x) / x.size,
                  what=f"gradient of MSE of {shape}, off by", because="2 (y - x) / n")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.module.nn.MSELoss()(torch.tensor(random.random((3, 1))), torch.tensor(random.random(3)))
    number(judge, len(caught), at_least=1, what="warnings of outputs (3, 1) and targets (3,)",
           because="they are broadcast to nine differences, of which three were meant")


@conformance("activations", says="ReLU, leaky ReLU with its slope, tanh, sigmoid: forward and backward",
             where="torch", seeds=1, is_quick=True)
def test_activations(stack: Stack, judge: Judge) -> None:
    torch = under_test(stack)
    nn = torch.module.nn
    (x,) = _rounded(torch, np.concatenate([LOGITS / 10, np.linspace(-8, 8, 400), [1e-20, -1e-20]]))
    cases: dict[str, tuple[Callable[[Any], Any], Any, Any]] = {
        "ReLU": (nn.ReLU(), np.maximum(x, 0), (x > 0).astype(float)),
        "tanh": (nn.Tanh(), np.tanh(x), 1 - np.tanh(x) ** 2),
        "sigmoid": (nn.Sigmoid(), scipy.special.expit(x), scipy.special.expit(x) * scipy.special.expit(-x)),
    }
    for slope in (0.01, 0.1, 0.3):
        cases[f"leaky ReLU of {slope}"] = (nn.LeakyReLU(slope), np.where(x > 0, x, slope * x), np.where(x > 0, 1, slope))
    for name, (function, truth, expected) in cases.items():
        given = torch.tensor(x, requires_grad=True)
        output = function(given)
        output.sum().backward()
        close(judge, host(output), truth, 8 * torch.eps * np.abs(truth), what=f"{name}, off by", because=WHY_FEW)
        close(judge, host(given.grad), expected, 8 * torch.eps, what=f"derivative of {name}, off by", because=WHY_FEW)


@conformance("NaN", says="NaN and infinity stay visible in means, maxima, losses and a training step",
             where="torch", seeds=1, is_quick=True)
def test_nan_stays_visible(stack: Stack, judge: Judge) -> None:
    torch = under_test(stack)
    bad = torch.tensor([0.5, np.nan, 0.25, np.inf])
    seen = {
        "isnan": torch.module.isnan(bad).tolist() == [False, True, False, False],
        "isfinite": torch.module.isfinite(bad).tolist() == [True, False, True, False],
        "isinf": torch.module.isinf(bad).tolist() == [False, False, False, True],
        "the method isnan": bad.isnan().tolist() == [False, True, False, False],
        "the method isfinite": bad.isfinite().tolist() == [True, False, True, False],
        "mean": np.isnan(float(bad.mean())), "max": np.isnan(float(bad.max())), "sum": np.isnan(float(bad.sum())),
        "a comparison": not bool(bad[1] < 1) and not bool(bad[1] >= 1),
        "MSE": np.isnan(float(torch.module.nn.MSELoss()(bad[:3], torch.tensor([0.0, 0.0, 0.0])))),
    }  # fmt: skip
    with seeded(torch, 0):
        layer = torch.module.nn.Linear(3, 3, device=torch.device, dtype=torch.dtype)
    optimizer = torch.module.optim.SGD(layer.parameters(), lr=0.1)
    torch.module.nn.MSELoss()(layer(bad[None, :3]), bad[None, :3]).backward()
    optimizer.step()
    seen["a parameter after a step"] = np.isnan(host(layer.bias)).any()
    for name, is_visible in seen.items():
        number(judge, float(is_visible), at_least=1, what=f"whether {name} shows it", because="a diverged replica must be seen")


@conformance("products", says="products of matrices are rounded as the dtype rounds", where="torch", seeds=1, is_quick=True,
             formats=ALL)
def test_products_are_rounded_as_the_dtype_rounds(stack: Stack, judge: Judge) -> None:
    torch = under_test(stack)
    random = np.random.default_rng(0)
    for inner in (2, 8, 32):
        a, b = _rounded(torch, random.standard_normal((64, inner)), random.standard_normal((48, inner)))
        one, other = torch.tensor(a), torch.tensor(b)
        for name, product in (("a @ b", one @ other.T), ("linear", torch.module.nn.functional.linear(one, other)),
                              ("bmm", (one[None] @ other.T[None])[0])):
            close(judge, host(product), a @ b.T, (inner + 2) * torch.eps * (np.abs(a) @ np.abs(b).T), what=f"{name}, off by",
                  because="a sum of n products rounds 2 n times at most; TF32 and bfloat16 round operands to 11 and 8 bits")


def _rounded(torch: Torch, *arrays: Any) -> list[Any]:
    """The numbers that the dtype holds, in float64."""
    return [host(torch.tensor(array)) for array in arrays]


def _value_and_slope(torch: Torch, loss: Callable[..., Any], y: Any, x: Any) -> tuple[Any, Any]:
    """A loss, and the gradient of its sum by the outputs."""
    outputs = torch.tensor(y, requires_grad=True)
    value = loss(outputs, torch.tensor(x))
    value.sum().backward()
    return host(value), host(outputs.grad)
