"""The anatomy of a loss matches theory to four digits, on rows with known floors."""

import math
import re

import numpy as np
import pytest
import scipy
from typer.testing import CliRunner

from aeclaims import Beta, Start, Uniform, explain
from aeclaims.anatomy.column_statistics import column_statistics
from aeclaims.anatomy.explain import Question, answer, trained
from aeclaims.anatomy.records import format_number
from aeclaims.claims.setups import QUESTION
from aeclaims.cli import app
from aeclaims.theory import floors

GENERATOR = np.random.default_rng(7)


@pytest.fixture(scope="module")
def askers_rows():
    return Start(QUESTION, (0,)).rows()[0]


@pytest.fixture(scope="module")
def images():
    """Grey images like those of MNIST: a blurred stroke on black; most pixels are exactly 0."""
    strokes = (GENERATOR.random((2000, 28, 28)) > 0.99).astype(float)
    strokes[:, :6], strokes[:, -6:], strokes[:, :, :6], strokes[:, :, -6:] = 0, 0, 0, 0
    return scipy.ndimage.gaussian_filter(strokes, (0, 1, 1), truncate=2).clip(0, 0.08) / 0.08


def found(anatomy, id):
    return [diagnosis.statement for diagnosis in anatomy.diagnoses if diagnosis.id == id]


def advised(anatomy, words):
    (advice,) = [advice for advice in anatomy.advices if words in advice.change]
    return advice


# ------------------------------------------------------------------------------- the asker, on one screen


def test_the_askers_loss_is_said_on_one_screen(askers_rows, tmp_path):
    np.save(tmp_path / "rows.npy", askers_rows)
    result = CliRunner().invoke(app, ["explain", str(tmp_path / "rows.npy"), "--loss", "bce", "--observed", "0.5564"])
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert len(result.stdout.splitlines()) <= 24
    assert "rows.npy: 30,000 rows of 100 features" in said
    entropy = float(floors.entropy(askers_rows[None])[0])
    assert f"entropy of the targets {entropy:.4f}" in said
    assert "irreducible by any model" in said
    assert re.search(r"class floor 0\.504[789]", said)
    assert f"{entropy:.4f} (89.8 %) is the entropy of the targets" in said
    assert f"{0.5564 - entropy:.4f} (10.2 %) is left for training" in said
    assert "loss: MSE, which has no entropy 0.0000" in said


def test_the_parts_add_up_to_the_observed_loss(askers_rows):
    anatomy = explain(askers_rows, loss="bce", observed=0.5564)
    assert anatomy.floor + anatomy.left == pytest.approx(0.5564, abs=1e-15)
    assert anatomy.floor == anatomy.entropy == pytest.approx(float(floors.entropy(askers_rows[None])[0]), abs=1e-12)
    assert anatomy.mean_cost == pytest.approx(math.log(2), abs=1e-4)
    affine = explain(askers_rows, loss="bce", observed=0.5564, activation="identity")
    assert affine.floor == affine.class_floor == pytest.approx(0.504947, abs=2e-4)
    assert [level.value for level in affine.reference_values] == sorted(
        level.value for level in affine.reference_values
    )


# ---------------------------------------------------------------------------------- floors to four digits


def test_grey_images_under_bce(images):
    flat = images.reshape(len(images), -1)
    x = flat.clip(1e-300, 1 - 1e-16)
    expected = float(np.mean(-x * np.log(x) - (1 - x) * np.log1p(-x)))
    anatomy = explain(images, loss="bce", bottleneck=32)
    assert anatomy.features == 784
    assert anatomy.entropy == pytest.approx(expected, abs=5e-5)
    assert anatomy.entropy < anatomy.class_floor < anatomy.bottleneck_floor < anatomy.mean_cost
    p = flat.mean(axis=0)
    assert anatomy.mean_cost == pytest.approx(
        float(np.mean(scipy.special.entr(p) + scipy.special.entr(1 - p))), abs=1e-12
    )
    assert explain((255 * images).round().astype(np.uint8), loss="mse", bottleneck=3).mean_cost == pytest.approx(
        float((255 * images).round().reshape(len(images), -1).var(axis=0).mean()), rel=1e-9
    )


def test_grey_images_as_a_vae_has_them(images):
    anatomy, per_feature = explain(images, loss="vae_bce"), explain(images, loss="bce")
    assert anatomy.entropy == pytest.approx(784 * per_feature.entropy, rel=1e-12)
    assert "continuous Bernoulli, at least ln 2 per feature and 543.4 per row" in found(anatomy, "likelihood")[0]
    assert advised(anatomy, "continuous Bernoulli").floor == -math.inf  # some pixels are exactly 0
    inside = explain(0.25 + images / 2, loss="vae_bce")
    advice = advised(inside, "continuous Bernoulli")
    assert -math.inf < advice.floor < advice.mean_cost < inside.mean_cost - 784 * math.log(2) + 1


