"""Beyond the answer: trainings that only rounding ends, in every format."""

import numpy as np

from aeclaims.claims.setups import ROUNDED, ROUNDED_LOGITS
from aeclaims.judging.claim import ALL, Train, claim
from aeclaims.judging.judge import Judge, Proportion
from aeclaims.theory import floors

# Measured over 128 seeds: 0.36 to 2.8 times the prediction on torch-eager in bfloat16 and float16. In float32 and float64:
# 0.5 to 11 times, also on the reference. Formats are a factor of 64 or more apart.
NEARLY_ALL = Proportion(at_least=0.9)
FACTOR = 16


@claim(
    "rounding-floor",
    source="beyond the answer",
    kind="observation",
    proportions=(NEARLY_ALL,),
    trains=[ROUNDED],
    reference_seeds=64,
    formats=ALL,
    statement="the format sets the smallest loss: MSE ends within a factor of 16 of the value that round-off predicts",
)
def test_mse_ends_where_the_unit_round_off_says(train: Train, judge: Judge) -> None:
    run = train(ROUNDED)
    predicted, floor = floors.rounding_mse(run), floors.format_floor(run.start.rows(), "mse", run.start.format)
    times = run.epoch_loss[-1] / predicted
    judge.measure(
        {
            "median predicted loss": np.median(predicted),
            "median last loss": np.median(run.epoch_loss[-1]),
            "least multiple of it": np.min(times),
            "largest multiple of it": np.max(times),
        },
        floor=floor.mean(),
    )
    # Losses are summed in float32 or float64, even if products are rounded to fewer bits.
    judge.all_within(
        run.epoch_loss,
        at_least=floor - floors.rounding(run.start.dtype, floor),
        seeds=run.seeds,
        what="MSE above the square distance of the rows to the numbers next to them",
        reason="an output is a number of the format; the nearest one costs the least",
    )
    judge.proportion(
        (times > 1 / FACTOR) & (times < FACTOR),
        NEARLY_ALL,
        seeds=run.seeds,
        what=f"last MSE within a factor of {FACTOR} of the prediction from roundings in {run.start.format.name}",
        reason="roundings are independent and uniform between the numbers of a format (Wilkinson); when SGD "
        "ends, only roundings and the steps that they swallow are left",
    )
    logits = train(ROUNDED_LOGITS)
    least = floors.format_floor(logits.start.rows(), "bce_logits", logits.start.format)
    judge.all_within(
        logits.epoch_loss,
        at_least=least - floors.rounding(logits.start.dtype, least),
        seeds=logits.seeds,
        what="BCE above that of the best logits of the format",
        reason="a logit is a number of the format; BCE is convex in it, and least at one next to logit(x)",
    )
