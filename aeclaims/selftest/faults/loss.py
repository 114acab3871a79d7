"""Faults of losses: their terms, divisors and precision, and the clamps of their logarithms."""

from __future__ import annotations

from typing import Any

from aeclaims.experiment import SIGMOID, affine
from aeclaims.selftest.faults.fault import Fault
from aeclaims.selftest.faults.lazy_imports import nn, torch
from aeclaims.selftest.faults.patches import both, forwarded, given, replaced, returning
from aeclaims.selftest.faults.probes import called, short, trained, with_slope

MSE, BCE, ON_LOGITS = (
    f"torch.nn.functional.{name}" for name in ("mse_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits")
)
logits = trained(short(loss="bce_logits"))
probabilities = trained(short(loss="bce", model=affine(3, 3, 3, output=SIGMOID)))


def clamped(least: float) -> Any:
    return given(lambda p: p.clamp(least, 1 - least))


def naive(stock: Any) -> Any:
    def loss(z: Any, x: Any, *rest: Any, pos_weight: Any = None, reduction: str = "mean") -> Any:
        value = (1 + z.exp()).log() - x * z
        return value if reduction == "none" else value.mean()

    return loss


def dead_at_zero(stock: Any) -> Any:
    return lambda z, *rest, **kwargs: stock(z.where(z.abs() > 1e-3, z.detach()), *rest, **kwargs)


def summed_over_features(stock: Any) -> Any:
    def loss(y: Any, *rest: Any, **kwargs: Any) -> Any:
        return stock(y, *rest, **kwargs) * (y.shape[-1] if kwargs.get("reduction", "mean") == "mean" else 1)

    return loss


def by_nominal_size(stock: Any) -> Any:
    def forward(self: Any, y: Any, x: Any) -> Any:
        self.nominal = max(len(y), getattr(self, "nominal", 0))
        return stock(self, y, x) * (len(y) / self.nominal)

    return forward


def added_in_half(stock: Any) -> Any:
    def loss(y: Any, x: Any, *rest: Any, reduction: str = "mean", **kwargs: Any) -> Any:
        terms = stock(y, x, *rest, reduction="none", **kwargs)
        return terms if reduction == "none" else forwarded(terms.half().mean().to(y.dtype), terms.mean())

    return loss


def unwarned(stock: Any) -> Any:
    """Compute squares of any shapes that broadcast, without a warning."""

    def loss(y: Any, x: Any, *rest: Any, reduction: str = "mean", **kwargs: Any) -> Any:
        squares = (y - x) ** 2
        return squares if reduction == "none" else squares.mean()

    return loss


def mismatched() -> Any:
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = nn.MSELoss()(torch.rand(3, 1), torch.rand(3))
    return [value, len(caught)]


FAULTS = (
    Fault("loss.bce_clamp_10", "BCE clamps its logarithms at -10, not -100", "#31453, #103316, #102894",
          "no gradient if p < 4.5e-5 on the wrong side", replaced(clamped(4.5e-5), BCE),
          with_slope("BCELoss", [1e-6, 0.5], [1.0, 1.0])),
    Fault("loss.bce_overflow", "BCE on logits computes log(1 + e^z) literally", "PR2221, the fix of PR2195",
          "exact until logits get large, then infinite", replaced(naive, ON_LOGITS),
          with_slope("BCEWithLogitsLoss", [-1.0, 100.0], [0.0, 0.0])),
    Fault("loss.sum_over_features", "the loss is averaged over rows and summed over features", "wrong axis; DeepCrime LCH",
          "losses times D; training under Adam is unchanged", replaced(summed_over_features, MSE, BCE, ON_LOGITS), trained()),
    Fault("loss.mse_broadcast", "every row is compared with the first row of the minibatch", "#16045, #19699, #4938",
          "the network learns the mean: 2 Var(x)", replaced(
              lambda stock: lambda y, x, *rest, **kwargs: stock(y, x[:1].expand_as(x), *rest, **kwargs), MSE), trained()),
    Fault("loss.mismatch_unwarned", "outputs (N, 1) and targets (N,) are broadcast to (N, N) without a warning", "#16045",
          "N^2 differences: the network learns the mean", replaced(unwarned, MSE), called(mismatched)),
    Fault("loss.tail_batch_nominal", "the loss of a short minibatch is divided by the full size", "transformers PR34191",
          "the last minibatch of an epoch counts too little", replaced(
              by_nominal_size, *(f"torch.nn.{name}.forward" for name in ("MSELoss", "BCELoss", "BCEWithLogitsLoss"))), trained()),
    Fault("loss.fp16_accumulate", "a minibatch's mean is summed in float16", "#83863; allow_fp16_accumulation",
          "losses quantised to 1e-3, zero below 3e-8; gradients exact", replaced(added_in_half, MSE, BCE, ON_LOGITS), trained()),
    Fault("loss.zero_grad_at_zero_logit", "BCE has no gradient for logits within 1e-3 of 0", "#2298, PR1792, abs() at 0",
          "hardly ever met", replaced(dead_at_zero, ON_LOGITS), with_slope("BCEWithLogitsLoss", [0.0005, 1.0], [1.0, 1.0])),
    Fault("loss.mse_halved", "squares are halved", "reasoning: the convention of Caffe's EuclideanLoss",
          "half the loss; training under Adam is unchanged", replaced(returning(lambda value: value / 2), MSE), trained()),
    Fault("loss.absolute", "absolute differences, not squares", "DeepCrime LCH", "medians, not means; steps that do not shrink",
          replaced(lambda stock: torch.nn.functional.l1_loss, MSE), trained()),
    Fault("loss.bce_epsilon", "probabilities within 1e-7 of 0 or 1 are clamped to 1e-7 in log-loss", "reasoning: Keras' epsilon",
          "a loss is never above 16, nor below 1e-7", replaced(clamped(1e-7), BCE), with_slope("BCELoss", [1e-9, 0.5], [1.0,
          1.0])),
    Fault("loss.labels_smoothed", "targets of log-loss are moved 1 % towards 1/2", "reasoning: a default left on",
          "bits have a floor of 0.03", both(replaced(given(lambda y, x: (y, 0.99 * x + 0.005)), BCE),
                                            replaced(given(lambda y, x: (y, 0.99 * x + 0.005)), ON_LOGITS)), logits),
    Fault("loss.mean_over_rows_only", "log-loss of probabilities is averaged over rows only", "wrong axis; DeepCrime LCH",
          "losses times D", replaced(summed_over_features, BCE), probabilities),
    Fault("loss.nan_as_zero", "squares that are NaN count as zero", "reasoning: nanmean, not mean",
          "a replica that diverged is unseen",
          replaced(lambda stock: lambda y, x, *rest, **kwargs: stock(y, x, *rest, **{**kwargs, "reduction": "none"}).nan_to_num()
                   if kwargs.get("reduction") == "none" else stock(y, x, reduction="none").nan_to_num().mean(), MSE),
          with_slope("MSELoss", [1.0, float("nan")], [0.0, 0.0])),
)  # fmt: skip