@pytest.mark.parametrize("targets", ["labels", "one-hot", "soft"])
def test_smoothed_labels_of_a_thousand_classes_have_1_0148_nats(targets):
    labels = GENERATOR.integers(0, 1000, 3000)
    onehot = np.eye(1000)[labels[:500]]
    rows, smoothing = {"labels": (labels, 0.1), "one-hot": (onehot, 0.1), "soft": (0.9 * onehot + 1e-4, 0.0)}[targets]
    anatomy = explain(rows, loss="cross_entropy", smoothing=smoothing, n_classes=1000)
    assert anatomy.entropy == anatomy.floor == pytest.approx(1.0148, abs=5e-5)
    assert anatomy.features == 1000
    assert anatomy.mean_cost <= math.log(1000)


def test_redundant_and_constant_columns_under_mse():
    z = GENERATOR.standard_normal((4000, 2))
    rows = np.column_stack([z, 2 * z[:, 0] - z[:, 1], z[:, 1], np.full(4000, 7.0)])
    for code in (1, 2):
        anatomy = explain(rows, loss="mse", bottleneck=code, activation="identity")
        eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(rows.T, bias=True)))
        assert anatomy.floor == anatomy.bottleneck_floor == pytest.approx(eigenvalues[: 5 - code].sum() / 5, abs=1e-9)
    assert found(anatomy, "columns") == [
        "1 of 5 columns never vary; 1 repeat another column; 2 of 5 directions vary: with a "
        "bottleneck of 2, affine layers bring MSE to 0"
    ]
    assert (
        advised(explain(rows, loss="mse", bottleneck=1), "the rank of the rows").change
        == "bottleneck: 2, the rank of the rows (affine)"
    )
    constant = np.full((100, 3), 0.3)
    entropy = -0.3 * math.log(0.3) - 0.7 * math.log(0.7)
    anatomy = explain(constant, loss="bce")
    assert (anatomy.entropy, anatomy.class_floor, anatomy.mean_cost) == pytest.approx((entropy,) * 3, abs=1e-12)


def test_rank_is_not_fooled_by_the_rounding_of_the_rows():
    z = GENERATOR.standard_normal((500, 2)).astype(np.float32)
    rows = (z @ GENERATOR.standard_normal((2, 6)).astype(np.float32)) + np.float32(100)
    assert column_statistics(rows).rank == 2


# ---------------------------------------------------------------------------------- other losses and outputs


def test_a_nonlinear_models_bottleneck_is_a_reference_line():
    rows = GENERATOR.random((300, 6))
    anatomy = explain(rows, loss="mse", bottleneck=2, activation="tanh")
    assert anatomy.floor == 0 < anatomy.bottleneck_floor
    assert "a reference line, not a bound" in next(
        level.note for level in anatomy.reference_values if level.name == "bottleneck floor"
    )


@pytest.mark.parametrize(("loss", "output", "rows", "floor"), [
    ("mse", "relu", [[-1.0, 2], [3, -2]], (1 + 4) / 4), ("mse", "tanh", [[-1.5, 0], [2, 0.5]], (0.25 + 1) / 4),
    ("mse", "sigmoid", [[-0.5, 0.5], [1.5, 1]], 0.5 / 4),
    ("bce_logits", "sigmoid", [[0.0, 1], [1, 0]], (math.log(2) + math.log1p(math.exp(-1))) / 2),
    ("bce_logits", "relu", [[0.0, 1], [1, 0]], math.log(2) / 2),
])  # fmt: skip
def test_an_output_that_cannot_leave_its_range_has_a_floor(loss, output, rows, floor):
    anatomy = explain(np.array(rows), loss=loss, output=output)
    assert anatomy.floor == anatomy.output_floor == pytest.approx(floor, abs=1e-12)
    assert f"that alone costs {format_number(floor)}" in found(anatomy, "output")[0]
    assert advised(anatomy, "output:").floor == 0


def test_a_softmax_before_cross_entropy_stays_at_1_4612():
    anatomy = explain(np.arange(10), loss="cross_entropy", output="softmax")
    assert anatomy.floor == pytest.approx(1.4612, abs=5e-5)
    assert "applies a softmax to the output of a softmax" in found(anatomy, "output")[0]


def test_a_relu_before_bce_of_probabilities_is_said():
    assert "not confined" in found(explain(GENERATOR.random((9, 2)), loss="bce", output="relu"), "output")[0]


def test_bytes_under_bce_have_no_floor_until_they_are_divided():
    rows = GENERATOR.integers(0, 256, (400, 5), dtype=np.uint8)
    anatomy = explain(rows, loss="bce", observed=0.3)
    assert anatomy.floor == -math.inf
    assert "are outside [0, 1], from 0 to 255" in found(anatomy, "outside")[0]
    assert advised(anatomy, "divided by 255").floor == pytest.approx(
        float(floors.entropy(rows[None] / 255)[0]), abs=1e-12
    )
    shifted = explain(GENERATOR.uniform(-1, 1, (400, 5)), loss="bce")
    assert advised(shifted, "scaled to [0, 1], from [-").floor == pytest.approx(0.5, abs=0.02)


# ------------------------------------------------------------------------------------------ an observed loss


