"""Properties around each training claim: other sizes, batch sizes, learning rates, distributions and ranks."""

from dataclasses import dataclass

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aeclaims import (
    IDENTITY,
    RELU,
    SGD,
    SIGMOID,
    TANH,
    Adam,
    Bernoulli,
    Beta,
    Experiment,
    LayerParameters,
    Redundant,
    Start,
    Uniform,
    affine,
    leaky_relu,
    mlp,
    train,
)
from aeclaims.backends import get
from aeclaims.theory import floors

SEEDS = range(4)
SIZES = {"n_rows": st.integers(1, 300), "batch_size": st.integers(1, 200)}
# With these learning rates, no replica diverges. With SGD at 1 and momentum 0.9, some end in NaN, as they should.
OPTIMIZERS = st.one_of(
    st.builds(Adam, lr=st.floats(1e-5, 0.3)),
    st.builds(SGD, lr=st.floats(1e-4, 0.03), momentum=st.sampled_from([0.0, 0.9])),
)
IN_UNIT = st.integers(1, 6).flatmap(
    lambda features: st.one_of(
        st.just(Uniform(features=features)),
        st.builds(Bernoulli, st.floats(0.01, 0.99), features=st.just(features)),
        st.builds(Beta, st.floats(0.05, 20), st.floats(0.05, 20), features=st.just(features)),
    )
)
LITERAL = {"n_rows": 300, "batch_size": 128}


@settings(deadline=None)
@given(rows=IN_UNIT, optimizer=OPTIMIZERS, hidden=st.lists(st.integers(1, 8), max_size=3),
       activation=st.sampled_from([IDENTITY, RELU, TANH, leaky_relu(0.1)]), loss=st.sampled_from(["bce", "bce_logits"]),
       epochs=st.integers(1, 6), **SIZES)  # fmt: skip
@example(
    rows=Uniform(features=2), optimizer=Adam(lr=1e-4), hidden=[2], activation=IDENTITY, loss="bce", epochs=6, **LITERAL
)
@example(
    rows=Bernoulli(0.5, features=2),
    optimizer=Adam(lr=1e-4),
    hidden=[2],
    activation=IDENTITY,
    loss="bce",
    epochs=6,
    **LITERAL,
)
def test_log_loss_is_never_below_the_entropy_of_its_rows(
    rows, optimizer, hidden, activation, loss, epochs, n_rows, batch_size
):
    features = rows.features
    model = mlp(features, *hidden, features, hidden=activation, output=SIGMOID if loss == "bce" else IDENTITY)
    run = train(
        Experiment(
            rows=rows, model=model, loss=loss, optimizer=optimizer, epochs=epochs, n_rows=n_rows, batch_size=batch_size
        ),
        seeds=SEEDS,
        backend="numba",
    )
    floor = floors.epoch_entropy(run.start)
    assert (run.epoch_loss >= floor - floors.rounding(np.float32, np.fmax(floor, run.epoch_loss))).all()


@settings(deadline=None)
@given(rows=IN_UNIT, optimizer=OPTIMIZERS, epochs=st.integers(1, 20), **SIZES)
@example(rows=Uniform(features=2), optimizer=Adam(lr=1e-4), epochs=20, **LITERAL)
# Targets of 1e-23: each of Newton's steps gains e times less than the one before, and the curvature vanishes.
@example(rows=Beta(0.0546875, 0.125, features=3), optimizer=Adam(lr=0.25), epochs=1, n_rows=3, batch_size=1)
# Ten targets next to 1 and seven coefficients: after 100 steps, a step still gains 1e-11.
@example(rows=Beta(3.0, 0.05, features=6), optimizer=Adam(lr=0.25), epochs=1, n_rows=10, batch_size=1)
def test_an_affine_model_with_a_sigmoid_is_never_below_its_class_floor(rows, optimizer, epochs, n_rows, batch_size):
    run = train(
        Experiment(
            rows=rows,
            model=affine(rows.features, rows.features, output=SIGMOID),
            loss="bce",
            optimizer=optimizer,
            epochs=epochs,
            n_rows=n_rows,
            batch_size=batch_size,
        ),
        seeds=SEEDS,
        backend="numba",
    )
    # If a plane separates the targets, the floor is an infimum; Newton's method stops within 1e-9 of it.
    assert (run.final_loss >= floors.class_floor(run.start.rows()) - 1e-8).all()


