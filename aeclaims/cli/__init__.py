"""The command line: `aeclaims explain | list | run | report`. Each command imports its modules when you call it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from aeclaims.judging.registry import Entry

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Why can't this autoencoder reach zero loss? The claims of one answer, and the anatomy of your loss.",
)

# Columns of output that is not a terminal: a log has no width.
WIDTH = 110


@app.callback()
def main() -> None:
    """Do nothing: with a callback, each command has its help."""


def stop(message: str) -> NoReturn:
    """Print one line on standard error, and exit with 2."""
    print(f"aeclaims: {message}", file=sys.stderr)
    raise typer.Exit(2)


@app.command()
def explain(
    data: Annotated[str, typer.Argument(help="rows: .npy, .npz, .csv, .parquet, .pt, or - for CSV on standard input")],
    loss: Annotated[str, typer.Option(help="mse, bce, bce_logits, vae_bce (summed over features) or cross_entropy")],
    observed: Annotated[float | None, typer.Option(help="your loss, to be placed on the scale")] = None,
    bottleneck: Annotated[int | None, typer.Option(help="the narrowest width of your model")] = None,
    hidden: Annotated[str, typer.Option(help="widths of the hidden layers, such as 128,32,128")] = "",
    activation: Annotated[
        str | None, typer.Option(help="activation of the hidden layers; identity: all are affine")
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="the last activation: identity, sigmoid, relu, tanh, softmax")
    ] = None,
    smoothing: Annotated[float, typer.Option(help="label smoothing of cross_entropy")] = 0.0,
    classes: Annotated[int | None, typer.Option(help="number of classes in a column of labels")] = None,
    dtype: Annotated[
        str, typer.Option(help="format in which the loss is computed: float64, float32, float16, bfloat16")
    ] = "float32",
    batch_size: Annotated[int, typer.Option(help="rows of a minibatch")] = 128,
    key: Annotated[str | None, typer.Option(help="the array to take, if the file holds several")] = None,
    train: Annotated[
        bool, typer.Option("--train", help="train a model of these widths on the rows, and show its curve")
    ] = False,
    epochs: Annotated[int, typer.Option(help="with --train: number of epochs")] = 50,
    lr: Annotated[float, typer.Option(help="with --train: Adam's learning rate")] = 1e-3,
) -> None:
    """Take the loss on your rows apart: entropy, bottleneck, class, and the rest, which training can win."""
    from dataclasses import replace

    from aeclaims.anatomy import explain as explaining
    from aeclaims.anatomy.files import read
    from aeclaims.anatomy.records import Question
    from aeclaims.errors import InvalidData, InvalidExperiment, InvalidRows
    from aeclaims.report.anatomy import show, show_path

    try:
        widths = _widths(hidden)
        narrowest = min(widths) if widths and bottleneck is None else bottleneck
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
    from aeclaims.errors import InvalidExperiment

    try:
        return tuple(int(width) for width in text.split(",") if width)
    except ValueError:
        raise InvalidExperiment(f"hidden = {text!r}: give widths such as 128,32,128") from None


def console() -> "Console":
    """Return a console as wide as the terminal, or of `WIDTH` columns in a log."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=WIDTH)


@app.command("list")
def list_claims() -> None:
    """Show every claim: id, kind (theorem or observation), finding and statement."""
    from rich import box
    from rich.table import Table

    from aeclaims.judging.registry import entries

    table = Table(box=box.SIMPLE, header_style="bold", pad_edge=False)
    for name in ("claim", "kind", "finding"):
        table.add_column(name, no_wrap=True)
    table.add_column("statement")
    found = entries()
    for id, (claim, _, is_slow) in found.items():
        table.add_row(id, claim.kind, claim.finding, claim.statement + " (slow)" * is_slow)
    console().print(table)
    print(f"{len(found)} claims; aeclaims run CLAIM judges one")


