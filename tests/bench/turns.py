"""Contestants that take turns, so that a machine that slows down slows all of them down."""

import math
import time
from collections.abc import Callable
from typing import Any

ROUNDS = 5
# If one repetition is shorter than this, a turn repeats the work.
LEAST_SECONDS = 0.03
PAUSE = 0.2

# A contestant repeats its work the given number of times.
Contestant = Callable[[int], Any]


class Clock:
    """A timer for pytest-benchmark that you advance by hand, to show seconds that were measured by turns before."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time, in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


# The timer of tests that show such seconds.
CLOCK = Clock()


def by_turns(contestants: dict[str, Contestant], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """The seconds of each contestant's work in each round, after a first repetition that compiles.

    The threads of the previous contestant spin for a while, and its data fills the caches. So each turn begins with a
    pause and, if it is short, with a repetition that is not timed.
    """
    repetitions = {}
    for name, work in contestants.items():
        work(1)  # compiles
        repetitions[name] = min(1000, max(1, math.ceil(LEAST_SECONDS / seconds(work, 1))))
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, work in contestants.items():
            time.sleep(PAUSE)
            if repetitions[name] > 1:
                work(1)
            taken[name].append(seconds(work, repetitions[name]) / repetitions[name])
    return taken


def seconds(work: Contestant, repetitions: int) -> float:
    """The time of the given number of repetitions."""
    begin = time.perf_counter()
    work(repetitions)
    return time.perf_counter() - begin
