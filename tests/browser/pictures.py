"""The pictures of the docs: a page of --claims-report, and a terminal while a claim trains.

python -m tests.browser.pictures run.html docs/pictures
"""

import io
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from tests.terminals import shown_on_a_terminal

CLAIM, WIDTH = "linear-mse", 96
CELL = (
    "display: inline-block; width: 1ch; overflow: hidden; font-weight: normal; line-height: 1; vertical-align: bottom"
)
# The sequence by which rich returns to the first line of a live display.
BACK = re.compile(r"(?:\x1b\[1A\x1b\[2K|\x1b\[2K)+")


def pages(chromium: Any, source: Path, folder: Path) -> None:
    """Take pictures of the page: light, dark, and on a phone of 380 pixels."""
    for name, scheme, width, claim in (
        ("light", "light", 1100, ""),
        ("dark", "dark", 1100, CLAIM),
        ("380", "light", 380, CLAIM),
    ):
        page = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 1000}).new_page()
        page.goto(source.absolute().as_uri())
        if claim:
            page.get_by_role("link", name=claim, exact=True).click()
        page.wait_for_timeout(500)  # pictures are drawn when they become visible
        page.screenshot(path=folder / f"report-{name}.png")


def terminal(chromium: Any, folder: Path) -> None:
    """Take a picture of `aeclaims run` at two thirds of a claim's training."""
    command = [sys.executable, "-m", "aeclaims", "run", CLAIM]
    shown = shown_on_a_terminal(command, TERM="xterm-256color", COLUMNS=str(WIDTH)).decode()
    header, *frames = BACK.split(shown.partition("= claims =")[0].replace("\r", ""))
    frames = [frame for frame in frames if "training on" in frame]
    console = Console(record=True, width=WIDTH, force_terminal=True, color_system="truecolor", file=io.StringIO())
    begun = header[: header.index("\x1b[?25l")]
    console.print(Text.from_ansi(f"$ aeclaims run {CLAIM}\n{begun}{frames[len(frames) * 2 // 3]}"))
    # A terminal gives each character one cell, whatever its font is.
    cells = re.sub("[\u2800-\u28ff]", r"<b>\g<0></b>", console.export_html(inline_styles=True))
    page = chromium.new_context(viewport={"width": 900, "height": 320}).new_page()
    page.set_content(
        f"<style>pre {{ font-size: 14px; width: max-content; padding: 8px }} b {{ {CELL} }}</style>{cells}"
    )
    page.locator("pre").screenshot(path=folder / "terminal.png")


def main(source: Path, folder: Path) -> None:
    """Take all pictures."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        pages(chromium, source, folder)
        terminal(chromium, folder)
        chromium.close()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
