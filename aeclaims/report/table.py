"""Table at the end of a run: claim, statement, measured values, floor, verdict, seconds."""

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
# In a narrower table, each sentence takes many lines. Logs have no width.
NARROWEST = 140
# Limit of measured values in a row. Claims measure the most important first; the JSON holds all of them.
MOST_NUMBERS = 4


def print_table(reporter: "pytest.TerminalReporter", results: list[dict[str, Any]]) -> None:
    """Print the verdicts and their counts. With -v, also print the bound of each judge and the shift that it detects."""
    reporter.section("claims", sep="=")
    reporter.write_line(_render(table(results), reporter).rstrip("\n"))
    if reporter.verbosity > 0:
        for line in judged_by(results):
            reporter.write_line(line)
    for line in counts(results):
        reporter.write_line(line)


def table(results: list[dict[str, Any]]) -> Table:
    """Return the verdicts as a table."""
    table = Table(box=box.SIMPLE, header_style="bold", pad_edge=False)
    table.add_column("claim", no_wrap=True)
    table.add_column("statement", ratio=3)
    table.add_column("measured", ratio=3, overflow="fold")
    table.add_column("floor", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    for result in results:
        verdict = Verdict(result["verdict"])
        measured = [f"{name.replace('_', ' ')} {number(value)}" for name, value in result["measured"].items()]
        del measured[MOST_NUMBERS:]
        measured.append(f"{result['seeds']} seeds")
        says = result["statement"] + (f": {result['finding']}" if result["finding"] != "holds" else "")
        table.add_row(
            result["id"],
            says,
            ", ".join(measured),
            number(result["floor"]),
            f"[{COLOURS[verdict]}]{verdict}[/]",
            f"{result['seconds']:.1f}",
        )
    return table


def judged_by(results: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the judges of each claim: the bound, and the least shift that it detects."""
    for result in results:
        yield f"{result['id']}:"
        for statement in result["statements"]:
            yield f"  {statement['what']}: {statement['bound']}; detects {statement['notices']}"


def counts(results: list[dict[str, Any]]) -> list[str]:
    """Return the count of each verdict, and a line for each claim that was not exercised or judged in part."""
    found = Counter(result["verdict"] for result in results)
    lines = [", ".join(f"{found[v]} {v}" for v in Verdict if found[v]) + f" of {len(results)} claims"]
    chance = sum(result["alpha"] for result in results)
    if chance:
        lines.append(f"a sound stack fails one of them by chance with a probability of at most {chance:.2g}")
    lines += dict.fromkeys(result["note"] for result in results if result.get("note"))
    for result in results:
        if result["verdict"] == Verdict.HELD and result.get("left_out"):
            lines.append(f"held without its parts for Adam: {result['id']}: {'; '.join(result['left_out'])}")
        if result["verdict"] == Verdict.NOT_EXERCISED:
            lines.append(f"not exercised: {result['id']}: {result['reason']}")
    return lines


def _render(table: Table, reporter: "pytest.TerminalReporter") -> str:
    width = max(NARROWEST, reporter._tw.fullwidth)
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


def number(value: Any) -> str:
    """Format a number for a table: four digits, or an empty string for None."""
    return "" if value is None else value if isinstance(value, str) else f"{value:.4g}"
