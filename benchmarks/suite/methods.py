"""The cost of each strategy: its training step against one without mixing, and the work that three of them add."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.suite.bench import Bar, Bench, peer
from benchmarks.suite.mixing import our_mixer
from benchmarks.suite.synthetic import CLASSES
from benchmarks.suite.timing import Case, Spread, Timings
from benchmarks.suite.trainings import Run
from vicinal.mixing.fields import FMix
from vicinal.mixing.pasting import ResizeMix

BATCH = 128
METHODS = (
    *("input", "manifold", "cutmix", "resizemix", "fmix", "gridmix", "smoothmix", "saliencymix", "puzzlemix", "ricap"),
    *("zeta", "noisy_features", "moex", "patchup", "alignmix", "cutout", "random_erasing", "regmixup", "one_of"),
    *("remix", "unimix", "balanced", "tutorial"),
)
"""All for this network; ``transmix`` needs one with attention."""
TWO_PASSES = Bar(1.2, at_least=False)
"""Of PuzzleMix's step against two steps without mixing, which are its two passes."""
FIELD = Bar(3, at_least=False)
"""% of a step that FMix's mask takes, one per batch."""


def measure(bench: Bench) -> None:
    """Time whole steps of ``preact_resnet18`` on 128 images of 32 x 32, one batch an epoch."""
    width = 8 if bench.quick else 64
    title = f"step of preact_resnet18, width {width}"
    runs, timings = _steps(bench, title, METHODS, "model=preact_resnet18", f"model.width={width}")
    _steps(bench, "step of vit_tiny", ("transmix",), "model=vit_tiny")
    halves = Spread(*(ratio / 2 for ratio in timings.ratio("puzzlemix", "none")))
    bench.row(f"{title}, puzzlemix, per two of none", "", halves, bar=TWO_PASSES)

    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, 3, 32, 32, generator=generator).to(bench.device, memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (BATCH,), generator=generator).to(bench.device)
    cases = [
        Case("step", runs["none"].epoch, bench.threads),
        Case("mask", partial(our_mixer(FMix(1.0)), images.clone(), labels), bench.threads),
    ]
    shares = bench.time("fmix: decide, mix, and make targets", cases, rounds=7).ratio("mask", "step")
    bench.row(f"fmix, of a {title}", "", Spread(*(100 * share for share in shares)), unit="%", bar=FIELD)

    cases = [
        Case("ours", partial(our_mixer(ResizeMix()), images.clone(), labels), bench.threads),
        Case("torchvision", partial(resized_cutmix(), images.clone(), labels), bench.threads),
    ]
    timings = bench.time("resizemix", cases, rounds=15, least=0.02)
    bench.row("resizemix", "torchvision's CutMix and its resize", timings.ratio("torchvision", "ours"), bar=Bar(1))


def _steps(bench: Bench, title: str, methods: Sequence[str], *words: str) -> tuple[dict[str, Run], Timings]:
    """Time a step with each of the methods, and without mixing."""
    threads = f"trainer.threads={bench.threads}"
    runs = {name: Run(bench.folder, BATCH, *words, threads, f"mixup={name}") for name in ("none", *methods)}
    timings = bench.time(title, [Case(name, run.epoch, bench.threads) for name, run in runs.items()], rounds=7)
    for name in methods:
        bench.row(f"{title}, {name}, per one of none", "", timings.ratio(name, "none"))
    return runs, timings


def resized_cutmix() -> Callable[[Tensor, Tensor], Any]:
    """Return torchvision's CutMix, and the partners resized to half of the side; ResizeMix has a mean of 0.45."""
    transforms = peer("torchvision.transforms.v2")
    cutmix = transforms.CutMix(alpha=1.0, num_classes=CLASSES)

    def mix(images: Tensor, labels: Tensor) -> Any:
        mixed = cutmix(images, labels)
        return mixed, transforms.functional.resize(images.roll(1, 0), [images.shape[-2] // 2, images.shape[-1] // 2])

    return mix
