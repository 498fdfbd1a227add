"""The parts of the benchmark, one after the other, and the two files that they end in."""

from __future__ import annotations

import importlib
import json
import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vicinal.benchmarks.bench import Bench
from vicinal.benchmarks.machine import cores, machine, moment, slug
from vicinal.benchmarks.table import markdown
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


def run(only: Sequence[str], quick: bool, out: Path, threads: int | None = None) -> int:
    """Measure, and write ``<hardware>-<torch>.json`` and ``.md``; return how many parts failed.

    Parts that the file has already, and that are not measured again, stay in it with their own date and commit. A part
    that fails leaves what it had measured, and its reason.
    """
    about = machine()
    device = torch.device(about["device"])
    stem = slug(about) + ("-quick" if quick else "")
    file = out / f"{stem}.json"
    parts: dict[str, Any] = json.loads(file.read_text())["parts"] if file.exists() else {}
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in [name for name in PARTS if name in only]:
        log.info("== %s", name)
        with tempfile.TemporaryDirectory(prefix="vicinal-", ignore_cleanup_errors=True) as folder:
            bench = Bench(device, threads or cores(), quick, Path(folder), out, stem)
            started, failure, stopped = time.perf_counter(), "", False
            try:
                importlib.import_module(f"vicinal.benchmarks.{PARTS[name]}").measure(bench)
            except Exception as error:
                log.exception("%s failed", name)
                failed, failure = failed + 1, f"{type(error).__name__}: {error}".replace(folder, "<folder>")
            except KeyboardInterrupt:
                failure, stopped = "interrupted", True
        parts[name] = {
            **moment(),
            "threads": bench.threads,
            "took": time.perf_counter() - started,
            "failed": failure,
            "rows": [row.record() for row in bench.rows],
            "timings": bench.timings,
            **bench.extra,
        }
        parts = {name: parts[name] for name in PARTS if name in parts}
        content = {"schema": SCHEMA, "quick": quick, "machine": about, "parts": parts}
        write_json(file, content)
        write(file.with_suffix(".md"), markdown(content).encode())
        if stopped:
            raise KeyboardInterrupt
    log.info("written: %s and .md", file)
    return failed
