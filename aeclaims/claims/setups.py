"""The literal set-ups of the answer and its listing, which several claims look at.

Literal: 30,000 rows in minibatches of 128, PyTorch's default initialisation. An "iteration" of the answer is an epoch.
"""

from dataclasses import replace
from functools import lru_cache

from aeclaims import floors
from aeclaims.experiment import (
    IDENTITY,
    SIGMOID,
    Adam,
    Bernoulli,
    Experiment,
    Model,
    Redundant,
    Uniform,
    affine,
    leaky_relu,
)
from aeclaims.start import Start

# Answer, "Linear": its bound is 1e-5 in fewer than 450 epochs. The others show where the loss goes after that.
LINEAR_MSE = Experiment(rows=Uniform(features=2), model=affine(2, 2, 2), loss="mse", optimizer=Adam(lr=1e-5), epochs=800)

# Answer, "Sigmoid": the same affine layers with a sigmoid at the end, and log-loss.
SIGMOID_UNIFORM = Experiment(rows=Uniform(features=2), model=affine(2, 2, 2, output=SIGMOID), loss="bce",
                             optimizer=Adam(lr=1e-4), epochs=200)
SIGMOID_BERNOULLI = replace(SIGMOID_UNIFORM, rows=Bernoulli(0.5, features=2))

# Answer, "Bottlenecks": code sizes below the number of features. It states no optimizer for them.
IID = {code: Experiment(rows=Uniform(features=4), model=affine(4, code, 4), loss="mse", optimizer=Adam(lr=1e-3), epochs=60)
       for code in (1, 2, 3)}
REDUNDANT = {(rank, code): Experiment(rows=Redundant(rank, features=4), model=affine(4, code, 4), loss="mse",
                                      optimizer=Adam(lr=1e-3), epochs=20)
             for rank, code in ((1, 1), (2, 1), (2, 2))}

# The listing below the answer: its network, at most 310 epochs, the number that it reports. Its optimizer is not shown.
_LEAKY = leaky_relu(0.1)


def listing_network(features: int, code: int) -> Model:
    """Affine, leaky ReLU, affine to the code; the same back."""
    return Model((features, features, code, features, features), (_LEAKY, IDENTITY, _LEAKY, IDENTITY))


LISTING = {lr: Experiment(rows=Uniform(features=10), model=listing_network(10, 10), loss="mse", optimizer=Adam(lr=lr), epochs=310)
           for lr in (1e-3, 1e-4)}
LISTING_AS_IT_READS = replace(LISTING[1e-3], clear_gradients=False)
LISTING_REDUNDANT = replace(REDUNDANT[1, 1], model=listing_network(4, 1), epochs=60)


@lru_cache(maxsize=2)
def class_floor(start: Start) -> floors.Double:
    """The class floor of a start's rows, found once for the claims that ask for it."""
    return floors.class_floor(start.rows())
