"""One page for each claim, from its record and a run's JSON: `python -m tools.claim_pages RUN.json FOLDER`.

FOLDER/README.md is a table of the pages.
"""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jinja2

from aeclaims.judging.claim import ORIGIN, Claim
from aeclaims.judging.registry import entries
from aeclaims.report.pictures import draw, has_picture
from aeclaims.report.table import number


class PagesDisagree(ValueError):
    """The run's JSON disagrees with the records of the claims."""


def claims() -> dict[str, Claim]:
    """The records of all claims of the package, in the order of their files."""
    return {id: entry.claim for id, entry in entries().items()}


def check(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The results by id; raises PagesDisagree if they disagree with the present claims."""
    results = {result["id"]: result for result in document["claims"]}
    for id, claim in claims().items():
        if id not in results:
            if id != "question-network-500-epochs":
                raise PagesDisagree(f"claim {id} is not in the run; run it again")
            continue
        for field in ("source", "kind", "statement", "finding", "caveat"):
            if results[id][field] != getattr(claim, field):
                raise PagesDisagree(
                    f"claim {id}: the run has {field} {results[id][field]!r}, but the claim's record has "
                    f"{getattr(claim, field)!r}; run it again"
                )
    if unknown := set(results) - set(claims()):
        raise PagesDisagree(f"the run has claims that are not in the package: {', '.join(sorted(unknown))}")
    return results


def pages(document: dict[str, Any]) -> dict[str, str]:
    """Render the pages; returns the text of each file by its name."""
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
    """Escape text for a cell of a Markdown table."""
    return text.replace("|", "\\|")


def shown(result: dict[str, Any]) -> str:
    """A finding in words; if it holds for a share, with the first judged share and its interval."""
    text = f"**{result['finding']}**"
    if result["finding"] == "holds for a share" and result["intervals"]:
        name = next(iter(result["intervals"]))
        text += f": {share(result, name)} of {result['seeds']:,} seeds"
    return text + (f": {result['caveat']}" if result["caveat"] else "")


def share(result: dict[str, Any], name: str) -> str:
    """A share in per cent with its interval."""
    low, high = result["intervals"][name]
    return f"{100 * result['measured'][name]:.1f} % (99 % interval {100 * low:.1f} to {100 * high:.1f} %)"


def write(source: Path, folder: Path) -> None:
    """Write all pages and pictures of a run into the folder, and delete those of former claims."""
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


def command(arguments: list[str], module: str, writes: Callable[..., None]) -> int:
    """The command line of a module that writes pages from a run: RUN.json FOLDER; returns the exit code."""
    if len(arguments) != 2:
        print(f"usage: python -m {module} RUN.json FOLDER", file=sys.stderr)
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
