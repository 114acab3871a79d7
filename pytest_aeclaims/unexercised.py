"""Runs in which nothing of the stack was judged: they did not pass, and say why not."""

from collections import Counter
from typing import Any

# The checks of the suite's own arithmetic have this source, and hold whatever trains.
SUITE = "suite"


def nothing_judged(results: list[dict[str, Any]]) -> str:
    """If nothing of the stack was exercised, a line that says so, with the most frequent reason; else empty."""
    of_stack = [result for result in results if result["source"] != SUITE] or results
    if not of_stack or any(result["verdict"] != "not exercised" for result in of_stack):
        return ""
    ((reason, count),) = Counter(result["reason"] for result in of_stack).most_common(1)
    return f"nothing of the stack was judged, most often ({count:,} of {len(of_stack):,}) because: {reason}"
