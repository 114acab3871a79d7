"""Pictures of a claim's trainings, as PNG or SVG by matplotlib."""

from pathlib import Path
from typing import Any

# Limit of pictures in the grid of a claim. The first trainings are shown.
MOST_PICTURES = 9
# Colours of a PNG: those of lines and their edges.
COLOURS = 48


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw the losses of all seeds of a claim's trainings against the epoch, with the floor."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    trainings = [training for training in result["trainings"] if len(training["epochs"]) > 1][:MOST_PICTURES]
    columns = min(3, len(trainings))
    rows = -(-len(trainings) // columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(4.6 * columns + 0.6, 3.4 * rows + 0.4), squeeze=False, layout="constrained"
    )
    for index, axis in enumerate(axes.flat):
        if index >= len(trainings):
            axis.set_visible(False)
            continue
        training = trainings[index]
        epochs, quantiles = training["epochs"], training["quantiles"]
        levels = {
            name: [float("nan") if value is None else value for value in values] for name, values in quantiles.items()
        }
        axis.fill_between(epochs, levels["0"], levels["1"], color="#9ec5e8", label=f"all {training['seeds']:,} seeds")
        for curve in training["curves"]:
            axis.plot(
                epochs, [float("nan") if value is None else value for value in curve], color="#3b6ea5", linewidth=0.4
            )
        axis.plot(epochs, levels["0.5"], color="#0b2545", linewidth=1.6, label="median")
        lines = dict(training["floors"])
        is_another = isinstance(result["floor"], float) and all(
            abs(result["floor"] - known) > 1e-3 for known in lines.values()
        )
        if len(trainings) == 1 and is_another:
            lines["floor of the claim"] = result["floor"]
        for colour, (name, value) in zip(("#c1121f", "#2a7f3f"), lines.items(), strict=False):
            if value > 1e-12:  # a floor of zero has no place on a logarithmic axis
                axis.axhline(value, color=colour, linestyle="--", linewidth=1.2, label=f"{name} {value:.4g}")
        axis.set(xscale="log", yscale="log", xlabel="epoch", ylabel="epoch loss")
        axis.set_title(_wrapped(training["experiment"]), fontsize=6.5, loc="left")
        axis.legend(fontsize=7, loc="best")
    figure.savefig(path, dpi=100, metadata={"Software": None} if path.suffix == ".png" else None)
    pyplot.close(figure)
    if path.suffix == ".png":
        _reduce_colours(path)


def _reduce_colours(path: Path) -> None:
    """Keep the most frequent colours of a PNG: the file then takes a third of the space."""
    from PIL import Image  # matplotlib needs it, too

    with Image.open(path) as image:
        reduced = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    reduced.save(path, optimize=True)


def _wrapped(text: str, width: int = 74) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))


def has_picture(result: dict[str, Any]) -> bool:
    """Return whether a training of the claim has more than one epoch to draw."""
    return any(len(training["epochs"]) > 1 for training in result["trainings"])
