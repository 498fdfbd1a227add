"""An epoch: the real loop against the barest one, and against the usual script."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.optim import SGD

from benchmarks.suite.bench import Bar, Bench, SkippedError, same_work
from benchmarks.suite.loading import classic_loader
from benchmarks.suite.subprocess_case import SubprocessCase
from benchmarks.suite.synthetic import image_data
from benchmarks.suite.timing import Case, Timings
from benchmarks.suite.trainings import LR, Bare, Run, Silent, experiment
from vicinal.build import make_loaders, make_model
from vicinal.experiment import Experiment
from vicinal.training.state import TrainState

CHUNK = 5  # steps a turn

BARE = "forward, backward, step on batches in place"
CLASSIC = "DataLoader with PIL and 2 workers, fp32, contiguous, loss.item() every step"


def measure(bench: Bench) -> None:
    """Throughput; crops, flips and mixing are part of ours, and the bare loop has none of them."""
    for width, images, epochs in ((16, 640, 2),) if bench.quick else ((64, 1280, 6), (16, 5120, 3)):
        words = ("model=preact_resnet18", f"model.width={width}", f"trainer.threads={bench.threads}")
        for mixup in ("none", "input"):
            run = Run(bench.folder, images, f"mixup={mixup}", *words)
            if mixup == "none":
                check(bench, *words)
            title = f"epoch of preact_resnet18, width {width}, {run.hardware.precision}, mixup={mixup}"
            timings = in_turns(run, Bare.beside(run), epochs, bench.wait)
            bench.keep(title, timings)
            bench.row(title, BARE, timings.ratio("bare", "ours"), bar=Bar(0.95), threads=bench.threads)
        bar = Bar(3) if run.hardware.precision == "bf16" else None
        try:
            with (
                SubprocessCase(classic, bench.folder / "classic", words, images, bench.threads) as theirs,
                SubprocessCase(bare, bench.folder / "bare", words, images, bench.threads) as plain,
            ):
                cases = [Case("classic", theirs), Case("bare", plain), Case("ours", run.epoch, bench.threads)]
                timings = bench.time(f"{title}, whole epochs", cases, rounds=3 if width == 64 else 5)
        except SkippedError as reason:
            bench.skip(title, CLASSIC, str(reason), bar)
            continue
        bench.row(title, f"{BARE}, in a process of its own", timings.ratio("bare", "ours"), threads=bench.threads)
        bench.row(title, CLASSIC, timings.ratio("classic", "ours"), bar=bar, threads=bench.threads)


class Turns(Silent):
    """A callback that lets the bare loop do as many steps after every few of ours, and times both."""

    def __init__(self, bare: Bare, wait: Callable[[], object]) -> None:
        super().__init__()
        self.bare, self.wait = bare, wait
        self.seconds: dict[str, list[float]] = {"ours": [], "bare": []}
        self.steps = 0
        self.since = time.perf_counter()

    def begin(self) -> None:
        """Begin an epoch of ours: the time before its first step counts."""
        self.wait()
        self.since = time.perf_counter()

    def after_step(self, training: TrainState) -> None:
        self.steps += 1
        if self.steps % CHUNK:
            return
        self._note("ours")
        for _ in range(CHUNK):
            self.bare.step()
        self._note("bare")

    def _note(self, name: str) -> None:
        self.wait()
        now = time.perf_counter()
        self.seconds[name].append((now - self.since) / CHUNK)
        self.since = now


def in_turns(run: Run, bare: Bare, epochs: int, wait: Callable[[], object]) -> Timings:
    """Return the seconds per step of both, one number per turn of five steps, after an epoch of warm-up."""
    run.epoch(Turns(bare, wait))
    turns = Turns(bare, wait)
    for _ in range(epochs):
        turns.begin()
        run.epoch(turns)
    return Timings(turns.seconds)


def check(bench: Bench, *words: str) -> None:
    """Check that without crops, flips and mixing both loops come to the same loss from the same weights, step by step.

    Raises:
        UnequalWorkError: they do not.
    """
    run = Run(bench.folder, 256, "mixup=none", "dataset.augment=false", *words)
    bare = Bare.beside(run)
    run.learner.model.train()
    for images, labels in run.loaders.train.batches():
        plan = run.learner.strategy.sample(images.shape, torch.Generator())
        ours = run.learner.step(images, labels, plan).loss
        theirs = bare.step()
        # The fused optimizer rounds otherwise, and after a step in bf16 that shows.
        same_work(torch.allclose(ours.float(), theirs.float(), rtol=0.01), f"losses {ours:.4f} and {theirs:.4f}")


def bare(folder: Path, words: Sequence[str], images: int, threads: int) -> Callable[[], object]:
    """Return a function that runs an epoch of the barest loop."""
    torch.set_num_threads(threads)
    job = experiment(folder, *words)
    loop = Bare(job, make_loaders(job, image_data(images)).train.batches())

    def epoch() -> None:
        for _ in loop.batches:
            loss = loop.step()
        loss.item()  # a GPU has only been told what to do

    return epoch


def classic(folder: Path, words: Sequence[str], images: int, threads: int) -> Callable[[], object]:
    """Return a function that runs an epoch of the classic script."""
    torch.set_num_threads(threads)
    return Classic(experiment(folder, *words), images).epoch


class Classic:
    """The training script of countless repositories."""

    def __init__(self, job: Experiment, images: int) -> None:
        self.device = job.hardware.device
        self.loader: Any = classic_loader(image_data(images).train, 2, self.device)
        self.model = make_model(job).to(self.device)
        self.optimizer = SGD(self.model.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4)
        self.loss = 0.0

    def epoch(self) -> None:
        self.model.train()
        for images, labels in self.loader:
            inputs, targets = images.to(self.device), labels.to(self.device)
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(inputs), targets)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.loss += loss.item()
