"""Table at the end of a run, a line for each claim or check: id, finding, key figure, floor, verdict, seconds."""

import io
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from rich import box
from rich.console import Console
from rich.table import Table

from aeclaims.judging.judge import Verdict

COLOURS = {
    Verdict.HELD: "green",
    Verdict.FAILED: "bold red",
    Verdict.EXPECTED_FAILURE: "yellow",
    Verdict.NOT_EXERCISED: "yellow",
}
# Columns of a table in a log, which has no width.
WIDTH = 100
SHORT = {
    "holds": "holds",
    "holds for a share": "for a share",
    "holds where": "where",
    "does not hold": "does not",
}
# Limit of the ids that a line names; the JSON holds all of them.
MOST_NAMES = 4


def print_table(reporter: "pytest.TerminalReporter", results: list[dict[str, Any]]) -> None:
    """Print a line for each verdict, and their counts. With -v, also print statements, all numbers and the judges."""
    reporter.section("claims", sep="=")
    for part in tables(results):
        reporter.write_line(_render(part, reporter).rstrip("\n"))
    if reporter.verbosity > 0:
        for line in judged_by(results):
            reporter.write_line(line)
    for line in counts(results):
        reporter.write_line(line)


def tables(results: list[dict[str, Any]]) -> list[Table]:
    """Return a table of the claims, and one of the checks, with a line each; without those that have none."""
    parts = [[result for result in results if is_check(result) == checks] for checks in (False, True)]
    return [_table(part) for part in parts if part]


def is_check(result: dict[str, Any]) -> bool:
    """Return whether the result is that of a conformance check."""
    return bool(result.get("origin") == "conformance")


def _table(results: list[dict[str, Any]]) -> Table:
    checks = is_check(results[0])
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, expand=True)
    table.add_column("check" if checks else "claim", no_wrap=True, ratio=3 if checks else None)
    if not checks:
        table.add_column("finding", no_wrap=True)
    table.add_column("key figure", no_wrap=True, ratio=2, min_width=12)
    if not checks:
        table.add_column("floor", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True, min_width=max(len(result["verdict"]) for result in results))
    table.add_column("s", justify="right", no_wrap=True, min_width=4)
    for result in results:
        verdict = Verdict(result["verdict"])
        # The number comes first: a long label is cut.
        figure = next((f"{number(value)} {label}" for label, value in result["measured"].items()), "")
        middle = [figure] if checks else [SHORT.get(result["finding"], ""), figure, number(result["floor"], 3)]
        table.add_row(result["id"], *middle, f"[{COLOURS[verdict]}]{verdict}[/]", f"{result['seconds']:.1f}")
    return table


def judged_by(results: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the statement of each claim, its numbers, and its judges: the bound, and the least shift that it detects."""
    for result in results:
        yield f"{result['id']}: {result['statement']}; {result['seeds']} seeds"
        for label, value in result["measured"].items():
            yield f"  {label}: {number(value)}"
        for statement in result["statements"]:
            yield f"  {statement['what']}: {statement['bound']}; detects {statement['notices']}"


def counts(results: list[dict[str, Any]]) -> list[str]:
    """Return the count of each verdict, and a line for each reason for which something was not exercised."""
    lines = []
    for name, checks in (("claims", False), ("checks", True)):
        part = [result for result in results if is_check(result) == checks]
        found = Counter(result["verdict"] for result in part)
        if part:
            lines.append(", ".join(f"{found[v]} {v}" for v in Verdict if found[v]) + f" of {len(part)} {name}")
    chance = sum(result["alpha"] for result in results)
    if chance:
        lines.append(f"a sound stack fails one of them by chance with a probability of at most {chance:.2g}")
    lines += dict.fromkeys(result["note"] for result in results if result.get("note"))
    reasons: dict[str, list[str]] = {}
    for result in results:
        if result["verdict"] == Verdict.HELD and result.get("left_out"):
            lines.append(f"held without its parts for Adam: {result['id']}: {'; '.join(result['left_out'])}")
        if result["verdict"] == Verdict.NOT_EXERCISED:
            reasons.setdefault(result["reason"], []).append(result["id"])
    for reason, ids in reasons.items():
        named = ", ".join(ids[:MOST_NAMES]) + f", and {len(ids) - MOST_NAMES} others" * (len(ids) > MOST_NAMES)
        lines.append(f"not exercised: {named}: {reason}")
    return lines


def _render(table: Table, reporter: "pytest.TerminalReporter") -> str:
    width = max(WIDTH, reporter._tw.fullwidth)
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=reporter.hasmarkup,
        legacy_windows=False,
        color_system="standard" if reporter.hasmarkup else None,
    )
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def number(value: Any, digits: int = 4) -> str:
    """Format a number for a table, or None as an empty string."""
    return "" if value is None else value if isinstance(value, str) else f"{value:.{digits}g}"