@settings(deadline=None)
@given(rank=st.integers(1, 5), code=st.integers(1, 5), features=st.integers(1, 6), optimizer=OPTIMIZERS,
       epochs=st.integers(1, 20), **SIZES)  # fmt: skip
@example(rank=1, code=1, features=4, optimizer=Adam(lr=1e-3), epochs=20, **LITERAL)
@example(rank=2, code=1, features=4, optimizer=Adam(lr=1e-3), epochs=20, **LITERAL)
def test_an_affine_autoencoder_is_never_below_its_bottleneck_floor(
    rank,
    code,
    features,
    optimizer,
    epochs,
    n_rows,
    batch_size,
):
    rank = min(rank, features)
    run = train(
        Experiment(
            rows=Redundant(rank, features=features),
            model=affine(features, code, features),
            loss="mse",
            optimizer=optimizer,
            epochs=epochs,
            n_rows=n_rows,
            batch_size=batch_size,
        ),
        seeds=SEEDS,
        backend="numba",
    )
    floor = floors.bottleneck_floor(run.start.rows(), code)
    # If steps are too long, a replica may blow up. Its loss is then above the floor too, or NaN.
    finite = np.isfinite(run.final_loss)
    assert (run.final_loss[finite] >= floor[finite] - floors.rounding(np.float64, 1 + floor[finite])).all()
    # If there are fewer rows than the rank, they span fewer directions: n points lie in a space of n - 1.
    is_zero = code >= min(rank, n_rows - 1)
    assert ((floor < 1e-10) == is_zero).all()


@settings(deadline=None)
@given(rank=st.integers(1, 3), spare=st.integers(0, 2), features=st.integers(3, 5), lr=st.sampled_from([3e-3, 1e-2]),
       batch_size=st.integers(16, 128))  # fmt: skip
def test_a_code_as_wide_as_the_rank_brings_most_seeds_to_zero(rank, spare, features, lr, batch_size):
    run = train(
        Experiment(
            rows=Redundant(rank, features=features),
            model=affine(features, rank + spare, features),
            loss="mse",
            optimizer=Adam(lr=lr),
            epochs=150,
            n_rows=512,
            batch_size=batch_size,
        ),
        seeds=range(8),
        backend="numba",
    )
    assert (run.final_loss < 1e-3).mean() > 1 / 2


@dataclass(frozen=True)
class Turned(Start):
    """The start of another population with its features permuted, in rows and in parameters."""

    order_of_features: tuple[int, ...] = ()

    def rows(self):
        return np.ascontiguousarray(super().rows()[:, :, self.order_of_features])

    def parameters(self):
        turned = list(super().parameters())
        first, last = turned[0], turned[-1]
        order = list(self.order_of_features)
        if len(turned) == 1:
            return (LayerParameters(first.weight[:, order][:, :, order], first.bias[:, order]),)
        turned[0] = LayerParameters(np.ascontiguousarray(first.weight[:, :, order]), first.bias)
        turned[-1] = LayerParameters(np.ascontiguousarray(last.weight[:, order]), last.bias[:, order])
        return tuple(turned)


@settings(deadline=None)
@given(rows=IN_UNIT, hidden=st.lists(st.integers(1, 6), max_size=2), loss=st.sampled_from(["mse", "bce_logits"]),
       lr=st.floats(1e-4, 1e-2), data=st.data(), **SIZES)  # fmt: skip
def test_turning_the_features_turns_the_result(rows, hidden, loss, lr, data, n_rows, batch_size):
    features = rows.features
    order = tuple(data.draw(st.permutations(range(features))))
    experiment = Experiment(
        rows=rows,
        model=mlp(features, *hidden, features, hidden=TANH),
        loss=loss,
        optimizer=Adam(lr=lr),
        epochs=3,
        n_rows=n_rows,
        batch_size=batch_size,
    )
    straight = get("numba").train(Start(experiment, SEEDS, "float64"))
    turned = get("numba").train(Turned(experiment, SEEDS, "float64", order_of_features=order))
    np.testing.assert_allclose(turned.epoch_loss, straight.epoch_loss, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        turned.parameters[-1].bias, straight.parameters[-1].bias[:, list(order)], rtol=1e-6, atol=1e-9
    )
