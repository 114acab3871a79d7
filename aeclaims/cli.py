"""The command line: aeclaims explain | list | run | report. Each command imports what it needs when it is called."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
                  help="Why can't this autoencoder reach zero loss? The claims of one answer, and the anatomy of your own loss.")

# Logs have no width of their own.
WIDTH = 110


@app.callback()
def main() -> None:
    """Named, so that the help of one command stays apart from the others'."""


def stop(message: str) -> NoReturn:
    """One line on standard error, and exit code 2."""
    print(f"aeclaims: {message}", file=sys.stderr)
    raise typer.Exit(2)


@app.command()
def explain(
    data: Annotated[str, typer.Argument(help="rows: .npy, .npz, .csv, .parquet, .pt, or - for CSV on standard input")],
    loss: Annotated[str, typer.Option(help="mse, bce, bce_logits, vae_bce (summed over features) or cross_entropy")],
    observed: Annotated[float | None, typer.Option(help="your loss as it stands: it is placed on the scale")] = None,
    code: Annotated[int | None, typer.Option(help="the narrowest width of your model")] = None,
    hidden: Annotated[str, typer.Option(help="widths of the hidden layers, such as 128,32,128")] = "",
    activation: Annotated[str | None, typer.Option(help="of the hidden layers; identity: all are affine")] = None,
    output: Annotated[str | None, typer.Option(help="the last activation: identity, sigmoid, relu, tanh, softmax")] = None,
    smoothing: Annotated[float, typer.Option(help="label smoothing of cross_entropy")] = 0.0,
    classes: Annotated[int | None, typer.Option(help="how many classes a column of labels has")] = None,
    dtype: Annotated[str, typer.Option(help="what the loss is computed in: float64, float32, float16, bfloat16")] = "float32",
    batch_size: Annotated[int, typer.Option(help="rows of a minibatch")] = 128,
    key: Annotated[str | None, typer.Option(help="the array to take, where the file holds several")] = None,
    train: Annotated[bool, typer.Option("--train", help="train a model of these widths on the rows, and show its path")] = False,
    epochs: Annotated[int, typer.Option(help="with --train")] = 50,
    lr: Annotated[float, typer.Option(help="with --train: Adam's learning rate")] = 1e-3,
) -> None:
    """Take the loss on your rows apart: entropy, bottleneck, class, and what is left for training to win."""
    from dataclasses import replace

    from aeclaims import explaining
    from aeclaims.anatomy import Question
    from aeclaims.data import InvalidData, read
    from aeclaims.experiment import InvalidExperiment
    from aeclaims.portrait import InvalidRows
    from aeclaims.report.anatomy import show, show_path

    try:
        widths = _widths(hidden)
        narrowest = min(widths) if widths and code is None else code
        question = Question(loss, narrowest, observed, activation, output, smoothing, classes, dtype, batch_size)
        rows = read(data, key)
        run = None
        if train:
            question = replace(question, activation=activation or "identity")
            run = explaining.trained(question, rows, hidden=widths, epochs=epochs, lr=lr)
        anatomy = explaining.answer(question, rows, run)
    except InvalidExperiment as error:
        stop(f"explain: {error}")
    except (InvalidData, InvalidRows) as error:
        stop(f"explain: {data}: {error}")
    show(console(), anatomy, "standard input" if data == "-" else Path(data).name)
    if run is not None:
        show_path(console(), anatomy, run)


def _widths(text: str) -> tuple[int, ...]:
    from aeclaims.experiment import InvalidExperiment

    try:
        return tuple(int(width) for width in text.split(",") if width)
    except ValueError:
        raise InvalidExperiment(f"hidden = {text!r}: give widths such as 128,32,128") from None


def console() -> "Console":
    """A console as wide as the terminal; in a log, as wide as is good to read."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=WIDTH)
