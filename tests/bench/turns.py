"""Contestants timed by turns: what slows the machine down for a while slows all of them down."""

import math
import time
from collections.abc import Callable
from typing import Any

ROUNDS = 5
# A turn takes at least so long, where one repetition takes less.
LEAST_SECONDS = 0.03
PAUSE = 0.2

# A contestant does its work so many times.
Contestant = Callable[[int], Any]


class Clock:
    """A timer for pytest-benchmark that passes as it is told: it shows what was measured by turns before."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time, in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


# What tests that show such figures name as their timer.
CLOCK = Clock()


def by_turns(contestants: dict[str, Contestant], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds that each contestant's work takes, once for each round, after a repetition that compiles.

    Threads of the one before spin for a while, and what it worked on fills the caches: each turn begins with a pause, and,
    where it is short, with a repetition that is not timed.
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
    """How long so many repetitions take."""
    begin = time.perf_counter()
    work(repetitions)
    return time.perf_counter() - begin
