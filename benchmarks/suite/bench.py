"""Input and output of a part of the benchmark: rows with a bar, and the timings behind them."""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from benchmarks.suite.timing import Case, Spread, Timings, measure

log = logging.getLogger(__name__)


class SkippedError(Exception):
    """A row cannot be measured here, for the reason given."""


class UnequalWorkError(Exception):
    """The two sides of a comparison do not do the same; a ratio of their times would say nothing."""


@dataclass(frozen=True)
class Bar:
    """A limit that a median is held against."""

    limit: float
    at_least: bool = True

    def holds(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: what is measured.
        against: the other side; empty where the number stands for itself.
        value: None where it was skipped.
        unit: of the value: x (a ratio), s, %, slope, images/s, runs/h; empty for counts and relative errors.
        threads: of torch, on our side.
        skipped: the reason; empty where it was measured.
        failed: what went wrong; empty where nothing did. There may be a value all the same, beyond its bar.
    """

    name: str
    against: str
    value: Spread | None
    unit: str = "x"
    bar: Bar | None = None
    threads: int | None = None
    skipped: str = ""
    failed: str = ""

    @property
    def holds(self) -> bool | None:
        """True if the median meets the bar; None without a bar or a value."""
        return None if self.bar is None or self.value is None else self.bar.holds(self.value.median)

    def record(self) -> dict[str, Any]:
        """Return the row as the JSON file has it."""
        bar = None if self.bar is None else {"limit": self.bar.limit, "at_least": self.bar.at_least}
        value = None if self.value is None else self.value._asdict()
        return {**vars(self), "value": value, "bar": bar, "holds": self.holds}


@dataclass
class Bench:
    """One part under way.

    Attributes:
        device: where our side works.
        threads: torch's, where a part does not say otherwise: a thread a core.
        quick: a smoke test, whose numbers mean little.
        folder: an empty one for whatever a part writes.
        out: where plots go.
        stem: how their names begin.
        written: called after each row, so that a run that is cut short keeps what it had.
    """

    device: torch.device
    threads: int
    quick: bool
    folder: Path
    out: Path
    stem: str
    written: Callable[[], object] = lambda: None
    rows: list[Row] = field(default_factory=list)
    timings: list[dict[str, Any]] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    """Other content of the JSON file about this part."""
    failures: list[str] = field(default_factory=list)
    """Reasons of failures; slow is not wrong."""

    @property
    def rehearses(self) -> bool:
        """Whether the check of a GPU is only tried, on a CPU."""
        return self.quick and self.device.type == "cpu"

    def row(
        self,
        name: str,
        against: str,
        value: Spread | None,
        *,
        unit: str = "x",
        bar: Bar | None = None,
        threads: int | None = None,
        skipped: str = "",
        failed: str = "",
    ) -> None:
        """Add a line to the table, and print it. A value that is not a finite number is a failure."""
        if value is not None and not all(map(math.isfinite, value)):
            value, failed = None, failed or "not a finite number"
        row = Row(name, against, value, unit, bar, threads, skipped, failed)
        self.rows.append(row)
        if failed:
            self.failures.append(f"{name}: {failed}")
        log.info("%s", line(row))
        self.written()

    def skip(self, name: str, against: str, reason: str, bar: Bar | None = None) -> None:
        self.row(name, against, None, bar=bar, skipped=reason)

    def check(self, name: str, against: str, value: float, bar: Bar) -> None:
        """A number that says whether something is right: where the bar does not hold, it is not."""
        failed = "" if bar.holds(value) or not math.isfinite(value) else f"must be {bar}"
        self.row(name, against, Spread.of([value]), unit="", bar=bar, failed=failed)

    def time(self, about: str, cases: Sequence[Case], rounds: int, *, least: float = 0.0, warmup: int = 1) -> Timings:
        """Time the cases in turns and keep all numbers for the JSON file; fewer rounds in a quick run."""
        before = torch.get_num_threads()
        if self.quick:
            rounds, least, warmup = min(rounds, 2), min(least, 0.002), min(warmup, 1)
        try:
            timings = measure(cases, rounds, least=least, warmup=warmup, wait=self.wait)
        finally:
            torch.set_num_threads(before)
        self.keep(about, timings, {case.name: case.threads for case in cases})
        return timings

    def keep(self, about: str, timings: Timings, threads: dict[str, int | None] | None = None) -> None:
        """Keep timings for the JSON file, in seconds."""
        for name, seconds in timings.seconds.items():
            given = (threads or {}).get(name)
            spread = timings.spread(name)._asdict()
            self.timings.append(
                {"about": about, "case": name, "threads": given or self.threads, **spread, "seconds": seconds}
            )

    def wait(self) -> None:
        """Wait until the device is done; a CPU always is."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def line(row: Row) -> str:
    """Return a row as one line of text."""
    title = f"{row.name}, against {row.against}" if row.against else row.name
    threads = "" if row.threads is None else f" ({row.threads} thread{'s' * (row.threads != 1)})"
    return f"{title}{threads}: {value(row)}{'' if row.bar is None else f', bar {row.bar}: {verdict(row)}'}"


def value(row: Row) -> str:
    """Return the median and quartiles with the unit, or the reason why there are none."""
    if row.value is None:
        return f"failed: {row.failed}" if row.failed else f"skipped: {row.skipped}"
    median, low, high = (number(each) for each in row.value)
    unit = {"x": "x", "slope": "", "": ""}.get(row.unit, f" {row.unit}")
    return f"{median}{unit}" if low == high else f"{median}{unit} ({low} to {high})"


def number(value: float) -> str:
    """Return a number with three digits, and an exponent only if it is tiny."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def verdict(row: Row) -> str:
    if row.failed:
        return "FAILED"
    if row.bar is None:
        return ""
    return {True: "holds", False: "does not hold", None: "skipped"}[row.holds]


def peer(name: str) -> ModuleType:
    """A package that we are compared with.

    Raises:
        SkippedError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise SkippedError(f"{package} cannot be imported ({error}); pip install -e '.[bench]'") from error


def present(makers: dict[str, Callable[[], Any]]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the peers that can be made, and for the others the reason why not."""
    made: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name, make in makers.items():
        try:
            made[name] = make()
        except SkippedError as reason:
            missing[name] = str(reason)
    return made, missing


def same_work(claim: bool, reason: str) -> None:
    """Raise :class:`UnequalWorkError`, with the reason, unless the claim is true."""
    if not claim:
        raise UnequalWorkError(reason)
