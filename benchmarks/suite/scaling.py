"""Growth of the cost with the images, the batch and the jobs: the slope on logarithmic axes, 1 being linear."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from benchmarks.suite.bench import Bar, Bench
from benchmarks.suite.loading import drain, our_loader
from benchmarks.suite.processes import Trainings
from benchmarks.suite.synthetic import image_data, images
from benchmarks.suite.timing import Case, Spread, Timings, slope
from benchmarks.suite.trainings import Run
from vicinal.data import Samples

LINEAR = Bar(1.05, at_least=False)

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
BATCHES = (16, 32, 64, 128, 256, 512, 1024)
JOBS = (1, 2, 5, 10, 20, 50, 100, 200)


def measure(bench: Bench) -> None:
    """Four curves, each with its slope over all sizes and over the larger half, where fixed costs weigh less."""
    bench.extra["plots"] = []
    _loader(bench)
    _tiny_model(bench)
    _batches(bench)
    _jobs(bench)


def _loader(bench: Bench) -> None:
    sizes = (500, 1_000, 2_000) if bench.quick else SIZES
    everything = images(max(sizes))
    streams = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)

    def epoch(count: int) -> Callable[[], object]:
        loader = our_loader(Samples(everything.inputs[:count], everything.targets[:count]), bench.device)
        return lambda: drain(loader.epoch(*streams), bench.device)

    _curve(bench, "epoch of the loader", "images", sizes, [epoch(count) for count in sizes], rounds=3)


def _tiny_model(bench: Bench) -> None:
    sizes = (500, 1_000, 2_000) if bench.quick else SIZES
    everything = image_data(max(sizes))
    calls = []
    for count in sizes:
        train = Samples(everything.train.inputs[:count], everything.train.targets[:count])
        data = type(everything)(train, None, everything.test, everything.class_names, everything.mean, everything.std)
        words = ("model=mlp", "model.hidden=[]", "trainer.batch_size=500", f"trainer.threads={bench.threads}")
        calls.append(Run(bench.folder, count, *words, data=data).epoch)
    _curve(bench, "epoch of training softmax regression", "images", sizes, calls, rounds=3)


def _batches(bench: Bench) -> None:
    sizes = (16, 32, 64) if bench.quick else BATCHES
    calls = []
    for batch in sizes:
        words = ("model=preact_resnet18", "model.width=16", f"trainer.threads={bench.threads}")
        run = Run(bench.folder, batch, *words, f"trainer.batch_size={batch}")
        calls.append(run.epoch)
    _curve(bench, "step of preact_resnet18, width 16", "images a batch", sizes, calls, rounds=5)


def _jobs(bench: Bench) -> None:
    """Measure everything but steps and evaluation, in sweeps of tiny jobs."""
    counts = (1, 2) if bench.quick else JOBS
    tiny = ("model=mlp", "dataset.train_size=100", "dataset.val_size=20", "trainer.epochs=1", "wandb.mode=disabled")
    seconds: dict[str, list[float]] = {}
    for count in counts:
        sweep = Trainings(bench.folder, f"jobs-{count}", *tiny, f"seed=range({count})", "-m")
        whole = bench.time(f"sweep of {count} tiny jobs", [Case("sweep", sweep)], rounds=1, warmup=0)
        seconds[str(count)] = [whole.spread("sweep").median - sweep.bare_seconds()]
    _slopes(bench, "sweep beside its trainings", "jobs", counts, Timings(seconds))


def _curve(
    bench: Bench, title: str, axis: str, sizes: Sequence[int], calls: Sequence[Callable[[], object]], rounds: int
) -> None:
    cases = [Case(str(size), call) for size, call in zip(sizes, calls, strict=True)]
    _slopes(bench, title, axis, sizes, bench.time(title, cases, rounds))


def _slopes(bench: Bench, title: str, axis: str, sizes: Sequence[int], timings: Timings) -> None:
    seconds = [timings.spread(str(size)).median for size in sizes]
    half = len(sizes) // 2
    fits = {"all": slope(sizes, seconds), f"from {sizes[half]}": slope(sizes[half:], seconds[half:])}
    for part, fitted in fits.items():
        value = Spread(fitted, fitted, fitted)
        bench.row(f"{title}: slope", f"{axis}, {part}", value, unit="slope", bar=LINEAR)
    name = f"{bench.stem}-{title.split(',')[0].replace(' ', '-')}.svg"
    _plot(bench, name, title, axis, sizes, timings, fits)
    curve = {"sizes": list(sizes), "seconds": seconds, "slopes": fits}
    bench.extra["plots"].append({"title": title, "axis": axis, "file": name, **curve})


def _plot(
    bench: Bench,
    file: str,
    title: str,
    axis: str,
    sizes: Sequence[int],
    timings: Timings,
    fits: dict[str, float],
) -> None:
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.add_subplot()
    spreads = [timings.spread(str(size)) for size in sizes]
    seconds = [spread.median for spread in spreads]
    errors = [[s.median - s.low for s in spreads], [s.high - s.median for s in spreads]]
    fitted = ", ".join(f"{value:.2f} ({part})" for part, value in fits.items())
    axes.errorbar(sizes, seconds, errors, marker="o", capsize=3, label=f"slope {fitted}")
    axes.plot(sizes, [seconds[-1] * size / sizes[-1] for size in sizes], ":", color="grey", label="slope 1")
    axes.set(xscale="log", yscale="log", xlabel=axis, ylabel="seconds", title=title)
    axes.grid(True, which="both", alpha=0.2)
    axes.legend()
    with matplotlib.rc_context({"svg.hashsalt": title}):  # the same numbers, the same file
        figure.savefig(bench.out / file, metadata={"Date": None})
