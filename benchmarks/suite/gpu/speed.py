"""Speed of whole epochs, synchronised, in turns; medians."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch

from benchmarks.suite.bench import Bar, Bench
from benchmarks.suite.loading import drain
from benchmarks.suite.mixing import SHAPES, check, compare
from benchmarks.suite.processes import Trainings, python
from benchmarks.suite.sweeping import write_tree
from benchmarks.suite.timing import Case, Spread
from benchmarks.suite.trainings import Bare, Run
from vicinal.data import Pending, plain

JOBS = (1, 2, 4, 8)
KERNELS = 10
"""Number of the longest ones that are kept."""


def network(bench: Bench) -> tuple[str, ...]:
    """The words that choose it."""
    width = 8 if bench.quick else 64
    return ("model=preact_resnet18", f"model.width={width}", f"trainer.threads={bench.threads}")


def epoch_steps(bench: Bench, batch: int) -> int:
    """Steps of a timed epoch: 25,600 images."""
    return 3 if bench.quick else 25_600 // batch


def training(bench: Bench, batch: int, compile: str = "auto") -> None:  # noqa: A002 - the name of the key
    """An epoch of the real loop against a bare one with its data in place; the share of time that the GPU is busy."""
    size = min(batch, 32) if bench.quick else batch
    mode = compile if bench.device.type == "cuda" else "auto"  # a CPU has no CUDA graphs
    words = (*network(bench), f"trainer.batch_size={size}", f"trainer.compile={mode}")
    run = Run(bench.folder, epoch_steps(bench, size) * size, "mixup=input", *words)
    hardware = run.hardware
    bare = Bare.beside(run, compiled=hardware.compile)
    title = f"preact_resnet18, {network(bench)[1]}, batch {batch}, {hardware.precision}, trainer.compile={compile}"
    started = time.perf_counter()
    run.epoch()
    bench.wait()
    bench.extra.setdefault("seconds of the first epoch", {})[title] = time.perf_counter() - started

    def bare_epoch() -> None:
        for _ in bare.batches:
            bare.step()

    cases = [Case("bare", bare_epoch), Case("ours", run.epoch)]
    timings = bench.time(title, cases, rounds=5, warmup=1)
    against = "forward, backward, step on batches in place"
    bench.row(f"{title}: epoch", against, timings.ratio("bare", "ours"), bar=Bar(0.95))
    images = len(bare.batches) * size
    for name in ("ours", "bare"):
        speeds = Spread.of([images / seconds for seconds in timings.seconds[name]])
        bench.row(f"{title}: {name}", "", speeds, unit="images/s")
    shares, kernels = zip(*(busy(run, bench) for _ in range(1 if bench.quick else 2)), strict=True)
    bench.extra.setdefault("kernels", {})[title] = kernels[-1]
    bench.row(f"{title}: GPU busy", "", Spread.of([100 * share for share in shares]), unit="%", bar=Bar(95))


def busy(run: Run, bench: Bench) -> tuple[float, list[dict[str, Any]]]:
    """The share of an epoch in which at least one kernel ran, and the kernels that took longest."""
    from torch.profiler import ProfilerActivity, profile

    bench.wait()
    activity = ProfilerActivity.CUDA if bench.device.type == "cuda" else ProfilerActivity.CPU
    with profile(activities=[activity], acc_events=True) as profiler:
        started = time.perf_counter()
        run.epoch()
        bench.wait()
        wall = time.perf_counter() - started
    events = [event for event in profiler.events() or [] if event.device_type.name == activity.name]
    totals: dict[str, list[float]] = {}
    for event in events:
        totals.setdefault(event.name, []).append(event.time_range.elapsed_us())
    longest = sorted(totals.items(), key=lambda item: -sum(item[1]))[:KERNELS]
    covers = covered((event.time_range.start, event.time_range.end) for event in events) / (1e6 * wall)
    kernels = [
        {"kernel": name[:120], "calls": len(each), "share of the epoch": sum(each) / (1e6 * wall)}
        for name, each in longest
    ]
    return covers, kernels


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """The length that the spans cover together."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def mixing_in_a_step(bench: Bench) -> None:
    """Return the cost that each strategy adds to an epoch without mixing."""
    batch = 32 if bench.quick else 128
    words = (*network(bench), f"trainer.batch_size={batch}", "mixup.alpha=1")
    bars = {"input": Bar(3, at_least=False), "cutmix": Bar(3, at_least=False), "manifold": Bar(5, at_least=False)}
    images = max(2, epoch_steps(bench, batch) // 4) * batch
    runs = {name: Run(bench.folder, images, f"mixup={name}", *words) for name in ("none", *bars)}
    cases = [Case(name, run.epoch) for name, run in runs.items()]
    with torch._dynamo.config.patch(recompile_limit=16):  # all of them share one network's code
        timings = bench.time("epochs", cases, rounds=15, warmup=2)
    for name, bar in bars.items():
        pairs = zip(timings.seconds[name], timings.seconds["none"], strict=True)
        shares = [100 * (mixed / plain - 1) for mixed, plain in pairs]
        bench.row(f"{name}: what mixing adds", "an epoch of mixup=none", Spread.of(shares), unit="%", bar=bar)


def mixing_against_others(bench: Bench) -> None:
    """Decide, mix and prepare labels of one batch on the device, against torchvision, timm and kornia."""
    check(bench.device)
    compare(bench, SHAPES[0], torch.channels_last, bench.threads)


def loader(bench: Bench) -> None:
    """Augmented batches of data on the device, and of data that stay in the host's memory."""
    count = 512 if bench.quick else 50_000
    cases = []
    for name, stream in {"resident": "false", "streamed": "true"}.items():
        run = Run(bench.folder, count, "mixup=none", "trainer.batch_size=128", f"trainer.stream={stream}")
        streams = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
        cases.append(Case(name, partial(_drain, run, streams)))
    timings = bench.time(f"batches of {count} images", cases, rounds=5, warmup=2)
    for case in cases:
        speeds = Spread.of([count / seconds for seconds in timings.seconds[case.name]])
        bench.row(f"batches of 128, {case.name}", "", speeds, unit="images/s")


def mixed_as_made(bench: Bench) -> None:
    """Batches that one compiled loop makes and mixes, against those that one makes, and eager kernels mix."""
    batch, count = (16, 64) if bench.quick else (128, 12_800)
    for mixup in ("input", "cutmix"):
        words = (f"mixup={mixup}", "mixup.per_sample=true", f"trainer.batch_size={batch}", "trainer.compile=true")
        run = Run(bench.folder, count, *words, "model=mlp", "model.hidden=[8]")
        cases = [Case(name, partial(_mix, run, name == "one loop")) for name in ("apart", "one loop")]
        timings = bench.time(f"{count} images, mixup={mixup}", cases, rounds=9, warmup=2)
        title = f"{mixup}, one lambda a sample: batches of {batch} mixed as they are made"
        bench.row(title, "made, then mixed", timings.ratio("apart", "one loop"), bar=Bar(1))


def _mix(run: Run, as_made: bool) -> None:
    """Decide and make all batches of an epoch."""
    order, augmentation, mixing = (torch.Generator().manual_seed(seed) for seed in range(3))
    for batch, _ in run.loaders.train.pending(order, augmentation):
        plan = run.learner.strategy.sample(batch.shape, mixing).to(run.hardware.device)
        mask = plan.pixelwise
        if as_made and isinstance(batch, Pending) and mask is not None:
            batch.mixed(plan.partner, mask)
        else:
            plan.mix(plain(batch))


def _drain(run: Run, streams: tuple[torch.Generator, torch.Generator]) -> None:
    drain(run.loaders.train.epoch(*streams), run.hardware.device)


def small_jobs(bench: Bench) -> None:
    """The default job several times, side by side, as a whole command: one timing each, the start included."""
    epochs = ("trainer.epochs=1",) if bench.quick else ()
    for compiled, jobs in (("auto", 1), *(("false", jobs) for jobs in ((2,) if bench.quick else JOBS))):
        words = ("hydra/launcher=parallel", f"hydra.launcher.n_jobs={jobs}", f"seed=range({jobs})", "-m", *epochs)
        more = ("wandb.mode=disabled", f"trainer.compile={compiled}")
        sweep = Trainings(bench.folder, f"jobs-{compiled}-{jobs}", *words, *more)
        [seconds] = bench.time(f"{jobs} small jobs", [Case("sweep", sweep)], rounds=1, warmup=0).seconds.values()
        if len(sweep.results()) != jobs:
            raise RuntimeError(f"only {len(sweep.results())} of {jobs} jobs were completed")
        title = f"{jobs} default job{'s' * (jobs > 1)} side by side, trainer.compile={compiled}"
        bench.row(title, "", Spread.of([3600 * jobs / each for each in seconds]), unit="runs/h")


def first_step(bench: Bench) -> None:
    """From the command to the end of the first step, with a compile cache that is empty and with one that is full."""
    write_tree(bench.folder / "tree", 1280)
    cache = bench.folder / "compiler"
    data = ("dataset=imagefolder", f"dataset.root={bench.folder / 'tree'}", "dataset.val_size=0")
    words = (*data, "wandb.mode=disabled")
    for number, name in enumerate(("cold", "warm")):
        output = (f"output_dir={bench.folder / f'first-{number}'}", "trainer.batch_size=128", *network(bench))

        def start(output: tuple[str, ...] = output) -> None:
            environment = {"TORCHINDUCTOR_CACHE_DIR": str(cache), "TRITON_CACHE_DIR": str(cache / "triton")}
            module = ("-m", "benchmarks.suite.first_step")
            python(*module, *words, *output, folder=bench.folder, environment=environment)

        timings = bench.time(f"first step, {name}", [Case(name, start)], rounds=1, warmup=0)
        bench.row(f"first step of preact_resnet18, {name} compile cache", "", timings.spread(name), unit="s")
