"""Anatomy of a loss on a terminal: one screen of reference values, summary, possible changes and findings."""

import math

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from aeclaims.anatomy.records import OBSERVED, TRAINED, Anatomy, ReferenceValue, format_number
from aeclaims.report.braille import curve
from aeclaims.run import Run

# Length of the bar of the largest value, in cells.
BAR = 18
EIGHTHS = " ▏▎▍▌▋▊▉"
STYLES = {OBSERVED: "bold yellow", TRAINED: "bold green"}


def show(console: Console, anatomy: Anatomy, name: str) -> None:
    """Print the anatomy of a loss. `name` is the name of the rows."""
    question = anatomy.question
    what = (
        "classes"
        if question.loss == "cross_entropy"
        else f"feature{'s' * (anatomy.features > 1)}, from {anatomy.low:.4g} to {anatomy.high:.4g}"
    )
    title = Text(
        f"{name}: {anatomy.count:,} rows of {anatomy.features:,} {what}; {question.loss}, {question.unit}", style="bold"
    )
    parts: list[RenderableType] = [title, _reference_values(anatomy), Padding(Text(anatomy.sentence), (0, 1, 1, 1))]
    if anatomy.advices:
        parts.append(_advices(anatomy))
    parts += [Padding(Text.assemble((f"{found.id}: ", "bold"), found.statement), (0, 1)) for found in anatomy.diagnoses]
    parts += [Padding(Text(note, style="dim"), (0, 1)) for note in anatomy.notes]
    console.print(Group(*parts))


def _reference_values(anatomy: Anatomy) -> Table:
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False, padding=(0, 1))
    table.add_column("level", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("bar", no_wrap=True)
    table.add_column("why")
    most = max((abs(level.value) for level in anatomy.reference_values if math.isfinite(level.value)), default=0)
    for level in anatomy.reference_values:
        style = STYLES.get(level.name, "cyan" if level.is_bound else "")
        table.add_row(
            Text(level.name, style=style),
            Text(value(level), style=style),
            Text(bar(level.value, most), style=style),
            Text(level.note, style="dim"),
        )
    return table


def value(level: ReferenceValue) -> str:
    """Format a reference value, with its standard error if it comes from a sample."""
    return format_number(level.value) + (f" ± {level.error:.1g}" if level.error > 0 else "")


def bar(value: float, most: float) -> str:
    """Draw a bar with a resolution of 1/8 cell. The largest value has `BAR` cells."""
    if not (most > 0 and value > 0):
        return ""
    eighths = round(8 * BAR * min(value / most, 1))
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def _advices(anatomy: Anatomy) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("possible change")
    table.add_column("floor", justify="right", no_wrap=True)
    table.add_column("cost of the mean", justify="right", no_wrap=True)
    for advice in anatomy.advices:
        table.add_row(
            Text(advice.change),
            format_number(advice.floor),
            "" if advice.mean_cost is None else format_number(advice.mean_cost),
        )
    return table


def show_path(console: Console, anatomy: Anatomy, run: Run) -> None:
    """Print the losses of a training against the epoch, with the floor."""
    scale = anatomy.features if anatomy.question.loss == "vae_bce" else 1
    losses = run.epoch_loss.T * scale
    console.print(
        Padding(
            Text(f"losses of the training on {run.experiment.n_rows:,} rows; dotted: the floor", style="bold"),
            (1, 1, 0, 1),
        )
    )
    console.print(Text(curve(range(1, run.experiment.epochs + 1), losses, anatomy.floor)))
