"""The answer's summary: it is the pairing of loss and data that keeps the loss from zero."""

from aeclaims import floors
from aeclaims.claim import Train, claim
from aeclaims.claims.setups import LINEAR_MSE, SIGMOID_UNIFORM
from aeclaims.claims.shares import ALMOST_ALL
from aeclaims.judge import Judge


@claim("loss-data-mismatch", where="answer, summary", kind="theorem", shares=(ALMOST_ALL,),
       says="on the same uniform rows BCE stays above their entropy at every epoch, while MSE goes to zero")
def test_bce_stays_above_the_entropy_of_uniform_rows_and_mse_does_not(train: Train, judge: Judge) -> None:
    bce = train(SIGMOID_UNIFORM)
    floor = floors.epoch_entropy(bce.start)
    excess = bce.epoch_loss - floor
    judge.measure(floor=floor.mean(), least_excess=excess.min(), least_mse=train(LINEAR_MSE).epoch_loss.min())
    judge.every(excess, at_least=-floors.rounding(bce.start.dtype, floor), seeds=bce.seeds,
                what="BCE above the entropy of the epoch's rows", because="Gibbs: BCE(x, p) = H(x) + KL(x || p) >= H(x)")
    mse = train(LINEAR_MSE)
    judge.share(mse.reached(1e-5) > 0, ALMOST_ALL, seeds=mse.seeds, name="share_mse_below_1e-5",
                what="MSE below 1e-5 on rows of the same kind", because="the identity is an affine map: MSE has floor 0")
