"""One page for each claim, written from its own record and a run's JSON: `python -m aeclaims.report.pages RUN.json FOLDER`.

Besides the pages: their table, FOLDER/README.md; with --readme, the same table between the marks in that file.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jinja2

from aeclaims.catalogue import entries
from aeclaims.claim import SOURCE, Claim
from aeclaims.report.table import number

MARKS = ("<!-- findings: generated -->", "<!-- end of findings -->")
# Pictures of a claim with many trainings: the first of them, as a grid.
MOST_PICTURES = 9


class PagesDisagree(ValueError):
    """The run's JSON and the claims' own records say different things."""


def claims() -> dict[str, Claim]:
    """The records of all claims of the package, in the order of their files."""
    return {id: entry.claim for id, entry in entries().items()}


def check(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The results by id; raises PagesDisagree where they are not of the claims as they now stand."""
    results = {result["id"]: result for result in document["claims"]}
    for id, claim in claims().items():
        if id not in results:
            if id != "question-network-500-epochs":
                raise PagesDisagree(f"claim {id} is not in the run: run it again")
            continue
        for field in ("where", "kind", "says", "finding", "nuance"):
            if results[id][field] != getattr(claim, field):
                raise PagesDisagree(f"claim {id}: the run has {field} {results[id][field]!r}, the claim's record "
                                    f"{getattr(claim, field)!r}: run it again")
    if unknown := set(results) - set(claims()):
        raise PagesDisagree(f"the run has claims that are not in the package: {', '.join(sorted(unknown))}")
    return results


def pages(document: dict[str, Any]) -> dict[str, str]:
    """The text of each file, by its name."""
    results = check(document)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
                                     keep_trailing_newline=True, loader=jinja2.PackageLoader("aeclaims.report"))
    environment.filters |= {"number": number, "share": share, "cell": cell, "shown": shown, "has_picture": has_picture,
                            "capitalize_first": lambda text: text[:1].upper() + text[1:]}
    page = environment.get_template("page.md.jinja")
    texts = {f"{id}.md": page.render(result=result, run=document, source=SOURCE) for id, result in results.items()}
    return {"README.md": environment.get_template("index.md.jinja").render(run=document, table=table(results.values())), **texts}


def table(results: Iterable[dict[str, Any]], folder: str = "") -> str:
    """The findings as a Markdown table, each linked to its page in that folder."""
    lines = ["| claim | the sentence, in our words | finding |", "|---|---|---|"]
    lines += [f"| [`{r['id']}`]({folder}{r['id']}.md) | {cell(r['says'])} | {cell(shown(r))} |" for r in results]
    return "\n".join(lines)


def cell(text: str) -> str:
    """Text as a Markdown table's cell takes it."""
    return text.replace("|", "\\|")


def shown(result: dict[str, Any]) -> str:
    """A finding in words; of a share, with the first that was judged and its interval."""
    text = f"**{result['finding']}**"
    if result["finding"] == "holds for a share" and result["intervals"]:
        name = next(iter(result["intervals"]))
        text += f": {share(result, name)} of {result['seeds']:,} seeds"
    return text + (f": {result['nuance']}" if result["nuance"] else "")


def share(result: dict[str, Any], name: str) -> str:
    """A share in per cent with its interval."""
    low, high = result["intervals"][name]
    return f"{100 * result['measured'][name]:.1f} % (99 % interval {100 * low:.1f} to {100 * high:.1f} %)"


def draw(result: dict[str, Any], path: Path) -> None:
    """The losses of all seeds of a claim's trainings against the epoch, and the floor."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    trainings = [training for training in result["trainings"] if len(training["epochs"]) > 1][:MOST_PICTURES]
    columns = min(3, len(trainings))
    rows = -(-len(trainings) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(4.6 * columns + 0.6, 3.4 * rows + 0.4), squeeze=False,
                                   layout="constrained")
    for index, axis in enumerate(axes.flat):
        if index >= len(trainings):
            axis.set_visible(False)
            continue
        training = trainings[index]
        epochs, quantiles = training["epochs"], training["quantiles"]
        levels = {name: [float("nan") if value is None else value for value in values] for name, values in quantiles.items()}
        axis.fill_between(epochs, levels["0"], levels["1"], color="#9ec5e8", label=f"all {training['seeds']:,} seeds")
        for curve in training["curves"]:
            axis.plot(epochs, [float("nan") if value is None else value for value in curve], color="#3b6ea5", linewidth=0.4)
        axis.plot(epochs, levels["0.5"], color="#0b2545", linewidth=1.6, label="median")
        lines = dict(training["floors"])
        is_another = isinstance(result["floor"], float) and all(abs(result["floor"] - known) > 1e-3 for known in lines.values())
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


def _wrapped(text: str, width: int = 74) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))


def has_picture(result: dict[str, Any]) -> bool:
    """Whether one of its trainings has more than one epoch to draw."""
    return any(len(training["epochs"]) > 1 for training in result["trainings"])


def between_marks(text: str, generated: str, marks: tuple[str, str] = MARKS) -> str:
    """The text with what stands between the marks replaced."""
    begin, end = (re.escape(mark) for mark in marks)
    replaced, count = re.subn(f"{begin}.*?{end}", lambda _: f"{marks[0]}\n{generated}\n{marks[1]}", text, flags=re.DOTALL)
    if count != 1:
        raise PagesDisagree(f"the marks {marks[0]!r} and {marks[1]!r} must stand there once, they stand there {count} times")
    return replaced


def write(source: Path, folder: Path, readme: Path | None = None) -> None:
    """Write all pages and pictures of a run into the folder; what is no longer a claim goes."""
    document = json.loads(source.read_text(encoding="utf-8"))
    texts = pages(document)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for stale in (*folder.glob("*.md"), *folder.glob("pictures/*.png")):
        stale.unlink()
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    for result in document["claims"]:
        if has_picture(result):
            draw(result, folder / "pictures" / f"{result['id']}.png")
    if readme:
        generated = table(document["claims"], f"{folder.as_posix()}/")
        readme.write_text(between_marks(readme.read_text(encoding="utf-8"), generated), encoding="utf-8")


def command(arguments: list[str], module: str, writes: Callable[..., None]) -> int:
    """The command line of a module that writes pages from a run: RUN.json FOLDER [README.md]; returns the exit code."""
    if len(arguments) not in (2, 3):
        print(f"usage: python -m {module} RUN.json FOLDER [README.md]", file=sys.stderr)
        return 2
    try:
        writes(*map(Path, arguments))
    except (OSError, json.JSONDecodeError, KeyError, PagesDisagree) as error:
        print(f"{arguments[0]}: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return 0


def main(arguments: list[str]) -> int:
    """The command line; returns the exit code."""
    return command(arguments, "aeclaims.report.pages", write)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
