"""Shares of seeds that claims state; each was measured on the reference, with the seeds that its comment gives."""

from aeclaims.judging.judge import Proportion

# "Most, but not all": linear-mse under 450 epochs, 60.8 % of seeds 0..2047.
MOST_NOT_ALL = Proportion(at_least=1 / 2, at_most=2 / 3)
# listing-converges at learning rate 1e-3: 94.5 % of seeds 0..1023.
SEVEN_EIGHTHS = Proportion(at_least=7 / 8)
# The same with weight decay: 85.0 % of seeds 0..1023.
THREE_QUARTERS = Proportion(at_least=3 / 4)
# An observation that holds: for all of seeds 0..255, or for all but two. For listing-converges, "no sooner with a tenth of
# the learning rate": 96.9 % of seeds 0..127.
ALMOST_ALL = Proportion(at_least=0.95)
# An observation that does not hold: it held for none of the measured seeds.
NEXT_TO_NONE = Proportion(at_most=0.05)
# One model is better than another for less than half of the seeds: shares of 0.39 and 0.41 of 256 seeds.
NOT_MOST = Proportion(at_most=1 / 2)
# One model is at least as good as another for three seeds in four: 0.74 to 0.80 of 256 seeds.
MORE_OFTEN = Proportion(at_least=1 / 2)
# Observations of few seeds, each of which costs minutes. The judge fails if neither of two seeds has the property of all.
# The bound is as near to 1 as two seeds require. The share is not measured, since only two seeds were trained.
ALL_OF_FEW = Proportion(at_least=0.9999)
NONE_OF_FEW = Proportion(at_most=0.0001)
