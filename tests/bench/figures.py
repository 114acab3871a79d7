"""The results of the benchmarks: ratios within one run, slopes and times, each with its aim."""

import json
import math
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Timing(NamedTuple):
    """The seconds of each round, with the name of the work and facts about it."""

    name: str
    rounds: tuple[float, ...]
    said: dict[str, Any]

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rounds)


class Comparison(NamedTuple):
    """A figure and its aim, an upper or lower bound; if there is no aim, `aim` is empty and `is_met` is None."""

    what: str
    value: float
    unit: str = ""
    aim: str = ""
    is_met: bool | None = None

    def __str__(self) -> str:
        """A line of the terminal."""
        met = {None: "", True: "met", False: "missed"}[self.is_met]
        return f"{self.what:68} {number(self.value):>8} {self.unit:4} {self.aim:>14} {met}".rstrip()


def number(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def load(path: Path) -> tuple[dict[str, Timing], dict[str, Any]]:
    """Read the JSON of --benchmark-json; returns its timings and its machine."""
    document = json.loads(path.read_text(encoding="utf-8"))
    timings = {}
    for benchmark in document["benchmarks"]:
        for kept in benchmark["extra_info"].get("timings", []):
            said = dict(kept)
            name, rounds = said.pop("name"), tuple(said.pop("rounds"))
            timings[name] = Timing(name, rounds, said)
    return timings, {**document["machine_info"], "when": document["datetime"]}


# ------------------------------------------------------------------------------------------- figures


def at_least(bound: float) -> Callable[[float], tuple[str, bool]]:
    """An aim with a lower bound."""
    return lambda value: (f"at least {bound:g}", value >= bound)


def at_most(bound: float) -> Callable[[float], tuple[str, bool]]:
    """An aim with an upper bound."""
    return lambda value: (f"at most {bound:g}", value <= bound)


# Two names and an aim. The ratio is the median over rounds of the first time over the second.
RATIOS = [
    ("plain loop, D=2, S=1", "torch, D=2, S=64", at_least(200)),
    ("plain loop, D=10, S=1", "torch, D=10, S=64", None),
    ("plain loop, D=2, S=1", "numba, D=2, S=64", None),
    ("plain loop, D=10, S=1", "numba, D=10, S=64", None),
    ("jax, D=2, S=64", "torch, D=2, S=64", at_least(1)),
    ("jax, D=10, S=64", "torch, D=10, S=64", at_least(1)),
    ("jax, D=2, S=64", "numba, D=2, S=64", at_least(40)),
    ("jax, D=10, S=64", "numba, D=10, S=64", at_least(12)),
    ("numba, BCE, S=128", "numba, MSE, S=128", at_most(3)),
    ("numba, BCE on logits, S=128", "numba, MSE, S=128", None),
    ("numba, question, S=2", "sgemm, question, S=2", at_most(2)),
    ("denormals: torch, kept", "denormals: torch, as zero", at_least(1)),
]
# Medians: microseconds of one step of one replica, or seconds.
TIMES = [
    ("numba, D=2, S=128", 1e6, "us", at_most(0.10)),
    ("numba, D=2, S=1", 1e6, "us", at_most(0.35)),
    ("numba, D=10, S=128", 1e6, "us", at_most(2.5)),
    ("start-up: compiling the kernel", 1, "s", at_most(10)),
    ("start-up: loading the compiled kernel", 1, "s", at_most(0.3)),
    ("start-up: import aeclaims", 1, "s", at_most(1)),
    ("start-up: pytest --co -q", 1, "s", at_most(1)),
    ("suite: numba, cold", 1, "s", at_most(45)),
    ("suite: numba, warm", 1, "s", None),
    ("suite: torch, cold", 1, "s", at_most(120)),
    ("suite: torch, warm", 1, "s", at_most(60)),
    ("suite: torch, quick profile, cold", 1, "s", None),
    ("suite: torch, quick profile, warm", 1, "s", at_most(15)),
]


def comparisons(timings: Mapping[str, Timing]) -> list[Comparison]:
    """All figures that these timings allow."""
    return [*ratios(timings), *times(timings), *slopes(timings), *memory(timings)]


def ratios(timings: Mapping[str, Timing]) -> list[Comparison]:
    """Ratios of times that were measured by turns."""
    found = []
    for above, below, aim in RATIOS:
        if above in timings and below in timings:
            pairs = zip(timings[above].rounds, timings[below].rounds, strict=True)
            found.append(compared(f"{above} / {below}", statistics.median(a / b for a, b in pairs), "", aim))
    return found


def times(timings: Mapping[str, Timing]) -> list[Comparison]:
    """Times that have an aim."""
    return [
        compared(name, scale * timings[name].median, unit, aim) for name, scale, unit, aim in TIMES if name in timings
    ]


def slopes(timings: Mapping[str, Timing]) -> list[Comparison]:
    """d log(seconds) / d log(size) between the two largest sizes of each sweep: 1 if the cost is proportional to the work."""
    sweeps: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for timing in timings.values():
        if "axis" in timing.said:
            said = timing.said
            sweeps.setdefault((said["backend"], said["axis"]), []).append((said["size"], timing.median))
    return [
        compared(
            f"slope: {backend}, {axis} from {points[-2][0]:,} to {points[-1][0]:,}",
            slope(*points[-2:]),
            "",
            None if axis == "D" else at_most(1.1),
        )
        for (backend, axis), unsorted in sweeps.items()
        if len(points := sorted(unsorted)) > 1
    ]


def slope(before: tuple[int, float], after: tuple[int, float]) -> float:
    """The slope of the line through two points, with both axes logarithmic."""
    return math.log(after[1] / before[1]) / math.log(after[0] / before[0])


def memory(timings: Mapping[str, Timing]) -> list[Comparison]:
    """Peak memory of a population, as a multiple of its rows."""
    return [
        compared(f"{timing.name}: peak memory / rows", timing.said["peak_by_rows"], "", at_most(3))
        for timing in timings.values()
        if "peak_by_rows" in timing.said
    ]


def compared(what: str, value: float, unit: str, aim: Callable[[float], tuple[str, bool]] | None) -> Comparison:
    """A figure, compared with its aim."""
    return Comparison(what, value, unit, *(aim(value) if aim else ()))
