"""Sweeps: one process for all jobs against one each, the cost of a job beside its training, jobs side by side."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from benchmarks.suite.bench import Bar, Bench
from benchmarks.suite.processes import Trainings, python
from benchmarks.suite.synthetic import images
from benchmarks.suite.timing import Case, Spread
from benchmarks.suite.upper_bound import throughput
from vicinal.data import Samples

ALPHAS = ("0", "0.1", "0.2", "0.4", "0.8", "1", "2", "4")
OFFLINE = "wandb.mode=offline"
IMPORTS = "import os, torch, vicinal.cli.train, vicinal.jobs.run; os._exit(0)"


def measure(bench: Bench) -> None:
    """Serial sweeps of tiny jobs, where all but the training counts; then the parallel launcher on longer ones."""
    _serial(bench)
    _parallel(bench)


def _serial(bench: Bench) -> None:
    alphas = ALPHAS[:2] if bench.quick else ALPHAS
    words = ("trainer.epochs=1" if bench.quick else "trainer.epochs=3", OFFLINE)
    together = Trainings(bench.folder, "sweep", *words, f"mixup.alpha={','.join(alphas)}", "-m")
    alone = Trainings(bench.folder, "alone", *words)
    beside: list[float] = []

    def sweep() -> None:
        together()
        beside.append(together.bare_seconds())

    def processes() -> None:
        for alpha in alphas:
            alone(f"mixup.alpha={alpha}")

    def imports() -> None:
        python("-c", IMPORTS, folder=bench.folder)

    cases = [Case("one sweep", sweep), Case("a process a job", processes), Case("imports", imports)]
    about = f"{len(alphas)} digits jobs, {words[0]}"
    timings = bench.time(about, cases, rounds=3, warmup=0 if bench.quick else 1)
    bench.row(f"sweep of {about}", "a process a job", timings.ratio("a process a job", "one sweep"), bar=Bar(3))
    walls, rounds = timings.seconds["one sweep"], len(timings.seconds["one sweep"])
    overhead = [
        (wall - before - bare) / len(alphas)
        for wall, before, bare in zip(walls, timings.seconds["imports"], beside[-rounds:], strict=True)
    ]
    bar = Bar(0.7, at_least=False)
    bench.row(
        "overhead of a sweep's job", "wall time less imports, steps, evaluation", Spread.of(overhead), unit="s", bar=bar
    )


def _parallel(bench: Bench) -> None:
    count, epochs = (200, 1) if bench.quick else (15_000, 6)
    write_mnist(bench.folder / "mnist", count)
    mnist = (
        "dataset=mnist",
        f"dataset.root={bench.folder / 'mnist'}",
        "dataset.val_size=100",
        f"trainer.epochs={epochs}",
    )
    count, epochs = (200, 1) if bench.quick else (5_000, 3)
    write_tree(bench.folder / "tree", count)
    tree = (
        "dataset=imagefolder",
        f"dataset.root={bench.folder / 'tree'}",
        f"dataset.cache_dir={bench.folder / 'cache'}",
        "dataset.val_size=100",
        f"trainer.epochs={epochs}",
    )
    jobs = {
        "cnn, 28x28": (("model=cnn",), mnist, (1, 28), Bar(1.2)),
        "preact_resnet18, width 16, 32x32": (("model=preact_resnet18", "model.width=16"), tree, (3, 32), Bar(1.4)),
    }
    for name, (model, data, shape, bar) in list(jobs.items())[: 1 if bench.quick else None]:
        _upper_bound(bench, name, shape, *model)
        words = (*model, *data)
        sweep = (*words, OFFLINE, "trainer.batch_size=128", "seed=0,1,2,3", "-m")
        serial = Trainings(bench.folder, f"serial-{name[:3]}", *sweep)
        packed = Trainings(bench.folder, f"packed-{name[:3]}", "hydra/launcher=parallel", *sweep)
        if "dataset=imagefolder" in words:  # it is decoded once, whoever comes first
            Trainings(
                bench.folder, "decoding", *words, "dataset.train_size=100", "trainer.epochs=1", "wandb.mode=disabled"
            )()
        timings = bench.time(
            f"4 jobs of {name}", [Case("serial", serial), Case("parallel", packed)], rounds=2, warmup=0
        )
        bench.row(f"4 jobs of {name}: parallel launcher", "serial", timings.ratio("serial", "parallel"), bar=bar)


def _upper_bound(bench: Bench, name: str, shape: tuple[int, int], *words: str) -> None:
    """Measure the possible gain: bare steps of one single-threaded process per core against one process."""
    seconds, cores = 0.5 if bench.quick else 8.0, bench.threads
    channels, gains = shape[0], []
    dataset = "dataset=mnist" if channels == 1 else "dataset=cifar10"
    for turn in range(1 if bench.quick else 4):
        folder = bench.folder / f"upper-bound-{shape[1]}-{turn}"
        apart = throughput(folder / "apart", shape, cores, 1, seconds, dataset, *words)
        gains.append(apart / throughput(folder / "together", shape, 1, cores, seconds, dataset, *words))
    bench.row(f"bare steps of {name}: a process a core", "one process, a thread a core", Spread.of(gains))


def write_mnist(root: Path, count: int) -> None:
    """Write random images in MNIST's own files: ``count`` to train on and 1000 to test on."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, data in {"train": images(count, 1, 28), "t10k": images(1000, 1, 28, seed=1)}.items():
        pixels, labels = data.inputs.squeeze(1).contiguous(), data.targets.byte()
        (folder / f"{name}-images-idx3-ubyte").write_bytes(_idx(pixels.shape) + pixels.numpy().tobytes())
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(_idx(labels.shape) + labels.numpy().tobytes())


def _idx(shape: Sequence[int]) -> bytes:
    """Return the head of an IDX file of bytes (LeCun's format: 0, 0, type 8, dimensions, big-endian sizes)."""
    return struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape)


def write_tree(root: Path, count: int) -> None:
    """Write random images as PNG files: ``count`` to train on and 500 to test on."""
    from PIL import Image

    parts: dict[str, Samples] = {"train": images(count), "test": images(500, seed=1)}
    for part, data in parts.items():
        pixels = data.inputs.permute(0, 2, 3, 1).contiguous().numpy()
        for number, (image, label) in enumerate(zip(pixels, data.targets.tolist(), strict=True)):
            folder = root / part / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number}.png", compress_level=1)
