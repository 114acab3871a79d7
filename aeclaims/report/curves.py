"""Summary of a training for reports: its set-up, and the losses of its seeds at some of its epochs."""

from typing import Any

import numpy as np
import numpy.typing as npt

from aeclaims.experiment import Adam, Experiment, Optimizer
from aeclaims.run import Double, Run
from aeclaims.theory import floors

# This is the width of a picture, and it keeps the JSON of a thousand seeds small.
MOST_EPOCHS = 60
MOST_SEEDS = 24
# Limits of seeds on a page, for one training and for all trainings of a claim.
MOST_ON_PAGE, MOST_OF_CLAIM = 256, 1024
QUANTILES = (0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0)


def summary(run: Run, most_seeds: int = MOST_SEEDS) -> dict[str, Any]:
    """Return the set-up in words, quantiles over all seeds at up to 60 epochs, and curves of the first seeds.

    `above` and `excess` give the last loss of each of these seeds above the floor of its rows.
    """
    epochs = some_epochs(run.experiment.epochs)
    losses = run.epoch_loss[epochs - 1]
    with np.errstate(invalid="ignore"):
        quantiles = np.quantile(losses, QUANTILES, axis=1)
        known = theory(run, most_seeds)
        name, floor = next(iter(known.items()), ("", np.zeros(1)))
        excess = losses[-1, :most_seeds] - floor
    return {
        "experiment": describe(run.experiment),
        "seeds": len(run.seeds),
        "epochs": epochs.tolist(),
        "quantiles": {f"{q:g}": _digits(values) for q, values in zip(QUANTILES, quantiles, strict=True)},
        "floors": {name: float(own[:MOST_SEEDS].mean()) for name, own in known.items()},
        "curves": [_digits(values) for values in losses.T[:most_seeds]],
        "above": f"last epoch above the {name}" if known else "loss at the last epoch",
        "excess": [value for value in _digits(excess) if value is not None],
    }


def some_epochs(count: int) -> npt.NDArray[np.int64]:
    """Return up to 60 epochs from 1 to `count`, evenly spaced on a logarithmic axis."""
    return np.unique(np.geomspace(1, count, MOST_EPOCHS).round().astype(np.int64))


def theory(run: Run, most_seeds: int = MOST_SEEDS) -> dict[str, Double]:
    """Return the known floor of a training, by its name, or nothing.

    Its shape is (S,), for the rows of each of the first seeds.
    """
    experiment, some = run.experiment, run.select(run.seeds[:most_seeds])
    if experiment.loss != "mse":
        return {"entropy": np.broadcast_to(floors.entropy(some.start.rows()), len(some.seeds))}
    if all(activation.kind == "identity" for activation in experiment.model.activations):
        code = min(experiment.model.widths)
        return {"bottleneck floor": np.broadcast_to(floors.bottleneck_floor(some.start.rows(), code), len(some.seeds))}
    return {}


def describe(experiment: Experiment) -> str:
    """Describe an experiment on one line."""
    widths = "-".join(str(width) for width in experiment.model.widths)
    names = [
        a.kind.replace("_", " ") + (f" {a.slope:g}" if a.kind == "leaky_relu" else "")
        for a in experiment.model.activations
    ]
    gradients = "" if experiment.zero_grad else ", gradients never cleared"
    return (
        f"rows {experiment.rows}, {experiment.n_rows:,} of them in minibatches of {experiment.batch_size}; "
        f"affine layers {widths} with {', '.join(names)}; {experiment.initialisation} initialisation; "
        f"{experiment.loss}; {_optimizer(experiment.optimizer)}{gradients}; {experiment.epochs} epochs"
    )


def _optimizer(optimizer: Optimizer) -> str:
    is_adam = isinstance(optimizer, Adam)
    usual = Adam() if is_adam else type(optimizer)(lr=optimizer.lr)
    extra = [
        f"{name.replace('_', ' ')} {value}"
        for name, value in vars(optimizer).items()
        if name != "lr" and value != getattr(usual, name)
    ]
    return ", ".join([f"{'Adam' if is_adam else 'SGD'} {optimizer.lr:g}", *extra])


def _digits(values: Double) -> list[float | None]:
    """Round to four digits. Values that are not finite become None, because JSON lacks them."""
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in values]
