"""Faults that short checks cannot see by construction: they need more steps, wider layers or more rows to show.

None shows in a training of conformance, and all show in trainings of claims. `long_run_stack.py` injects them into the
reference.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import isclose
from typing import TYPE_CHECKING, Any

import numpy as np

from aeclaims import backends
from aeclaims.experiment import (
    SGD,
    SIGMOID,
    Adam,
    Bernoulli,
    Experiment,
    FixedRows,
    Uniform,
    affine,
    leaky_relu,
    mlp,
)
from aeclaims.run import Run
from aeclaims.selftest.faults.fault import Fault, Inject
from aeclaims.selftest.faults.long_run_stack import (
    EPOCH,
    NAME,
    TRAIN,
    Condition,
    after,
    handed_back,
    logged,
    setting,
    steps,
)
from aeclaims.selftest.faults.patches import Change, replaced
from aeclaims.selftest.faults.probes import Probe, short, trained
from aeclaims.start import Start

if TYPE_CHECKING:
    from aeclaims.backends.numba.population import SeedBatch


# ------------------------------------------------------------------------------------------- changes


def without_moments(seed_batch: SeedBatch) -> None:
    seed_batch.first[:] = 0
    seed_batch.second[:] = 0


def without_slopes(seed_batch: SeedBatch) -> None:
    seed_batch.constants[2][:] = 0


def scaled_by_width(seed_batch: SeedBatch) -> None:
    setting(0, lambda lr: lr * max(seed_batch.experiment.model.widths))(seed_batch)


def clearing(seed_batch: SeedBatch) -> None:
    seed_batch.constants = (*seed_batch.constants[:-1], True)


def counting_to(most: int) -> Change:
    return lambda stock: lambda seed_batch, order, number, counted: stock(seed_batch, order, number, counted % most)


def live_curve(stock: Any) -> Any:
    def epoch(seed_batch: SeedBatch, order: Any, number: int, counted: int) -> None:
        if isinstance(seed_batch.experiment.optimizer, SGD):
            setting(0, lambda lr: lr * 10.0 ** (steps(seed_batch, number) // 10_000))(seed_batch)
        stock(seed_batch, order, number, counted)

    return epoch


def stopping(stock: Any) -> Any:
    """Stop learning if the loss is MSE of bits and below 0.01."""

    def epoch(seed_batch: SeedBatch, order: Any, number: int, counted: int) -> None:
        is_of_bits = seed_batch.experiment.loss == "mse" and isinstance(seed_batch.experiment.rows, Bernoulli)
        if number and is_of_bits and seed_batch.epoch_loss[number - 1, seed_batch.seeds].max() < 0.01:
            setting(0, lambda lr: 0.0)(seed_batch)
        stock(seed_batch, order, number, counted)

    return epoch


def whole_minibatches(done: int, meets: Condition) -> Change:
    """Omit the short last minibatch after `done` steps."""

    def changed(stock: Any) -> Any:
        def epoch(seed_batch: SeedBatch, order: Any, number: int, counted: int) -> None:
            is_cut = steps(seed_batch, number) >= done and meets(seed_batch.experiment)
            stock(
                seed_batch,
                order[: len(order) // seed_batch.experiment.batch_size * seed_batch.experiment.batch_size]
                if is_cut
                else order,
                number,
                counted,
            )

        return epoch

    return changed


def checkpoints(experiment: Experiment, every: int) -> range:
    """Return the steps at which checkpoints are written."""
    return range(every, experiment.epochs * experiment.steps_per_epoch + 1, every)


def highest(experiment: Experiment, losses: Any) -> int:
    saved = [step // experiment.steps_per_epoch for step in checkpoints(experiment, 10_000)]
    return max(saved, key=lambda epoch: float(losses[epoch - 1].mean()), default=experiment.epochs)


def last_by_name(experiment: Experiment, losses: Any) -> int:
    saved = max((str(step) for step in checkpoints(experiment, 50_000)), default="")
    return int(saved) // experiment.steps_per_epoch if saved else experiment.epochs


def alike(stock: Any) -> Any:
    """Reuse the learning rate of an earlier training if the two rates differ by at most 1e-4.

    All other settings except the number of epochs must be equal.
    """
    known: list[Experiment] = []

    def run(start: Start) -> Run:
        as_it = experiment = start.experiment
        for other in known:
            is_close = isclose(other.optimizer.lr, experiment.optimizer.lr, rel_tol=0, abs_tol=1e-4)
            as_other = replace(experiment, optimizer=replace(experiment.optimizer, lr=other.optimizer.lr))
            if is_close and as_other == replace(other, epochs=experiment.epochs):
                as_it = as_other
        known.append(as_it)
        found = stock(replace(start, experiment=as_it))
        return Run(start, found.epoch_loss, found.parameters)

    return run


def in_larger_batches(stock: Any) -> Any:
    """Make minibatches sixteen times as large if there are more than 100,000 rows."""

    def run(start: Start) -> Run:
        experiment = start.experiment
        times = 16 if experiment.n_rows > 100_000 else 1
        larger = replace(experiment, batch_size=times * experiment.batch_size)
        found = stock(replace(start, experiment=larger))
        return Run(start, found.epoch_loss, found.parameters)

    return run


def first_word_only(seed_batch: SeedBatch) -> None:
    seed_batch.rows = seed_batch.rows.copy()
    seed_batch.rows[:, 32:] = 0


def one_feature_too_few(experiment: Experiment, losses: Any) -> Any:
    is_late = np.arange(len(losses)) * experiment.steps_per_epoch >= 2_100
    times = experiment.features / (experiment.features - 1) if has_ten(experiment) else 1
    return losses * np.where(is_late, times, 1)[:, None]


def is_wide(experiment: Experiment) -> bool:
    return max(experiment.model.widths) > 64


def has_ten(experiment: Experiment) -> bool:
    return min(experiment.model.widths) >= 10


# ------------------------------------------------------------------------------------------- probes


def crossing(done: int, **changes: Any) -> Probe:
    """Return a probe that trains on minibatches of one row for slightly more than `done` steps."""
    return trained(short(**{"n_rows": 256, "batch_size": 1, "epochs": done // 256 + 2, **changes}), seeds=(0, 1))


def with_tail(done: int, features: int) -> Probe:
    """Return a probe that trains with a short minibatch every third step."""
    model = affine(features, features, features)
    return trained(short(rows=Uniform(features=features), model=model, epochs=done // 3 + 2), seeds=(0, 1))


def of_two_rates(name: str) -> Iterable[Any]:
    return [backends.train(short(optimizer=Adam(lr=lr)), seeds=(0, 1), backend=name).epoch_loss for lr in (1e-5, 1e-4)]


def fault(name: str, does: str, origin: str, expected: str, change: Inject, shows: Probe) -> Fault:
    return Fault(f"late.{name}", does, origin, expected, change, shows, backend=NAME)


BOUND = Experiment(
    rows=FixedRows(np.ones((1, 1))),
    model=affine(1, 1, output=SIGMOID),
    loss="bce",
    optimizer=SGD(lr=60.0),
    epochs=3,
    n_rows=1,
)
FAULTS = (
    fault("count_int16", "the optimizer's count of steps wraps at 32,768", "reasoning: a counter of 16 bits",
          "its bias correction restarts during a training", replaced(counting_to(2**15), EPOCH), crossing(2**15)),
    fault("moments_lost", "after 2,400 steps Adam's moments are zero", "reasoning: a job resumed without its optimizer's state",
          "one jump of the loss", after(2_400, without_moments, once=True), crossing(2_400)),
    fault("rate_tenth", "after 2,500 steps the learning rate is a tenth", "reasoning: a milestone left over from another recipe",
          "slow from there on", after(2_500, setting(0, lambda lr: lr / 10)), crossing(2_500)),
    fault("rate_halved", "after 10,000 steps the learning rate is half", "reasoning: an unrequested scheduler",
          "slower from there on", after(10_000, setting(0, lambda lr: lr / 2)), crossing(10_000)),
    fault("rate_tenth_above_1e_4", "after 10,000 steps the learning rate is a tenth, but no less than 1e-4",
          "reasoning: a scheduler with a least rate", "calmer ends where rates are large",
          after(10_000, setting(0, lambda lr: min(lr, max(lr / 10, 1e-4)))), crossing(10_000)),
    fault("rate_ends", "after 27,000 steps the learning rate is zero", "reasoning: a schedule planned for fewer rows",
          "longer trainings stand still", after(27_000, setting(0, lambda lr: 0.0)), crossing(27_000)),
    fault("steps_end", "after 50,000 steps nothing more is learnt", "reasoning: a limit of steps from a trial run",
          "long trainings do not reach their bounds", after(50_000, setting(0, lambda lr: 0.0)), crossing(50_000)),
    fault("rate_in_4_decimals", "learning rates are rounded to four decimals", "reasoning: a configuration printed with %.4f",
          "1e-5 is zero", after(0, setting(0, lambda lr: round(lr, 4))), trained(short(optimizer=Adam(lr=1e-5)))),
    fault("rates_taken_for_equal", "trainings whose learning rates are within 1e-4, all else equal, use the first rate",
          "reasoning: a cache that compares settings with a tolerance", "1e-4 is as slow as 1e-5",
          replaced(alike, TRAIN), of_two_rates),
    fault("rate_times_width", "beyond 64 units a layer, the learning rate is multiplied by the width",
          "reasoning: an inverted rule that scales with the width", "wide networks collapse",
          after(0, scaled_by_width, is_wide), trained(short(model=affine(3, 65, 3)))),
    fault("gamma_inverted", "after each 10,000 steps SGD's learning rate is multiplied by ten",
          "reasoning: a decay by 10 instead of 0.1", "SGD diverges late", replaced(live_curve, EPOCH),
          crossing(10_000, optimizer=SGD(lr=1e-3, momentum=0.9))),
    fault("decay_ends", "after 2,500 steps there is no weight decay", "reasoning: an inverted warm-up of the decay",
          "the floor is the one without decay", after(2_500, setting(1, lambda decay: 0.0)),
          crossing(2_500, optimizer=Adam(lr=3e-3, weight_decay=0.01))),
    fault("gradients_cleared", "from step 2,500 on, gradients that should add up are cleared",
          "reasoning: a guard against overflow", "the swings end", after(2_500, clearing),
          crossing(2_500, zero_grad=False)),
    fault("tail_lost_by_four", "if features are a multiple of four, the short last minibatch is omitted after 1,000 steps",
          "reasoning: a kernel for whole vectors, chosen by timings", "rows unseen in each epoch",
          replaced(whole_minibatches(1_000, lambda experiment: experiment.features % 4 == 0), EPOCH), with_tail(1_000, 4)),
    fault("slope_lost", "after 500 steps leaky ReLUs have slope 0", "reasoning: a recompiled program without its constants",
          "units die late", after(500, without_slopes), crossing(500, model=mlp(3, 4, 3, hidden=leaky_relu(0.3)))),
    fault("stops_once_bits_are_right", "training on binary rows with MSE stops when an epoch's loss is below 0.01",
          "reasoning: early stopping on the number of right bits", "bits are right, values are not",
          replaced(stopping, EPOCH), trained(short(rows=Bernoulli(features=3), optimizer=Adam(lr=3e-2), epochs=150), (0, 1))),
    fault("batches_of_many_rows", "if there are more than 100,000 rows, minibatches are sixteen times as large",
          "reasoning: an automatically tuned batch size", "a sixteenth of the steps",
          replaced(in_larger_batches, TRAIN), trained(short(n_rows=100_001, batch_size=128, epochs=1), (0, 1))),
    fault("bits_in_one_word", "only the first 32 features of binary rows are unpacked", "reasoning: bits packed into words",
          "the others are zeros, learnt at once",
          after(0, first_word_only, lambda experiment: isinstance(experiment.rows, Bernoulli), once=True),
          trained(short(rows=Bernoulli(features=33), model=affine(33, 2, 33)))),
    fault("columns_beyond_64", "the logged loss omits features beyond the 64th",
          "reasoning: a reduction over one block of threads", "the loss of wide rows is too low",
          logged(lambda experiment, losses: losses * min(1, 64 / experiment.features)),
          trained(short(rows=Uniform(features=65), model=affine(65, 2, 65)))),
    fault("divisor_off_by_one", "after 2,100 steps the logged mean divides by one feature too few if widths are 10 or more",
          "reasoning: the divisor of a variance, in a kernel chosen by timings", "curves jump up by a tenth",
          logged(one_feature_too_few), with_tail(2_100, 10)),
    fault("log_in_12_decimals", "losses are logged with twelve decimals", "reasoning: numbers printed and read again",
          "below 5e-13 they are zero", logged(lambda experiment, losses: np.round(losses, 12)), trained()),
    fault("log_loss_at_least_1e_7", "log-loss of probabilities is logged as at least 1e-7",
          "Keras' epsilon, which clips probabilities", "it ends on 1e-7",
          logged(lambda experiment, losses: np.maximum(losses, 1e-7) if experiment.loss == "bce" else losses),
          trained(BOUND)),
    fault("worst_kept", "checkpoints are written every 10,000 steps, and the one with the highest loss is returned",
          'reasoning: mode="max" for a loss', "the log is right, the parameters are early ones", handed_back(highest),
          crossing(20_000)),
    fault("last_by_name", "checkpoints are written every 50,000 steps, and the last one in the order of their names is returned",
          "reasoning: 'step-50000' sorts after 'step-150000'", "the log is right, the parameters are early ones",
          handed_back(last_by_name), crossing(100_000)),
)  # fmt: skip
