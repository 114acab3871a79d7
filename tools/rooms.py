"""The picture of the rooms: the layers that import-linter checks, each with the first line of its docstring.

`python -m tools.rooms` writes docs/pictures/rooms.svg.
"""

import ast
import sys
import tomllib
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "pictures" / "rooms.svg"
WIDTH, HEIGHT, GAP, LINE = 980, 40, 8, 100
STYLE = (
    "svg { background: #ffffff } rect { fill: #eef3f9; stroke: #3b6ea5 } text { font: 13px sans-serif; fill: #0b2545 } "
    ".name { font-weight: bold; font-family: monospace }"
)


def layers() -> list[list[str]]:
    """The rooms from the top to the bottom, as the import contract has them."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contract = tomllib.load(file)["tool"]["importlinter"]["contracts"][0]
    return [layer.split(" : ") for layer in contract["layers"]]


def first_line(module: str) -> str:
    """The first line of a module's or a package's docstring, cut to the width of a box."""
    path = ROOT / module.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    line = (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    return line if len(line) <= LINE else line[: LINE - 1].rsplit(" ", 1)[0] + " ..."


def picture() -> str:
    """The picture as SVG."""
    parts, y = [], GAP
    for rooms in layers():
        for room in rooms:
            parts.append(
                f'<rect x="{GAP}" y="{y}" width="{WIDTH - 2 * GAP}" height="{HEIGHT}" rx="4"/>'
                f'<text class="name" x="{3 * GAP}" y="{y + 25}">{room}</text>'
                f'<text x="{28 * GAP}" y="{y + 25}">{escape(first_line(room))}</text>'
            )
            y += HEIGHT + GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img" aria-label="Rooms of the package, '
        f'from the top to the bottom; each imports only from rooms below it">\n<style>{STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    sys.exit()
