"""The stopwatch: cases take turns, so that other work of the machine slows all of them; ratios are per round."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

Clock = Callable[[], float]

MOST_CALLS = 2000
"""Largest number of calls in one timing."""


class Spread(NamedTuple):
    """A median with its quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Quartiles by linear interpolation; all three are the same for one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Case:
    """One of the things that are compared.

    Attributes:
        name: unique among the cases of a comparison.
        call: what is timed.
        threads: torch's, set before each timing; None does not set them.
        prepare: done before each timing and not timed.
    """

    name: str
    call: Callable[[], object]
    threads: int | None = None
    prepare: Callable[[], object] | None = None


@dataclass(frozen=True)
class Timings:
    """Seconds of one call of each case, one number per round; the rounds of all cases belong together."""

    seconds: dict[str, list[float]]

    def spread(self, name: str) -> Spread:
        return Spread.of(self.seconds[name])

    def ratio(self, slow: str, fast: str) -> Spread:
        """Return the time of ``slow`` over that of ``fast``: the median over the rounds of each round's own ratio."""
        pairs = zip(self.seconds[slow], self.seconds[fast], strict=True)
        return Spread.of([slower / faster for slower, faster in pairs])


def measure(
    cases: Sequence[Case],
    rounds: int,
    *,
    warmup: int = 1,
    least: float = 0.0,
    clock: Clock = time.perf_counter,
    wait: Callable[[], object] = lambda: None,
) -> Timings:
    """Time the cases in turns: a, b, c, a, b, c, and so on.

    Args:
        cases: in the order of their turns.
        rounds: timings of each.
        warmup: calls of each before that: first touch of memory, caches, what is compiled or started on first use.
        least: seconds that a timing should take; a case that is faster is called several times in one. 0: once.
        clock: seconds that only go forward.
        wait: until the device has done what it was asked; called before the clock is read.
    """
    repeats: dict[str, int] = {}
    for case in cases:
        for _ in range(warmup):
            _timed(case, 1, clock, wait)
        one = _timed(case, 1, clock, wait) if least else least
        repeats[case.name] = min(max(math.ceil(least / one), 1), MOST_CALLS) if one else 1
    seconds: dict[str, list[float]] = {case.name: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            seconds[case.name].append(_timed(case, repeats[case.name], clock, wait))
    return Timings(seconds)


def _timed(case: Case, calls: int, clock: Clock, wait: Callable[[], object]) -> float:
    if case.threads is not None:
        torch.set_num_threads(case.threads)
    if case.prepare is not None:
        case.prepare()
    wait()
    started = clock()
    for _ in range(calls):
        case.call()
    wait()
    return (clock() - started) / calls


def slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the exponent k of seconds ~ size^k, by least squares on logarithms; 1 is linear."""
    x = [math.log(size) for size in sizes]
    y = [math.log(second) for second in seconds]
    return statistics.linear_regression(x, y).slope
