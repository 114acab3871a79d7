"""The shares of seeds that claims state; each was measured on the reference with the seeds said beside it."""

from aeclaims.judging.judge import Proportion

# "Most, but not all": linear-mse under 450 epochs, 60.8 % of seeds 0..2047.
MOST_NOT_ALL = Proportion(at_least=1 / 2, at_most=2 / 3)
# listing-converges at learning rate 1e-3: 94.5 % of seeds 0..1023.
SEVEN_EIGHTHS = Proportion(at_least=7 / 8)
# The same with weight decay: 85.0 % of seeds 0..1023.
THREE_QUARTERS = Proportion(at_least=3 / 4)
# "It does", of an observation: all of seeds 0..255 did, or all but two; of listing-converges, "no sooner with a tenth of
# the learning rate", 96.9 % of seeds 0..127.
ALMOST_ALL = Proportion(at_least=0.95)
# "It does not", of an observation: none of the seeds measured did.
NEXT_TO_NONE = Proportion(at_most=0.05)
# One model is better than another for less than half the seeds, and so not for most: shares of 0.39 and 0.41 of 256 seeds.
NOT_MOST = Proportion(at_most=1 / 2)
# One is at least as good as another for three seeds of four: 0.74 to 0.80 of 256.
MORE_OFTEN = Proportion(at_least=1 / 2)
# An observation of few seeds, each of which costs minutes: it fails where none of two has what all should have. So near to 1
# as it takes for two to be enough; that so many have it is not measured, for two are all that were trained.
ALL_OF_FEW = Proportion(at_least=0.9999)
NONE_OF_FEW = Proportion(at_most=0.0001)
