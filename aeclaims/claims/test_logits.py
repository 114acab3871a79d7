"""The answer's section "Sigmoid", its advice: for extremely small losses, compute them from logits."""

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
    """One number to one number, with the sigmoid in the model or in the loss."""
    return affine(1, 1, output=SIGMOID if loss == "bce" else IDENTITY)


def logits(run: Run) -> Double:
    """Each seed's logit of the target 1, in float64, (S,)."""
    return forward(run.experiment.model, run.parameters, np.ones((1, 1)))[:, 0, 0]


def reported(loss: Loss, lr: float, train: Train) -> tuple[Double, Double, Double]:
    """A step of plain gradient descent away from the start: the logit there, the loss there as the stack reports it, and the
    logit after a second step."""
    near, far = (
        train(Experiment(rows=ONE, model=model_of(loss), loss=loss, optimizer=SGD(lr=lr), epochs=epochs, n_rows=1))
        for epochs in (1, 2)
    )
    return logits(near), far.epoch_loss[1], logits(far)


# Steps that do not shrink with the gradient: eps is far below any, and second moments fade as fast as the first. On the reference
# logits go beyond 49.8 (64 seeds, both dtypes), where log-loss is below eps / 100 in float64, too: that is 40.6.
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
    """The loss, in float64, that training ends with where its steps do not shrink with the gradient."""
    return np.log1p(np.exp(-logits(train(EVER_ON[loss]))))


@claim(
    "logit-scale",
    source="answer, section Sigmoid, note on small losses",
    kind="theorem",
    is_quick=True,
    finding="holds where",
    caveat="log-loss of probabilities is blind above the logit where they round to 1 (17 in float32), value and gradient. "
    "On logits plain torch reports the value right, but its gradient, sigmoid minus target, dies at the same logit; "
    "under vmap the gradient lives and the value rounds off. The reference keeps both",
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
            reason="1 - p = e^-z is below half the spacing under 1",
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
            reason="at worst ln(1 + e^-z) is taken of a sum that rounds as numbers near 1 do",
        )
        # Below the least normal number, 1.2e-38 in float32, nothing is known relative to itself.
        is_normal = true > 100 * np.finfo(np.float32 if eps > 1e-10 else np.float64).tiny
        # The logit's own sum is rounded: an error of eps z in the exponent.
        worst = max(worst, float(np.max(np.where(is_normal, np.abs(value - true) / true / (eps * (8 + z)), 0.0))))
    judge.all_within(
        [lost], at_least=1, seeds=[0], what="probabilities that round to 1 were tried", reason="logits go up to 60"
    )
    judge.measure(floor=0.0, blind_above_logit=blind_from, logit_value_error=worst)
    if not judge.is_adams("where training ends whose steps do not shrink with the gradient, as Adam's do not"):
        return
    by_probability, by_logit = (ends(loss, train) for loss in LOSSES)
    judge.measure(loss_by_probability=by_probability.mean(), loss_by_logit=by_logit.mean())
    seeds = range(len(by_logit))
    # Momentum carries the logit on by up to 1 after the gradient has died.
    judge.all_within(
        by_probability,
        at_least=eps / 4 * np.exp(-2),
        seeds=seeds,
        what="loss that training on probabilities ends with",
        reason="where the probability rounds to 1 the gradient is 0 and training stops",
    )
    keeps = (by_logit < eps / 100) | (worst <= 1)
    judge.all_within(
        keeps,
        at_least=1,
        seeds=seeds,
        what="on logits the value (relative error) or the gradient (training below eps / 100) lives on",
        reason="e^-z is a float32 down to z = 87: nothing need round off",
    )
