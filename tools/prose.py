"""The linter of prose: word rates of docstrings, comments and pages, and sentences that are too long.

`python -m tools.prose [PATHS]` prints the rates and the long sentences. If a rate or a sentence is over its limit, it exits
with 1. If you give paths, it reads these only.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LONGEST = 25
# Per 1,000 words, over all prose. Conditions begin with "if"; places begin with `where`; a noun names a thing, not `what ...`.
MOST = {"where": 2.0, "what": 1.0}
LEAST = {"if": 4.0}
# Pages that tools generate from records, and the history.
GENERATED = re.compile(r"docs/claims/|docs/(kill-matrix|false-alarms|compatibility|mutation|performance)\.md|CHANGELOG")
# Code, formulas, link targets and markup are not words.
NOT_PROSE = re.compile(r"```.*?```|`[^`]*`|<[^>]*>|\]\([^)]*\)|https?://\S+|>>>[^\n]*", re.DOTALL)
WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
# A sentence ends at a mark before a space. A list item, a table cell, a paragraph and a docstring's field also end it.
END = re.compile(r"(?<=[.!?:;])\s+|\n\s*\n|\n\s*(?:[-*|#>]|\d+\.)|\||\s{3,}")
ABBREVIATION = re.compile(r"\b(e\.g|i\.e|cf|vs|al|no)\.", re.IGNORECASE)


class Text(NamedTuple):
    """A piece of prose, and the number of its first line."""

    path: Path
    line: int
    text: str


def texts(path: Path) -> Iterator[Text]:
    """The prose of a page, or the docstrings and comments of a module."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield Text(path, 1, source)
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield Text(path, node.body[0].lineno, docstring)
    block: list[tuple[int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not re.match(r"#\s*(type:|noqa|fmt:|mypy:|!)", token.string):
            if block and token.start[0] != block[-1][0] + 1:
                yield Text(path, block[0][0], "\n".join(text for _, text in block))
                block = []
            block.append((token.start[0], token.string.lstrip("# ")))
    if block:
        yield Text(path, block[0][0], "\n".join(text for _, text in block))


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return [word.lower() for word in WORD.findall(NOT_PROSE.sub(" x ", text))]


def sentences(text: str) -> Iterator[tuple[int, str]]:
    """Split a text into sentences; yields each with its number of words."""
    prose = ABBREVIATION.sub(r"\1", NOT_PROSE.sub(lambda part: "\n\n" if part[0].startswith("```") else " x ", text))
    for sentence in END.split(prose):
        if count := len(WORD.findall(sentence)):
            yield count, " ".join(sentence.split())


def files(arguments: list[str]) -> list[Path]:
    """The files under these paths that git tracks, without generated pages."""
    listed = subprocess.run(["git", "ls-files", *arguments], capture_output=True, text=True, check=True).stdout
    return [Path(name) for name in listed.splitlines() if name.endswith((".py", ".md")) and not GENERATED.search(name)]


def main(arguments: list[str]) -> int:
    """The command line; returns the exit code."""
    found = [text for path in files(arguments) for text in texts(path)]
    all_words = [word for text in found for word in words(text.text)]
    rates = {word: 1000 * all_words.count(word) / max(1, len(all_words)) for word in (*MOST, *LEAST)}
    print(f"{len(all_words):,} words; per 1,000: " + ", ".join(f"{word} {rate:.1f}" for word, rate in rates.items()))
    wrong = [f"{word!r} above {most:g}" for word, most in MOST.items() if rates[word] > most]
    wrong += [f"{word!r} below {least:g}" for word, least in LEAST.items() if rates[word] < least]
    long = [(text, count, sentence) for text in found for count, sentence in sentences(text.text) if count > LONGEST]
    for text, count, sentence in long:
        print(f"{text.path}:{text.line}: {count} words: {sentence}")
    print(*wrong, f"{len(long)} sentences of more than {LONGEST} words", sep="; ")
    return bool(wrong or long)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
