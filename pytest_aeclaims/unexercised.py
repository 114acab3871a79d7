"""Runs that judged nothing of the stack: they do not pass, and print the reason."""

from collections import Counter
from typing import Any

# Source of the checks of the suite's arithmetic, which hold on any stack.
SUITE = "suite"


def nothing_judged(results: list[dict[str, Any]]) -> str:
    """Return a line with the most frequent reason if nothing of the stack was exercised; else an empty string."""
    of_stack = [result for result in results if result["source"] != SUITE] or results
    if not of_stack or any(result["verdict"] != "not exercised" for result in of_stack):
        return ""
    ((reason, count),) = Counter(result["reason"] for result in of_stack).most_common(1)
    return f"nothing of the stack was judged; most frequent reason ({count:,} of {len(of_stack):,}): {reason}"
