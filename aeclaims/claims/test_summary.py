"""The answer's summary: the pairing of loss and data keeps the loss from zero."""

from dataclasses import replace

import numpy as np

from aeclaims.claims.proportions import ALMOST_ALL
from aeclaims.claims.setups import LINEAR, LINEAR_MSE, LOGITS_BERNOULLI, LOGITS_UNIFORM, SIGMOID_UNIFORM
from aeclaims.judging.claim import Train, claim
from aeclaims.judging.judge import Judge
from aeclaims.theory import floors


@claim(
    "loss-data-mismatch",
    source="answer, summary",
    kind="theorem",
    proportions=(ALMOST_ALL,),
    trains=[SIGMOID_UNIFORM],  # and LINEAR_MSE, with Adam only
    statement="on the same uniform rows BCE stays above their entropy at every epoch, while MSE goes to zero",
)
def test_bce_stays_above_the_entropy_of_uniform_rows_and_mse_does_not(train: Train, judge: Judge) -> None:
    bce = train(SIGMOID_UNIFORM)
    floor = floors.epoch_entropy(bce.start)
    excess = bce.epoch_loss - floor
    judge.measure({"least excess": excess.min()}, floor=floor.mean())
    judge.all_within(
        excess,
        at_least=-floors.rounding(bce.start.dtype, floor),
        seeds=bce.seeds,
        what="BCE above the entropy of the epoch's rows",
        reason="Gibbs: BCE(x, p) = H(x) + KL(x || p) >= H(x)",
    )
    if not judge.is_adams("MSE below 1e-5 in 800 epochs"):
        return
    mse = train(LINEAR_MSE)
    judge.measure({"least MSE": mse.epoch_loss.min()})
    judge.proportion(
        mse.first_epoch_below(1e-5) > 0,
        ALMOST_ALL,
        seeds=mse.seeds,
        label="share of MSE below 1e-5",
        what="MSE below 1e-5 on rows of the same kind",
        reason="the identity is an affine map: MSE has floor 0",
    )


@claim(
    "other-loss-reaches-zero",
    source="answer, summary",
    kind="observation",
    proportions=(ALMOST_ALL,),
    is_quick=True,
    trains=[LOGITS_UNIFORM, LINEAR[1e-3]],
    needs_adam="40 epochs are enough for Adam at 1e-3",
    statement="with another loss, the same model on the same rows soon reaches zero",
)
def test_mse_brings_the_model_that_log_loss_does_not_bring_to_zero(
    train: Train, reference: Train, judge: Judge
) -> None:
    bce, mse = train(LOGITS_UNIFORM), train(LINEAR[1e-3])
    floor = floors.epoch_entropy(bce.start)
    first = mse.first_epoch_below(1e-5)
    judge.measure(
        {
            "median epoch below 1e-5": np.median(first),
            "worst epoch": first.max(),
            "least excess": (bce.epoch_loss - floor).min(),
        },
        floor=floor.mean(),
    )
    judge.all_within(
        bce.epoch_loss - floor,
        at_least=-floors.rounding(bce.start.dtype, floor),
        seeds=bce.seeds,
        what="log-loss above the entropy of the epoch's rows",
        reason="Gibbs: BCE(x, p) = H(x) + KL(x || p) >= H(x)",
    )
    # 1,024 of 1,024 seeds by epoch 28, half of them by 13.
    judge.proportion(
        first > 0,
        ALMOST_ALL,
        seeds=mse.seeds,
        label="share below 1e-5",
        what="MSE below 1e-5 in 40 epochs",
        reason="the identity is an affine map: MSE has floor 0",
    )
    # 8,192 seeds, the reference in float32 and float64: at most 14 roundings in 5 epochs; 381 in 40, by one seed of 1,024.
    judge.agrees(
        bce,
        reference(replace(LOGITS_UNIFORM, epochs=5)),
        epochs=5,
        roundings=200,
        reason="the same start takes the same path, until saddles amplify rounding errors",
    )


@claim(
    "other-data-reaches-zero",
    source="answer, summary",
    kind="observation",
    proportions=(ALMOST_ALL,),
    is_quick=True,
    trains=[LOGITS_BERNOULLI],
    needs_adam="40 epochs are enough for Adam at 1e-2",
    statement="on other rows and with a slightly different model, the same loss soon reaches zero",
)
def test_binary_rows_bring_log_loss_to_zero(train: Train, reference: Train, judge: Judge) -> None:
    run = train(LOGITS_BERNOULLI)
    first = run.first_epoch_below(1e-5)
    judge.measure({"median epoch below 1e-5": np.median(first), "worst epoch": first.max()}, floor=0.0)
    judge.all_within(
        run.epoch_loss,
        at_least=0.0,
        seeds=run.seeds,
        what="log-loss of 0 and 1 is not negative",
        reason="the entropy of binary rows is 0",
    )
    # 1,024 of 1,024 seeds by epoch 32, half of them by 27.
    judge.proportion(
        first > 0,
        ALMOST_ALL,
        seeds=run.seeds,
        label="share below 1e-5",
        what="log-loss below 1e-5 in 40 epochs",
        reason="binary targets have entropy 0, and each is a function of its own input with a steep sigmoid",
    )
    # At most 21 roundings over 1,024 seeds on torch, and 51 over 8,192 between the reference's float32 and float64. A saddle
    # in the second epoch amplifies them on any stack: two of 1,024 seeds in float64 have 1,796 and 2,415.
    judge.agrees(
        run,
        reference(LOGITS_BERNOULLI),
        epochs=1,
        roundings=500,
        reason="the same start takes the same path, until saddles amplify rounding errors",
    )
