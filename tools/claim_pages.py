"""One page for each claim, written from its own record and a run's JSON: `python -m tools.claim_pages RUN.json FOLDER`.

Besides the pages: their table, FOLDER/README.md; with --readme, the same table between the marks in that file.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jinja2

from aeclaims.judging.claim import ORIGIN, Claim
from aeclaims.judging.registry import entries
from aeclaims.report.pictures import draw, has_picture
from aeclaims.report.table import number

MARKS = ("<!-- findings: generated -->", "<!-- end of findings -->")


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
        for field in ("source", "kind", "statement", "finding", "caveat"):
            if results[id][field] != getattr(claim, field):
                raise PagesDisagree(
                    f"claim {id}: the run has {field} {results[id][field]!r}, the claim's record "
                    f"{getattr(claim, field)!r}: run it again"
                )
    if unknown := set(results) - set(claims()):
        raise PagesDisagree(f"the run has claims that are not in the package: {', '.join(sorted(unknown))}")
    return results


def pages(document: dict[str, Any]) -> dict[str, str]:
    """The text of each file, by its name."""
    results = check(document)
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        loader=jinja2.PackageLoader("aeclaims.report"),
    )
    environment.filters |= {
        "number": number,
        "share": share,
        "cell": cell,
        "shown": shown,
        "has_picture": has_picture,
        "capitalize_first": lambda text: text[:1].upper() + text[1:],
    }
    page = environment.get_template("page.md.jinja")
    texts = {f"{id}.md": page.render(result=result, run=document, source=ORIGIN) for id, result in results.items()}
    return {
        "README.md": environment.get_template("index.md.jinja").render(run=document, table=table(results.values())),
        **texts,
    }


def table(results: Iterable[dict[str, Any]], folder: str = "") -> str:
    """The findings as a Markdown table, each linked to its page in that folder."""
    lines = ["| claim | the sentence, in our words | finding |", "|---|---|---|"]
    lines += [f"| [`{r['id']}`]({folder}{r['id']}.md) | {cell(r['statement'])} | {cell(shown(r))} |" for r in results]
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
    return text + (f": {result['caveat']}" if result["caveat"] else "")


def share(result: dict[str, Any], name: str) -> str:
    """A share in per cent with its interval."""
    low, high = result["intervals"][name]
    return f"{100 * result['measured'][name]:.1f} % (99 % interval {100 * low:.1f} to {100 * high:.1f} %)"


def between_marks(text: str, generated: str, marks: tuple[str, str] = MARKS) -> str:
    """The text with what stands between the marks replaced."""
    begin, end = (re.escape(mark) for mark in marks)
    replaced, count = re.subn(
        f"{begin}.*?{end}", lambda _: f"{marks[0]}\n{generated}\n{marks[1]}", text, flags=re.DOTALL
    )
    if count != 1:
        raise PagesDisagree(
            f"the marks {marks[0]!r} and {marks[1]!r} must stand there once, they stand there {count} times"
        )
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
    return command(arguments, "tools.claim_pages", write)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
