"""The advice of the answer's section "Sigmoid": compute extremely small losses from logits."""

import numpy as np
import scipy

from aeclaims.experiment import IDENTITY, SGD, SIGMOID, Adam, Experiment, FixedRows, Loss, Model, affine
from aeclaims.judging.claim import Train, claim
from aeclaims.judging.judge import Judge
from aeclaims.run import Double, Run, forward

# Every target is 1, so that a logit z costs ln(1 + e^-z), whose derivative is -1 / (1 + e^z).
ONE, MANY = FixedRows(np.ones((1, 1))), FixedRows(np.ones((64, 1)))
LOSSES: tuple[Loss, Loss] = ("bce", "bce_logits")
STEPS = (2.0, 10.0, 18.0, 25.0, 30.0, 40.0, 60.0, 90.0, 115.0)


def model_of(loss: Loss) -> Model:
    """Return a model of one number, with the sigmoid in the model or in the loss."""
    return affine(1, 1, output=SIGMOID if loss == "bce" else IDENTITY)


def logits(run: Run) -> Double:
    """Return each seed's logit of the target 1, in float64, shape (S,)."""
    return forward(run.experiment.model, run.parameters, np.ones((1, 1)))[:, 0, 0]


def reported(loss: Loss, lr: float, train: Train) -> tuple[Double, Double, Double]:
    """Train one step of plain gradient descent, and a second one.

    Returns:
        The logit after the first step, the loss there as the stack reports it, and the logit after the second step, each of
        shape (S,).
    """
    near, far = (
        train(Experiment(rows=ONE, model=model_of(loss), loss=loss, optimizer=SGD(lr=lr), epochs=epochs, n_rows=1))
        for epochs in (1, 2)
    )
    return logits(near), far.epoch_loss[1], logits(far)


# Steps that do not shrink with the gradient: eps is far below any gradient, and second moments fade as fast as the first. If
# the logit is above 40.6, log-loss is below eps / 100 in float64, too. On the reference logits exceed 49.8 (64 seeds, both
# dtypes).
EVER_ON = {
    loss: Experiment(
        rows=MANY,
        model=model_of(loss),
        loss=loss,
        optimizer=Adam(lr=0.05, betas=(0.9, 0.9), eps=1e-30),
        epochs=1000,
        n_rows=64,
        batch_size=64,
    )
    for loss in LOSSES
}


def ends(loss: Loss, train: Train) -> Double:
    """Return the final loss, in float64, of training with steps that do not shrink with the gradient."""
    return np.log1p(np.exp(-logits(train(EVER_ON[loss]))))


@claim(
    "logit-scale",
    source="answer, section Sigmoid, note on small losses",
    kind="theorem",
    is_quick=True,
    finding="holds where",
    caveat="log-loss of probabilities loses value and gradient above the logit at which they round to 1 (17 in float32). "
    "On logits, plain torch reports the right value, but its gradient, sigmoid minus target, vanishes at the same logit. "
    "Under vmap the gradient survives, but the value is rounded. The reference keeps both",
    trains=EVER_ON.values(),
    statement="extremely small losses need the loss computed on the logit scale",
)
def test_probabilities_round_to_one_and_logits_do_not(train: Train, judge: Judge) -> None:
    eps = float(
        np.finfo(
            train(
                Experiment(rows=ONE, model=model_of("bce"), loss="bce", optimizer=SGD(lr=1.0), epochs=1, n_rows=1)
            ).start.dtype
        ).eps
    )
    blind_from = -np.log(eps / 4)
    worst, lost = 0.0, 0
    for lr in STEPS if eps > 1e-10 else tuple(2 * lr for lr in STEPS):
        z, value, after = reported("bce", lr, train)
        true = scipy.special.log1p(np.exp(-z))
        is_blind = z > blind_from
        judge.all_within(
            np.where(is_blind, np.abs(value), 0.0),
            at_most=0.0,
            seeds=range(len(z)),
            what="log-loss of a probability that rounds to 1",
            reason="1 - p = e^-z is below half the spacing of numbers below 1",
        )
        judge.all_within(
            np.where(is_blind, np.abs(after - z), 0.0),
            at_most=0.0,
            seeds=range(len(z)),
            what="step of a probability that rounds to 1",
            reason="its gradient has the factor p (1 - p) = 0",
        )
        slack = 2 * eps * (2 + np.abs(z))
        judge.all_within(
            value - true,
            at_least=-slack,
            at_most=slack,
            seeds=range(len(z)),
            what="log-loss of probabilities",
            reason="a probability near 1 is known to eps / 2, its logit to eps |z|, and so is its logarithm",
        )
        lost += int(is_blind.sum())
        z, value, _ = reported("bce_logits", lr, train)
        true = scipy.special.log1p(np.exp(-z))
        slack = 2 * eps * (2 + np.abs(z))
        judge.all_within(
            value - true,
            at_least=-slack,
            at_most=slack,
            seeds=range(len(z)),
            what="log-loss of logits",
            reason="at worst, the sum in ln(1 + e^-z) is rounded as numbers near 1 are",
        )
        # Below the least normal number, 1.2e-38 in float32, no number has a relative precision.
        is_normal = true > 100 * np.finfo(np.float32 if eps > 1e-10 else np.float64).tiny
        # The sum in the logit is rounded: an error of eps z in the exponent.
        worst = max(worst, float(np.max(np.where(is_normal, np.abs(value - true) / true / (eps * (8 + z)), 0.0))))
    judge.all_within(
        [lost], at_least=1, seeds=[0], what="number of tried probabilities that round to 1", reason="logits go up to 60"
    )
    judge.measure({"blind above logit": blind_from, "error of the value on logits": worst}, floor=0.0)
    if not judge.is_adams("the end of training with steps that do not shrink with the gradient"):
        return
    by_probability, by_logit = (ends(loss, train) for loss in LOSSES)
    judge.measure({"loss by probability": by_probability.mean(), "loss by logit": by_logit.mean()})
    seeds = range(len(by_logit))
    # After the gradient has vanished, momentum moves the logit by up to 1 more.
    judge.all_within(
        by_probability,
        at_least=eps / 4 * np.exp(-2),
        seeds=seeds,
        what="final loss of training on probabilities",
        reason="if the probability rounds to 1, the gradient is 0 and training stops",
    )
    keeps = (by_logit < eps / 100) | (worst <= 1)
    judge.all_within(
        keeps,
        at_least=1,
        seeds=seeds,
        what="on logits the value (relative error) or the gradient (training below eps / 100) survives",
        reason="e^-z is a float32 up to z = 87: no rounding is necessary",
    )
