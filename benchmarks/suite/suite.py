"""The parts of the benchmark, one after the other, and the two files that they end in."""

from __future__ import annotations

import importlib
import json
import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.suite.bench import Bench
from benchmarks.suite.budget import OutOfTime, noticed, time_limit
from benchmarks.suite.machine import cores, machine, moment, slug
from benchmarks.suite.table import markdown, summary
from vicinal.runs.files import write, write_json

log = logging.getLogger(__name__)

PARTS = {
    "loader": "loading",
    "decoding": "decoding",
    "mixing": "mixing",
    "methods": "methods",
    "step": "steps",
    "epoch": "epochs",
    "sweep": "sweeping",
    "start": "starting",
    "memory": "memory",
    "tracking": "tracking_overhead",
    "scale": "scaling",
    "busy": "busy",
    "gpu": "gpu",
}
"""The name of each part and its module, whose ``measure`` takes a :class:`Bench`."""

SCHEMA = 1


def run(only: Sequence[str], quick: bool, out: Path, threads: int | None = None, budget: float | None = None) -> int:
    """Measure, and write ``<hardware>-<torch>.json`` and ``.md`` after every row; return how many parts failed.

    Parts that the file has already, and that are not measured again, stay in it with their own date and commit. A part
    that fails leaves what it had measured, and its reason.

    Args:
        only: names of parts.
        quick: try whether it runs; the numbers mean little.
        out: folder of the files; created if it is missing.
        threads: of torch; None for one per core, or one in a quick run.
        budget: seconds from here on, after which nothing more is measured and the rest is named; None for no limit.
    """
    about = machine()
    book = Book(out, slug(about) + ("-quick" if quick else ""), about, quick)
    chosen = [name for name in PARTS if name in only]
    left = list(chosen)
    benches = []
    try:
        with time_limit(budget):
            for name in chosen:
                log.info("== %s", name)
                # One thread is as fast as two where other work is done beside a quick run.
                count = threads or (1 if quick else cores())
                benches.append(Bench(torch.device(about["device"]), count, quick, Path(), out, book.stem))
                _measure(name, benches[-1], book)
                left.remove(name)
    except OutOfTime:
        noticed()
        log.warning("the budget of %g s is used up; not finished: %s", budget, ", ".join(left))
    finally:
        rows = [row for bench in benches for row in bench.rows]
        log.info("\n%s\n\nwritten: %s and .md", summary(rows), book.file)
    return sum(bool(bench.failures) for bench in benches)


def _measure(name: str, bench: Bench, book: Book) -> None:
    """Run one part. However it ends, its measurements and the reason of its end are in the book."""
    started, ending = time.perf_counter(), "not finished"

    def write_down() -> None:
        reasons = [*bench.failures, *([ending] if ending else [])]
        book.write(name, bench, time.perf_counter() - started, "; ".join(reasons))

    bench.written = write_down
    with tempfile.TemporaryDirectory(prefix="vicinal-", ignore_cleanup_errors=True) as folder:
        bench.folder = Path(folder)
        try:
            importlib.import_module(f"benchmarks.suite.{PARTS[name]}").measure(bench)
            ending = ""
        except Exception as error:
            log.exception("%s failed", name)
            bench.failures.append(f"{type(error).__name__}: {error}".replace(folder, "<folder>"))
            ending = ""
        except KeyboardInterrupt:
            ending = "interrupted"
            raise
        except OutOfTime:
            noticed()
            ending = "the budget was used up"
            raise
        finally:
            write_down()


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
        self._parts: dict[str, Any] = (
            json.loads(self.file.read_text(encoding="utf-8"))["parts"] if self.file.exists() else {}
        )
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
