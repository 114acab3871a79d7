"""torch's own functions against float64: losses and activations at extreme inputs, NaN, and products of matrices."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from aeclaims.conformance import functions
from aeclaims.conformance.direct import Torch, close, host, number, seeded, under_test
from aeclaims.conformance.stack import Stack
from aeclaims.judging.claim import ALL, conformance
from aeclaims.judging.judge import Judge


@conformance(
    "BCEWithLogitsLoss",
    statement="value and gradient at extreme logits and targets",
    source="torch",
    seeds=1,
    is_quick=True,
)
def test_log_loss_on_logits(stack: Stack, judge: Judge) -> None:
    torch = under_test(stack)
    functions.judge_cases(torch, judge, [functions.log_loss_on_logits(torch)])
    judge_mean(
        torch, judge, torch.module.nn.BCEWithLogitsLoss(), lambda z, x: np.logaddexp(0, z) - x * z, "BCE on logits"
    )


@conformance(
    "BCELoss",
    statement="value and gradient at extreme probabilities, with logarithms clamped at -100",
    source="torch",
    seeds=1,
    is_quick=True,
)
def test_log_loss_of_probabilities(stack: Stack, judge: Judge) -> None:
    torch = under_test(stack)
    functions.judge_cases(torch, judge, [functions.log_loss_of_probabilities(torch)])
    judge_mean(
        torch,
        judge,
        torch.module.nn.BCELoss(),
        lambda p, x: -(x * np.log(p) + (1 - x) * np.log1p(-p)),
        "BCE of probabilities",
    )


def judge_mean(torch: Torch, judge: Judge, loss: Any, oracle_run: Callable[[Any, Any], Any], name: str) -> None:
    """Judge a loss as trainings use it: the mean over all axes, of a full and of a short minibatch."""
    for shape in ((128, 3), (48, 3), (20_000, 2)):
        y, x = functions.held(torch, *np.random.default_rng(1).uniform(0.1, 0.9, (2, *shape)))
        value, slope = _value_and_slope(torch, loss, y, x)
        number(
            judge,
            abs(float(value) / oracle_run(y, x).mean() - 1),
            at_most=32 * torch.eps,
            what=f"relative deviation of the mean of {name} over {shape}",
            reason="each term rounds a few times, and torch adds in blocks",
        )
        number(
            judge,
            float(np.abs(slope).max()),
            at_most=10 / x.size,
            what=f"gradient of the mean of {name} over {shape}",
            reason="a mean over n numbers gives each the weight 1/n, and slopes here are below 10",
        )


@conformance(
    "MSELoss",
    statement="the mean of squared errors over all axes, row by row, and its gradient",
    source="torch",
    seeds=1,
    is_quick=True,
)
def test_squared_error(stack: Stack, judge: Judge) -> None:
    torch = under_test(stack)
    random = np.random.default_rng(0)
    for shape in ((7, 5), (300, 2), (20_000, 3)):
        for scale in (1.0, 1e-5):
            y, x = functions.held(torch, random.random(shape), random.random(shape))
            y = functions.held(torch, x + scale * (y - x))[0]
            value, slope = _value_and_slope(torch, torch.module.nn.MSELoss(), y, x)
            oracle_run = float(((y - x) ** 2).mean())
            number(
                judge,
                abs(float(value) / oracle_run - 1),
                at_most=32 * torch.eps,
                what=f"relative deviation of MSE of {shape}, {scale:g}",
                reason="differences are exact or round once, and torch adds in blocks",
            )
            expected = 2 * (y - x) / x.size
            close(
                judge,
                slope,
                expected,
                8 * torch.eps * np.abs(expected) + torch.eps * np.abs(x) / x.size,
                what=f"error of the gradient of MSE of {shape}",
                reason="2 (y - x) / n",
            )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.module.nn.MSELoss()(torch.tensor(random.random((3, 1))), torch.tensor(random.random(3)))
    number(
        judge,
        len(caught),
        at_least=1,
        what="warnings about outputs of shape (3, 1) and targets of shape (3,)",
        reason="torch broadcasts them to nine differences, and three were meant",
    )


@conformance(
    "activations",
    statement="ReLU, leaky ReLU with its slope, tanh, sigmoid: forward and backward",
    source="torch",
    seeds=1,
    is_quick=True,
)
def test_activations(stack: Stack, judge: Judge) -> None:
    torch = under_test(stack)
    functions.judge_cases(torch, judge, functions.activations(torch))


@conformance(
    "NaN",
    statement="NaN and infinity stay visible in means, maxima, losses and a training step",
    source="torch",
    seeds=1,
    is_quick=True,
)
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
        number(
            judge,
            float(is_visible),
            at_least=1,
            what=f"whether {name} shows NaN or infinity",
            reason="a diverged replica must be visible",
        )


@conformance(
    "products",
    statement="products of matrices round as the dtype does",
    source="torch",
    seeds=1,
    is_quick=True,
    formats=ALL,
)
def test_products_are_rounded_as_the_dtype_rounds(stack: Stack, judge: Judge) -> None:
    torch = under_test(stack)
    random = np.random.default_rng(0)
    for inner in (2, 8, 32):
        a, b = functions.held(torch, random.standard_normal((64, inner)), random.standard_normal((48, inner)))
        one, other = torch.tensor(a), torch.tensor(b)
        for name, product in (
            ("a @ b", one @ other.T),
            ("linear", torch.module.nn.functional.linear(one, other)),
            ("bmm", (one[None] @ other.T[None])[0]),
        ):
            close(
                judge,
                host(product),
                a @ b.T,
                (inner + 2) * torch.eps * (np.abs(a) @ np.abs(b).T),
                what=f"error of {name}",
                reason="a sum of n products rounds at most 2 n times; TF32 and bfloat16 round operands to 11 and 8 bits",
            )


def _value_and_slope(torch: Torch, loss: Callable[..., Any], y: Any, x: Any) -> tuple[Any, Any]:
    """Return a loss, and the gradient of its sum by the outputs."""
    outputs = torch.tensor(y, requires_grad=True)
    value = loss(outputs, torch.tensor(x))
    value.sum().backward()
    return host(value), host(outputs.grad)
