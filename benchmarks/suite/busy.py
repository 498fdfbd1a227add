"""A busy machine: jobs as users start them, with the cores for themselves and beside as many endless loops."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from benchmarks.suite.bench import Bar, Bench
from benchmarks.suite.machine import cores
from benchmarks.suite.processes import TRAIN, python
from benchmarks.suite.timing import Timings

BUSY = Bar(3.5, at_least=False)
QUIET = Bar(1.03, at_least=False)
JOBS = {
    "the default job": ("trainer.epochs=30",),
    "preact_resnet18, width 16": ("model=preact_resnet18", "model.width=16", "trainer.epochs=3"),
}
ROUNDS = 9


def measure(bench: Bench) -> None:
    """Seconds of training per image, in whole processes that take turns."""
    numbers = count()
    loops, rounds = cores(), 1 if bench.quick else ROUNDS

    def seconds(words: tuple[str, ...]) -> float:
        output = bench.folder / str(next(numbers))
        python(TRAIN, *words, f"output_dir={output}", folder=bench.folder)
        [result] = output.glob("runs/*/result.json")
        return 1 / float(json.loads(result.read_text())["images_per_second"])

    for name, words in JOBS.items():
        own = (*words, "wandb.mode=disabled", "trainer.device=cpu", *(["trainer.epochs=1"] if bench.quick else []))
        own = tuple({word.partition("=")[0]: word for word in own}.values())
        timed: dict[str, list[float]] = {"quiet": [], "busy": [], "before": []}
        for _ in range(rounds):
            timed["quiet"].append(seconds(own))
            timed["before"].append(seconds((*own, f"trainer.threads={loops}")))
            with busy(loops):
                timed["busy"].append(seconds(own))
        timings = Timings(timed)
        bench.keep(f"{name}: seconds of training per image", timings)
        bench.row(f"{name}: beside {loops} busy loops", "a quiet machine", timings.ratio("busy", "quiet"), bar=BUSY)
        ratio = timings.ratio("quiet", "before")
        bench.row(f"{name}: on a quiet machine", "trainer.threads: one per core", ratio, bar=QUIET)


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """Keep processes busy with endless loops."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()
