"""Curves on a terminal, in Braille dots: two by four in a cell."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aeclaims.report.curves import some_epochs
from aeclaims.run import Double

WIDTH, HEIGHT = 64, 9
# Bit of each dot in a Braille cell, by row and column (Unicode 15, chapter 21.1).
DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])


def curve(epochs: Sequence[float], losses: npt.ArrayLike, floor: float | None = None) -> str:
    """Draw losses against the epoch, both on logarithmic axes.

    Args:
        epochs: Epochs of the losses, E of them.
        losses: Shape (E,), or (S, E) for several seeds. Values that are not finite or not above 0 leave a gap.
        floor: Floor, drawn as a dotted line if it is above 0.

    Returns:
        Lines of text.
    """
    values = np.atleast_2d(np.asarray(losses, np.float64))
    lines = values if floor is None or not floor > 0 else np.vstack([values, np.full(values.shape[1], floor)])
    with np.errstate(divide="ignore", invalid="ignore"):
        heights = np.log(lines)
    seen = heights[np.isfinite(heights)]
    if not seen.size:
        return "no finite loss above 0"
    low, high = float(seen.min()), float(seen.max())
    cells = np.zeros((HEIGHT, WIDTH), int)
    across = _scaled(np.log(np.asarray(epochs, np.float64)), 2 * WIDTH - 1)
    for line, height in enumerate(heights):
        # The curve is straight between two epochs. The floor has every other dot.
        steps = np.arange(0, 2 * WIDTH, 2 if line == len(values) else 1)
        at = np.interp(steps, across, height)
        dots = ((high - at[np.isfinite(at)]) / ((high - low) or 1.0) * (4 * HEIGHT - 1)).round().astype(int)
        for x, dot, before in zip(steps[np.isfinite(at)], dots, [*dots[:1], *dots[:-1]], strict=True):
            for y in range(min(dot, before), max(dot, before) + 1):  # steep curves have no gaps
                cells[y // 4, x // 2] |= DOTS[y % 4, x % 2]
    labels = {0: f"{np.exp(high):.3g}", HEIGHT - 1: f"{np.exp(low):.3g}"}
    rows = [
        f"{labels.get(index, ''):>9} " + "".join(chr(0x2800 + int(cell)) for cell in row)
        for index, row in enumerate(cells)
    ]
    ends = f"{epochs[0]:g}", f"epoch {epochs[-1]:g}"
    return "\n".join([*rows, " " * 10 + ends[0] + ends[1].rjust(WIDTH - len(ends[0]))])


def live_curve(losses: Double) -> str:
    """Draw the minimum, median and maximum loss of each epoch, for a training in progress.

    Args:
        losses: Shape (E, S). Future epochs are NaN.
    """
    epochs = some_epochs(len(losses))
    ordered = np.sort(np.where(np.isfinite(losses[epochs - 1]), losses[epochs - 1], np.nan), axis=1)  # NaN comes last
    last = np.maximum(np.isfinite(ordered).sum(axis=1) - 1, 0)
    drawn = curve(epochs.tolist(), [ordered[np.arange(len(epochs)), place] for place in (0 * last, last // 2, last)])
    return (
        drawn if losses.shape[1] == 1 else f"{drawn}\n{'minimum, median and maximum loss of the seeds':^{10 + WIDTH}}"
    )


def _scaled(values: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.float64]:
    low, high = values.min(), values.max()
    return np.asarray((values - low) / ((high - low) or 1.0) * most)