UNIT = Start(QUESTION, (1,)).rows()[0][:2000, :20].astype(float)


@pytest.mark.parametrize(("loss", "factor", "statement"), [
    ("bce", 20, "summed over the 20 features, not averaged (0.55 in this unit)"),
    ("bce", 64, "summed over minibatches of 64 rows, not averaged (0.55 in this unit)"),
    ("bce", 1280, "summed over 20 features and 64 rows (0.55 in this unit)"), ("bce", 1 / 20, "divided by the 20 features twice"),
    ("bce", 1 / 64, "divided by the 64 rows of a minibatch twice"), ("bce", 2000, "summed over all 2,000 rows"),
    ("bce", 1 / math.log(2), "in bits, not nats"), ("vae_bce", 1 / 20, "a mean over the 20 features, not a sum"),
])  # fmt: skip
def test_a_loss_of_another_unit_is_told_by_its_factor(loss, factor, statement):
    true = 0.55 * (20 if loss == "vae_bce" else 1)
    anatomy = explain(UNIT, loss=loss, observed=true * factor, batch_size=64)
    (text,) = found(anatomy, "below" if factor < 1 else "above")
    assert statement in text


def test_half_an_mse_below_its_floor_is_told():
    rows = UNIT[:, :6]
    floor = explain(rows, loss="mse", bottleneck=2, activation="identity").floor
    (text,) = found(explain(rows, loss="mse", bottleneck=2, activation="identity", observed=0.6 * floor), "below")
    assert "half of the squared error (" in text


def test_the_mean_predictor_and_the_floor_are_told():
    mean, entropy = (getattr(explain(UNIT, loss="bce"), name) for name in ("mean_cost", "entropy"))
    assert (
        "the output does not depend on the input" in found(explain(UNIT, loss="bce", observed=mean - 1e-4), "mean")[0]
    )
    assert "nothing left to gain" in found(explain(UNIT, loss="bce", observed=entropy + 1e-4), "floor")[0]
    assert not explain(UNIT, loss="bce", observed=(mean + entropy) / 2).diagnoses


def test_rounding_floors_are_told():
    offset = 1e5 + GENERATOR.random((500, 3))
    assert "subtract each column's mean" in found(explain(offset, loss="mse"), "rounding")[0]
    assert not found(explain(offset, loss="mse", dtype="float64"), "rounding")
    (text,) = found(explain(UNIT, loss="mse", observed=1e-15), "rounding")
    rounding = float(re.search(r"an MSE of ([\d.e-]+)", text)[1])
    assert rounding == pytest.approx(float((UNIT.astype(np.float32) - UNIT).var()), rel=2) or rounding < 1e-15
    bits = (UNIT > 0.5).astype(float)
    assert "cannot resolve less" in found(explain(bits, loss="bce", observed=1e-6), "rounding")[0]
    assert not found(explain(bits, loss="bce_logits", observed=1e-6), "rounding")


def test_binary_rows_under_mse_and_few_rows_are_told():
    bits = (UNIT > 0.5).astype(float)
    assert advised(explain(bits, loss="mse"), "BCE on logits").floor == 0
    few = explain(UNIT[:10], loss="bce")
    assert found(few, "few rows")
    assert few.class_floor == pytest.approx(few.entropy)


# --------------------------------------------------------------------------------- large rows, and training


def test_many_rows_are_sampled_and_the_error_is_stated(monkeypatch):
    rows = Start(QUESTION, (2,)).rows()[0]
    exact = float(floors.entropy(rows[None])[0])
    monkeypatch.setattr("aeclaims.anatomy.column_statistics.MOST_NUMBERS", 100 * 3000)
    anatomy = explain(rows, loss="bce")
    level = next(level for level in anatomy.reference_values if level.name == "entropy of the targets")
    assert 0 < level.error < 1e-3
    assert abs(anatomy.entropy - exact) < 4 * level.error
    assert anatomy.notes[0].startswith("3,000 of 30,000 rows were drawn at random")


def test_the_bracket_of_a_bottleneck_under_bce_holds_what_training_reaches():
    rows = UNIT[:400, :4]
    anatomy = answer(Question("bce", bottleneck=2, activation="identity"), rows)
    run = trained(Question("bce", bottleneck=2, activation="identity"), rows, epochs=400, lr=1e-2)
    assert anatomy.class_floor < run.final_loss[0] < anatomy.bottleneck_floor + 1e-3


@pytest.mark.parametrize("spec", [Uniform(features=3), Beta(0.4, 2, features=3)])
def test_the_anatomy_of_drawn_rows_is_the_claims_floors(spec):
    from aeclaims import Adam, Experiment, affine

    rows = Start(
        Experiment(rows=spec, model=affine(3, 3), loss="mse", optimizer=Adam(), epochs=1, n_rows=3000), (4,)
    ).rows()
    anatomy = explain(rows[0], loss="bce")
    assert anatomy.class_floor == pytest.approx(floors.class_floor(rows)[0], abs=1e-6)
    assert anatomy.entropy == pytest.approx(floors.entropy(rows)[0], abs=1e-12)
