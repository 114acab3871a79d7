"""The question: the asker's network, five hidden layers of 100 ReLUs, does not come near zero with either remedy."""

from dataclasses import replace

import numpy as np
import pytest

from aeclaims.claims.proportions import NONE_OF_FEW
from aeclaims.claims.setups import QUESTION, QUESTION_500, QUESTION_BERNOULLI, QUESTION_MSE
from aeclaims.experiment import Experiment
from aeclaims.judging.claim import Train, claim
from aeclaims.judging.judge import Judge
from aeclaims.theory import floors

GIBBS = "Gibbs: BCE(x, p) = H(x) + KL(x || p) >= H(x)"


def judge_stalled(experiment: Experiment, train: Train, judge: Judge, *, above: float) -> None:
    """Judge that the loss of uniform rows is their entropy plus the part that the network has not learnt, at every epoch."""
    run = train(experiment)
    entropy = floors.epoch_entropy(run.start)
    excess = run.epoch_loss - entropy
    judge.measure(
        {"final loss": run.epoch_loss[-1].mean(), "loss not learnt": excess[-1].mean(), "least excess": excess.min()},
        floor=entropy.mean(),
    )
    judge.all_within(
        excess,
        at_least=-floors.rounding(run.start.dtype, entropy),
        seeds=run.seeds,
        what="epoch loss above the entropy of its rows",
        reason=GIBBS,
    )
    if judge.is_adams("the distance to the entropy after so many epochs"):
        judge.proportion(
            excess.min(axis=0) < above,
            NONE_OF_FEW,
            seeds=run.seeds,
            label="share near entropy",
            what=f"log-loss within {above:g} of the entropy",
            reason="the network has still to learn the identity of 100 numbers through five layers of ReLUs",
        )


@claim(
    "question-network-stalls",
    source="question",
    kind="observation",
    proportions=(NONE_OF_FEW,),
    reference_seeds=2,
    trains=[QUESTION],
    statement="the asker's network is far from zero loss, and from the entropy, too: the part it has not learnt adds to the loss",
)
def test_the_askers_network_is_far_from_the_entropy_after_20_epochs(
    train: Train, reference: Train, judge: Judge
) -> None:
    # After 20 epochs the loss exceeds the entropy by 0.0862 and 0.0817.
    judge_stalled(QUESTION, train, judge, above=0.05)
    # Breaking symmetries amplifies differences. A learning rate higher by 1e-7 moves the first epoch by 150 roundings, and
    # one higher by 1e-5 by 3,400.
    # 256 seeds, the reference in float32 and float64: the median is 0.2 roundings, but one seed in 20 has 2,000 to 5,301.
    judge.agrees(
        train(QUESTION),
        reference(replace(QUESTION, epochs=1)),
        epochs=1,
        roundings=40_000,
        reason="the same start takes the same path, until units flip on rounding errors",
    )


@pytest.mark.slow
@claim(
    "question-network-500-epochs",
    source="question",
    kind="observation",
    proportions=(NONE_OF_FEW,),
    reference_seeds=2,
    trains=[QUESTION_500],
    statement="500 epochs do not bring the asker's network to zero loss, nor to the entropy of its rows",
)
def test_the_askers_network_is_far_from_the_entropy_after_500_epochs(train: Train, judge: Judge) -> None:
    # We have not run it in full: the bound is a quarter of the excess after 20 epochs.
    judge_stalled(QUESTION_500, train, judge, above=0.02)


@claim(
    "question-network-other-loss",
    source="answer, summary, taken to the question's network",
    kind="observation",
    proportions=(NONE_OF_FEW,),
    finding="does not hold",
    reference_seeds=2,
    caveat="with MSE, whose floor is 0, the asker's network stays at half of the loss of predicting the mean",
    trains=[QUESTION_MSE],
    needs_adam="the part that 10 epochs leave unlearnt is known for Adam at 1e-3",
    statement="another loss quickly brings the asker's network to zero, too",
)
def test_mse_does_not_bring_the_askers_network_to_zero(train: Train, judge: Judge) -> None:
    run = train(QUESTION_MSE)
    judge.measure({"final loss": run.epoch_loss[-1].mean(), "loss of predicting the mean": 1 / 12}, floor=0.0)
    # 0.0389 and 0.0367 after 10 epochs.
    judge.proportion(
        run.epoch_loss.min(axis=0) < 0.02,
        NONE_OF_FEW,
        seeds=run.seeds,
        label="share below 0.02",
        what="MSE of the asker's network below 0.02 in 10 epochs",
        reason="its floor is 0, but 100 independent numbers have to be learnt through five layers of ReLUs",
    )
    judge.all_within(
        run.epoch_loss[-1],
        at_most=1 / 12,
        seeds=run.seeds,
        what="MSE below that of predicting the mean, 1/12",
        reason="training improves on a constant: the network has learnt some of it",
    )


@claim(
    "question-network-other-data",
    source="answer, summary, taken to the question's network",
    kind="observation",
    proportions=(NONE_OF_FEW,),
    finding="does not hold",
    reference_seeds=2,
    caveat="on binary rows, whose entropy is 0, the asker's network removes about half of the bits' log-loss",
    trains=[QUESTION_BERNOULLI],
    needs_adam="the part that 10 epochs leave unlearnt is known for Adam at 1e-3",
    statement="other data quickly bring the asker's network to zero, too",
)
def test_binary_rows_do_not_bring_the_askers_network_to_zero(train: Train, judge: Judge) -> None:
    run = train(QUESTION_BERNOULLI)
    judge.measure({"final loss": run.epoch_loss[-1].mean(), "loss of predicting the mean": np.log(2)}, floor=0.0)
    # 0.299 and 0.296 after 10 epochs.
    judge.proportion(
        run.epoch_loss.min(axis=0) < 0.1,
        NONE_OF_FEW,
        seeds=run.seeds,
        label="share below 0.1",
        what="log-loss of the asker's network below 0.1 in 10 epochs",
        reason="its floor is 0, but 100 independent bits have to be learnt through five layers of ReLUs",
    )
    judge.all_within(
        run.epoch_loss[-1],
        at_most=np.log(2),
        seeds=run.seeds,
        what="log-loss below that of predicting 1/2, ln 2",
        reason="training improves on a constant: the network has learnt some of it",
    )
