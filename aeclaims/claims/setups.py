"""The literal set-ups of the answer and its listing, which several claims share.

Literal: 30,000 rows in minibatches of 128, PyTorch's default initialisation. An "iteration" of the answer is an epoch.
"""

from dataclasses import replace
from functools import lru_cache

from aeclaims.experiment import (
    IDENTITY,
    RELU,
    SGD,
    SIGMOID,
    TANH,
    Adam,
    Bernoulli,
    Experiment,
    Loss,
    Model,
    Redundant,
    Rows,
    Uniform,
    affine,
    leaky_relu,
)
from aeclaims.start import Start
from aeclaims.theory import floors

# Answer, "Linear": its bound is 1e-5 in fewer than 450 epochs. Later epochs show the loss after that.
LINEAR_MSE = Experiment(
    rows=Uniform(features=2), model=affine(2, 2, 2), loss="mse", optimizer=Adam(lr=1e-5), epochs=800
)

# The same with larger learning rates, in as many epochs as they take.
LINEAR = {1e-5: LINEAR_MSE} | {
    lr: replace(LINEAR_MSE, optimizer=Adam(lr=lr), epochs=epochs) for lr, epochs in ((1e-4, 120), (1e-3, 40))
}
# The same number of steps, 4,688 to 4,700, over fewer and over more rows.
BY_ROWS = {
    count: replace(LINEAR_MSE, optimizer=Adam(lr=3e-3), n_rows=count, epochs=epochs)
    for count, epochs in ((1_000, 586), (30_000, 20), (300_000, 2))
}

# Answer, summary: the same affine model with outputs read as logits, on the same rows and on binary rows.
LOGITS_UNIFORM = replace(LINEAR[1e-3], loss="bce_logits")
LOGITS_BERNOULLI = replace(LOGITS_UNIFORM, rows=Bernoulli(0.5, features=2), optimizer=Adam(lr=1e-2))

# Answer, "Sigmoid": the same affine layers with a sigmoid at the end, and log-loss.
SIGMOID_UNIFORM = Experiment(
    rows=Uniform(features=2), model=affine(2, 2, 2, output=SIGMOID), loss="bce", optimizer=Adam(lr=1e-4), epochs=200
)
SIGMOID_BERNOULLI = replace(SIGMOID_UNIFORM, rows=Bernoulli(0.5, features=2))

# Answer, "Bottlenecks": code sizes below the number of features. It states no optimizer for them.
IID = {
    code: Experiment(rows=Uniform(features=4), model=affine(4, code, 4), loss="mse", optimizer=Adam(lr=1e-3), epochs=60)
    for code in (1, 2, 3)
}
REDUNDANT = {
    (rank, code): Experiment(
        rows=Redundant(rank, features=4), model=affine(4, code, 4), loss="mse", optimizer=Adam(lr=1e-3), epochs=20
    )
    for rank, code in ((1, 1), (2, 1), (2, 2))
}

# The listing below the answer: its network, at most 310 epochs, the number that it reports. It does not show its optimizer.
_LEAKY = leaky_relu(0.1)


def listing_network(features: int, code: int) -> Model:
    """Return the listing's network: affine, leaky ReLU, affine to the code; the same back."""
    return Model((features, features, code, features, features), (_LEAKY, IDENTITY, _LEAKY, IDENTITY))


LISTING = {
    lr: Experiment(
        rows=Uniform(features=10), model=listing_network(10, 10), loss="mse", optimizer=Adam(lr=lr), epochs=310
    )
    for lr in (1e-3, 1e-4)
}
LISTING_AS_IT_READS = replace(LISTING[1e-3], zero_grad=False)
# Its commented-out optimizers.
LISTING_SGD = replace(LISTING[1e-3], optimizer=SGD(lr=1e-3, momentum=0.9))
LISTING_DECAY = replace(LISTING[1e-3], optimizer=Adam(lr=1e-3, weight_decay=1e-6))
# Weight decay large enough to move an affine model, at a learning rate at which the model settles.
LINEAR_DECAY = replace(LINEAR[1e-3], optimizer=Adam(lr=1e-3, weight_decay=1e-3), epochs=40)
LISTING_REDUNDANT = replace(REDUNDANT[1, 1], model=listing_network(4, 1), epochs=60)

# The question: five hidden layers of 100 ReLUs, 100 sigmoid outputs, Keras' initialisation; 500 epochs as in the question,
# or as many as a CPU can afford.
QUESTION_500 = Experiment(
    rows=Uniform(features=100),
    model=Model((100,) * 7, (RELU,) * 5 + (SIGMOID,)),
    loss="bce",
    optimizer=Adam(lr=1e-3),
    epochs=500,
    initialisation="glorot",
)
QUESTION = replace(QUESTION_500, epochs=20)
QUESTION_BERNOULLI = replace(QUESTION, rows=Bernoulli(0.5, features=100), epochs=10)
QUESTION_MSE = replace(QUESTION, loss="mse", epochs=10)

# Answer, "Complicate": models, rows and losses crossed. It states no sizes; these take 940 steps.
GRID_MODELS = {
    "affine": Model((4, 4, 4), (IDENTITY, IDENTITY)),
    "leaky ReLU": Model((4, 4, 4), (_LEAKY, IDENTITY)),
    "deeper leaky ReLU": Model((4, 4, 4, 4, 4), (_LEAKY, _LEAKY, _LEAKY, IDENTITY)),
    "ReLU": Model((4, 4, 4), (RELU, IDENTITY)),
    "tanh": Model((4, 4, 4), (TANH, IDENTITY)),
}


def grid(model: str, rows: Rows, loss: Loss) -> Experiment:
    """Return one cell of "Complicate"; log-loss is taken on logits, so that both losses train the same network."""
    return Experiment(rows=rows, model=GRID_MODELS[model], loss=loss, optimizer=Adam(lr=1e-2), epochs=40, n_rows=3000)


@lru_cache(maxsize=2)
def class_floor(start: Start) -> floors.Double:
    """Return the class floor of a start's rows, computed once for all claims that use it."""
    return floors.class_floor(start.rows())


# Beyond the answer: few steps of SGD. They vanish with the gradient, so that only rounding is left.
ROUNDED = Experiment(
    rows=Uniform(features=2),
    model=affine(2, 2, 2),
    loss="mse",
    optimizer=SGD(lr=0.1, momentum=0.9),
    epochs=250,
    n_rows=768,
)
ROUNDED_LOGITS = replace(ROUNDED, loss="bce_logits", epochs=20)
