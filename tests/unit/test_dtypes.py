"""Number formats, their floors for a loss, and trainings with products that are rounded to them."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aeclaims import Backend, Experiment, InvalidExperiment, Start, Uniform, UnknownBackend, affine, train
from aeclaims.backends import get
from aeclaims.claims.test_formats import test_mse_ends_where_the_unit_round_off_says as judge_rounding_floor
from aeclaims.conformance.stack import Stack, relative
from aeclaims.dtypes import FORMATS, REDUCED
from aeclaims.errors import ClaimFailed, InvalidBackend
from aeclaims.experiment import SGD, Adam
from aeclaims.judging.judge import Judge
from aeclaims.run import Run
from aeclaims.start import checked
from aeclaims.theory import floors

SEEDS = range(8)
ONCE = Experiment(
    rows=Uniform(features=3),
    model=affine(3, 4, 3),
    loss="mse",
    optimizer=SGD(lr=1.0),
    epochs=1,
    n_rows=48,
    batch_size=48,
)


@pytest.fixture(scope="module")
def torch():
    """torch, imported when a test runs, not when it is collected."""
    import torch

    return torch


@pytest.mark.parametrize("name", FORMATS)
@settings(deadline=None)
@given(
    values=st.lists(st.floats(-1e4, 1e4, allow_subnormal=False).filter(lambda v: v == 0 or abs(v) > 1e-30), min_size=1)
)
def test_a_value_is_rounded_as_torch_rounds_it(torch, name, values):
    dtype = getattr(torch, name)
    exact = torch.tensor(values, dtype=torch.float64)
    assert FORMATS[name].nearest(exact.numpy()).tolist() == exact.to(dtype).double().tolist()
    assert FORMATS[name].eps == torch.finfo(dtype).eps
    below, above = FORMATS[name].around(exact.numpy())
    assert (below <= exact.numpy()).all()
    assert (above >= exact.numpy()).all()
    assert below.tolist() == torch.from_numpy(below).to(dtype).double().tolist()


@pytest.mark.parametrize("name", REDUCED)
@pytest.mark.parametrize("loss", ["mse", "bce", "bce_logits"])
def test_no_number_of_the_format_costs_less_than_its_floor(torch, name, loss):
    """Compares the floor with all 65,536 numbers of the format."""
    numbers = torch.arange(-32768, 32768, dtype=torch.int16).view(getattr(torch, name)).double().numpy()
    numbers = numbers[np.isfinite(numbers)]
    rows = np.array([[0.0, 1.0, 0.3], [1e-3, 0.999, 0.5], [0.7, 2.0**-12, 0.123]])
    if loss == "mse":
        costs = (rows[..., None] - numbers) ** 2
    elif loss == "bce":
        p = numbers[(numbers >= 0) & (numbers <= 1)]
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = rows[..., None] * np.log(p), (1 - rows[..., None]) * np.log1p(-p)
        costs = -sum(np.nan_to_num(part, nan=0) for part in parts)
    else:
        costs = np.logaddexp(0, numbers) - rows[..., None] * numbers
    least = np.where((rows == 0) | (rows == 1), 0, costs.min(axis=-1)).mean()
    assert floors.format_floor(rows[None], loss, FORMATS[name]) == pytest.approx(least, rel=1e-12)
    assert loss == "mse" or least > floors.entropy(rows[None])


@pytest.mark.parametrize("loss", ["bce", "bce_logits"])
def test_targets_of_0_and_1_cost_nothing_in_any_format(loss):
    assert floors.format_floor(np.array([[[0.0, 1.0]], [[1.0, 1.0]]]), loss, FORMATS["float16"]).tolist() == [0, 0]


def test_targets_without_an_entropy_have_no_floor_of_a_format():
    with pytest.raises(floors.OutOfRange):
        floors.format_floor(np.array([[[1.5]]]), "bce", FORMATS["float16"])
    # MSE is defined for any number, and numbers of the format cost nothing.
    assert floors.format_floor(np.array([[[1.5, -3.0]]]), "mse", FORMATS["float16"]) == 0


@pytest.mark.parametrize("name", REDUCED)
@pytest.mark.parametrize("backend", ["torch", "torch-eager", "torch-loop"])
def test_products_are_rounded_and_parameters_are_not(name, backend):
    rounded, exact = (train(ONCE, seeds=SEEDS, backend=backend, dtype=dtype) for dtype in (name, "float32"))
    off = relative(rounded.epoch_loss, exact.epoch_loss).max()
    assert FORMATS[name].eps / 100 < off < 4 * FORMATS[name].eps
    assert all(part.dtype == np.float32 for layer in rounded.parameters for part in layer)
    assert rounded.start.format.name == name


@pytest.mark.parametrize("name", REDUCED)
def test_the_rounding_floor_is_found_and_both_coarser_and_finer_products_are(name):
    def under_test(dtype):
        def trained(experiment):
            run = train(experiment, seeds=SEEDS, backend="torch-eager", dtype=dtype)
            return Run(checked(experiment, SEEDS, name), run.epoch_loss, run.parameters)

        return trained

    judge = Judge()
    judge_rounding_floor(under_test(name), judge)
    assert judge.judged == 3
    other = "bfloat16" if name == "float16" else "float32"
    with pytest.raises(ClaimFailed):
        judge_rounding_floor(under_test(other), Judge())


def test_a_reduced_path_is_judged_by_its_own_round_off():
    backend = get("torch-eager")
    stack = Stack(backend, "float16", tuple(SEEDS))
    run = stack.train(dataclasses.replace(ONCE, epochs=20, optimizer=SGD(lr=0.1)))
    allowed = stack.allowed_losses(run.experiment)
    off = relative(run.epoch_loss, stack.oracle_run(run.experiment).epoch_loss)
    assert (off < allowed).all()
    assert allowed.max() < 0.05
    # The rounding of bfloat16 instead of float16.
    coarse = train(run.experiment, seeds=SEEDS, backend="torch-eager", dtype="bfloat16")
    assert (
        relative(coarse.epoch_loss, stack.oracle_run(run.experiment).epoch_loss) / allowed
    ).max() > off.max() / allowed.max()


def test_what_cannot_round_says_so():
    with pytest.raises(UnknownBackend, match=r"'bfloat16'.*numba on cpu has float32 and float64 only"):
        train(ONCE, seeds=SEEDS, backend="numba", dtype="bfloat16")
    with pytest.raises(InvalidExperiment, match="dtype = 'float8': give one of float64, float32, bfloat16, float16"):
        train(ONCE, seeds=SEEDS, backend="torch-eager", dtype="float8")
    with pytest.raises(InvalidExperiment, match="products"):
        Start(ONCE, (0,), products="float8")
    with pytest.raises(InvalidBackend, match="Backend.reduced"):
        Backend("mine", lambda start: None, reduced=("float8",))


@pytest.mark.parametrize("name", REDUCED)
def test_what_roundings_come_to_is_what_they_do_come_to(torch, name):
    """Compares the outputs of one layer in the format and in float64, at the same parameters."""
    run = train(
        dataclasses.replace(ONCE, model=affine(3, 3), n_rows=4000, batch_size=4000),
        seeds=SEEDS,
        backend="torch-eager",
        dtype=name,
    )
    for seed, predicted in enumerate(floors.rounding_mse(run)):
        rows = torch.from_numpy(run.start.rows()[seed].copy())
        (layer,) = (tuple(torch.from_numpy(part[seed]) for part in layer) for layer in run.parameters)
        with torch.autocast("cpu", getattr(torch, name)):
            rounded = torch.nn.functional.linear(rows, *layer).double()
        exact = torch.nn.functional.linear(rows.double(), *(part.double() for part in layer))
        assert predicted / 3 < float(((rounded - exact) ** 2).mean()) < 3 * predicted


def test_the_claims_of_a_reduced_format_are_those_with_bounds_of_their_own(pytester):
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider")
    result = pytester.runpytest_subprocess(
        "--pyargs", "aeclaims", "-m", "claims", "--claims-backend", "torch-eager", "--claims-dtype", "bfloat16"
    )
    result.stdout.fnmatch_lines(
        [
            "*backend torch-eager, device cpu, bfloat16*",
            "1 held, 30 not exercised of 31 claims",
            "not exercised: *: its bounds are for float32 and float64, not for products in bfloat16",
        ]
    )
    assert result.ret == 0


def test_rounded_betas_put_a_run_ahead_by_its_clock():
    """One of two stacks rounds beta2 to float32, so its second moment has an error of 1.29e-5, and a step half of it."""
    from aeclaims.dtypes import clock_error

    losses = np.exp(-0.3 * np.arange(1.0, 101.0))[:, None]
    allowed = clock_error(Adam(), np.dtype(np.float32), losses)
    rounded = 1 - 0.001 / (1 - float(np.float32(0.999)))
    assert allowed[-1, 0] == pytest.approx(0.3 * 100 * (abs(rounded) / 2 + 2.4e-7), rel=0.01)
    assert clock_error(Adam(), np.dtype(np.float64), losses).max() < 1e-11
    assert not clock_error(SGD(lr=0.1), np.dtype(np.float32), losses).any()
    assert not clock_error(Adam(), np.dtype(np.float32), losses[:1]).any()