@app.command()
def run(
    claim: Annotated[
        str, typer.Argument(help="the id of a claim (aeclaims list shows them) or of a conformance check")
    ],
    seeds: Annotated[
        int | None,
        typer.Option(help="number of seeds (default: the fewest with which every judge can fail; 256 on numba)"),
    ] = None,
    seed_base: Annotated[int, typer.Option(help="the first seed; with --seeds 1, the only one")] = 0,
    backend: Annotated[
        str, typer.Option(help="backend that trains: numba, torch, ..., or your own as package.module:name")
    ] = "numba",
    device: Annotated[str, typer.Option(help="device that torch trains on: cpu, cuda, ...")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, float64, bfloat16 or float16")] = "float32",
    compile: Annotated[
        str | None,
        typer.Option(help="backend=...,mode=...: arguments of torch.compile, for the backends torch and torch-compile"),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(help="package.module:name[,lr=...]: your optimizer in Adam's place, on the torch backends"),
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="probability with which chance may fail a sound stack, split over all claims")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="draw the curves of the seeds: FILE.png or FILE.svg")] = None,
) -> None:
    """Judge one claim or check, on all its seeds or on one.

    Exit codes: 0 if it held, 1 if it failed or could not fail, 2 on a usage error.
    """
    entry = _entry(claim)
    if plot is not None:
        _check_plot(plot)
    from aeclaims.cli import replay

    options = [
        f"--claims-seed-base={seed_base}",
        f"--claims-backend={backend}",
        f"--claims-device={device}",
        f"--claims-dtype={dtype}",
    ]
    passed = {"seeds": seeds, "compile": compile, "optimizer": optimizer, "alpha": alpha}
    options += [f"--claims-{name}={value}" for name, value in passed.items() if value is not None]
    try:
        code, result = replay.replay(entry, options)
    except replay.WrongUsage as error:
        stop(f"run: {error}")
    if result is not None:
        _show_curve(result)
        if plot is not None:
            _draw(result, plot)
    raise typer.Exit(code)


def _entry(id: str) -> "Entry":
    from difflib import get_close_matches

    from aeclaims.judging.registry import CHECKS, CLAIMS, entries

    known = entries(CLAIMS, CHECKS)
    if id not in known:
        near = get_close_matches(id, known, 3, 0.4)
        stop(
            f"run: no claim or check is called {id!r}: "
            + (f"{', '.join(near)}? " if near else "")
            + "aeclaims list shows the claims, pytest -m conformance the checks"
        )
    if known[id].claim.is_stage:
        stop(f"run: {id!r} is a stage of the bisection: pytest -m conformance --claims-bisect judges it")
    return known[id]


def _draw(result: dict[str, Any], path: Path) -> None:
    from aeclaims.cli import replay

    try:
        is_drawn = replay.plot(result, path)
    except OSError as error:
        stop(f"run: --plot {path}: {error}")
    print(f"wrote {path}" if is_drawn else "nothing to draw: no training has more than one epoch")


def _check_plot(path: Path) -> None:
    from importlib.util import find_spec

    from aeclaims.report.files import check_writable

    if path.suffix not in (".png", ".svg"):
        stop(f"run: --plot {path}: give a file that ends in .png or .svg")
    try:
        check_writable(path.absolute())
    except OSError as error:
        stop(f"run: --plot {path}: {error.strerror}: give a file in a folder that exists and is writable")
    if find_spec("matplotlib") is None:
        stop("run: --plot needs matplotlib: pip install 'aeclaims[report]'")


def _show_curve(result: dict[str, Any]) -> None:
    """Draw the curve of the claim's first training, if standard output is a terminal."""
    drawable = [training for training in result["trainings"] if len(training["epochs"]) > 1]
    if not (sys.stdout.isatty() and drawable):
        return
    from aeclaims.report.braille import curve

    first = drawable[0]
    floor = next(iter(first["floors"].values()), None)
    losses = [[float("nan") if value is None else value for value in losses] for losses in first["curves"]]
    print(first["experiment"], curve(first["epochs"], losses, floor), sep="\n")


@app.command()
def report(
    source: Annotated[Path, typer.Argument(metavar="RUN.json", help="file that --claims-json wrote")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="write an HTML page: FILE.html")] = None,
) -> None:
    """Show a run as a table, or as one HTML file that needs no network."""
    import json

    from aeclaims.errors import NoRun
    from aeclaims.report.files import write_whole
    from aeclaims.report.html import render
    from aeclaims.report.table import counts, tables

    try:
        document = json.loads(source.read_text(encoding="utf-8"))
        page = render(document)
        if output is not None:
            write_whole(output.absolute(), page)
    except (OSError, ValueError, RecursionError) as error:
        stop(f"report: {source}: {error if isinstance(error, NoRun | OSError) else f'this is not JSON ({error})'}")
    if output is None:
        for part in tables(document["claims"]):
            console().print(part)
    for line in counts(document["claims"]):
        print(line)
