"""The parts of the benchmark, one after the other, and the two files that they end in."""

from __future__ import annotations

import importlib
import json
import logging
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch

from vicinal.benchmarks.bench import Bench, OutOfTime, Row
from vicinal.benchmarks.machine import cores, machine, moment, slug
from vicinal.benchmarks.table import markdown, summary
from vicinal.runs.files import write, write_json

log = logging.getLogger(__name__)

PARTS = {
    "loader": "loading",
    "mixing": "mixing",
    "step": "steps",
    "epoch": "epochs",
    "sweep": "sweeping",
    "start": "starting",
    "memory": "memory",
    "tracking": "watching",
    "scale": "scaling",
    "gpu": "gpu",
}
"""The name of each part and its module, whose ``measure`` takes a :class:`Bench`."""

SCHEMA = 1

AGAIN_SECONDS = 10.0
"""Between two alarms once the budget is used up."""


def run(only: Sequence[str], quick: bool, out: Path, threads: int | None = None, budget: float | None = None) -> int:
    """Measure, and write ``<hardware>-<torch>.json`` and ``.md`` after every row; return how many parts failed.

    Parts that the file has already, and that are not measured again, stay in it with their own date and commit. A part
    that fails leaves what it had measured, and its reason.

    Args:
        only: names of parts.
        quick: try whether it runs; the numbers mean little.
        out: folder of the files; created if it is missing.
        threads: of torch; None for one per core.
        budget: seconds after which nothing more is measured, None for no limit; what did not fit is named.
    """
    about = machine()
    book = Book(out, slug(about) + ("-quick" if quick else ""), about, quick)
    chosen = [name for name in PARTS if name in only]
    left = list(chosen)
    failed, rows = 0, list[Row]()
    try:
        with time_limit(budget):
            for name in chosen:
                log.info("== %s", name)
                bench = Bench(torch.device(about["device"]), threads or cores(), quick, Path(), out, book.stem)
                try:
                    failed += _measure(name, bench, book)
                finally:
                    rows += bench.rows
                left.remove(name)
    except OutOfTime:
        log.warning("the budget of %g s is used up; not finished: %s", budget, ", ".join(left))
    finally:
        log.info("\n%s\n\nwritten: %s and .md", summary(rows), book.file)
    return failed


def _measure(name: str, bench: Bench, book: Book) -> bool:
    """One part; whether it failed. However it ends, what it has measured is in the book, and why it ended there."""
    started, failure = time.perf_counter(), "not finished"

    def write_down() -> None:
        book.write(name, bench, time.perf_counter() - started, failure)

    bench.written = write_down
    with tempfile.TemporaryDirectory(prefix="vicinal-", ignore_cleanup_errors=True) as folder:
        bench.folder = Path(folder)
        try:
            importlib.import_module(f"vicinal.benchmarks.{PARTS[name]}").measure(bench)
            failure = ""
        except Exception as error:
            log.exception("%s failed", name)
            failure = f"{type(error).__name__}: {error}".replace(folder, "<folder>")
        except KeyboardInterrupt:
            failure = "interrupted"
            raise
        except OutOfTime:
            failure = "the budget was used up"
            raise
        finally:
            write_down()
    return bool(failure)


class Book:
    """The JSON file of a machine with all its parts, and the Markdown table of the same name.

    Args:
        out: their folder; created if it is missing.
        stem: their name.
        about: the machine.
        quick: whether the numbers mean little.
    """

    def __init__(self, out: Path, stem: str, about: Mapping[str, Any], quick: bool) -> None:
        self.stem, self.file, self._about, self._quick = stem, out / f"{stem}.json", about, quick
        self._parts: dict[str, Any] = json.loads(self.file.read_text())["parts"] if self.file.exists() else {}
        out.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, bench: Bench, took: float, failure: str) -> None:
        """Write all parts, this one as it is now.

        Args:
            name: of the part.
            bench: what it has measured.
            took: seconds so far.
            failure: why it ended before its end; empty if it did not.
        """
        self._parts[name] = {
            **moment(),
            "threads": bench.threads,
            "took": took,
            "failed": failure,
            "rows": [row.record() for row in bench.rows],
            "timings": bench.timings,
            **bench.extra,
        }
        self._parts = {name: self._parts[name] for name in PARTS if name in self._parts}
        content = {"schema": SCHEMA, "quick": self._quick, "machine": self._about, "parts": self._parts}
        write_json(self.file, content)
        write(self.file.with_suffix(".md"), markdown(content).encode())


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise :class:`OutOfTime` in the main thread once ``seconds`` have passed inside; None is no limit.

    It is raised again every few seconds, since a library may swallow it where Python calls it from a callback.
    """
    if seconds is None:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
