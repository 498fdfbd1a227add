"""On a GPU: our loop against a bare compiled one with its data in place, and how much of the time the GPU works."""

from __future__ import annotations

import time
from collections.abc import Iterable

from vicinal.benchmarks.bench import Bar, Bench
from vicinal.benchmarks.epochs import in_turns
from vicinal.benchmarks.timing import Spread
from vicinal.benchmarks.trainings import Bare, Run

STEPS = 50


def measure(bench: Bench) -> None:
    """preact_resnet18 at width 64, compiled, as an epoch of the real loop."""
    for batch in (128, 512):
        title = f"preact_resnet18, width 64, batch {batch}, compiled"
        against = "forward, backward, step, compiled, on batches in place"
        if bench.device.type != "cuda":
            bench.skip(title, against, "there is no CUDA device", Bar(0.95))
            bench.skip(f"{title}: GPU busy", "", "there is no CUDA device", Bar(95))
            continue
        words = ("model=preact_resnet18", "model.width=64", "trainer.compile=true", f"trainer.batch_size={batch}")
        run = Run(bench.folder, (5 if bench.quick else STEPS) * batch, "mixup=input", *words)
        timings = in_turns(run, Bare.beside(run, compiled=True), 2 if bench.quick else 5, bench.wait)
        bench.keep(title, timings)
        title = f"{title}, {run.hardware.precision}"
        bench.row(title, against, timings.ratio("bare", "ours"), bar=Bar(0.95))
        speeds = Spread.of([batch / seconds for seconds in timings.seconds["ours"]])
        bench.row(f"{title}: images/s", "", speeds, unit="images/s")
        shares = Spread.of([100 * busy(run, bench) for _ in range(3)])
        bench.row(f"{title}: GPU busy", "", shares, unit="%", bar=Bar(95))


def busy(run: Run, bench: Bench) -> float:
    """The share of an epoch in which at least one kernel ran."""
    from torch.profiler import ProfilerActivity, profile

    bench.wait()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        started = time.perf_counter()
        run.epoch()
        bench.wait()
        wall = time.perf_counter() - started
    events = [event for event in profiler.events() or [] if event.device_type.name == "CUDA"]
    return covered((event.time_range.start, event.time_range.end) for event in events) / (1e6 * wall)


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """The length that the spans cover together."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total
