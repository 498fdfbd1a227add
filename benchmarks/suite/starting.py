"""Time until something happens, in whole processes started in turns."""

from __future__ import annotations

from itertools import count

from benchmarks.suite.bench import Bar, Bench
from benchmarks.suite.processes import TRAIN, python
from benchmarks.suite.timing import Case, Spread


def measure(bench: Bench) -> None:
    """``--help``; and the first step of the default job, beyond what ``import torch`` alone takes."""
    numbers = count()

    def first_step() -> None:
        output = f"output_dir={bench.folder / str(next(numbers))}"
        python("-m", "benchmarks.suite.first_step", output, "wandb.mode=offline", folder=bench.folder)

    cases = [
        # Without what Python does at its end, which neither of the others does.
        Case("import torch", lambda: python("-c", "import os, torch; os._exit(0)", folder=bench.folder)),
        Case("--help", lambda: python(TRAIN, "--help", folder=bench.folder)),
        Case("first step", first_step),
    ]
    timings = bench.time("start", cases, rounds=7, warmup=0 if bench.quick else 1)
    bench.row("python train.py --help", "", timings.spread("--help"), unit="s", bar=Bar(1.5, at_least=False))
    pairs = zip(timings.seconds["first step"], timings.seconds["import torch"], strict=True)
    beyond = Spread.of([step - torch for step, torch in pairs])
    bar = Bar(2.5, at_least=False)
    bench.row("first step of the default job", "less what import torch takes", beyond, unit="s", bar=bar)
