"""A real training, as far as the budget goes: CIFAR-10 as JPEG files, four strategies, one seed after the other."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.suite.bench import Bench
from benchmarks.suite.sweeping import write_tree
from benchmarks.suite.timing import Spread
from benchmarks.suite.trainings import QUIET, experiment
from vicinal.jobs.run import run

NAME = "cifar10-jpeg"
"""Name of the folder with ``train/<class>/*`` and ``test/<class>/*``, in the folder that VICINAL_DATA names."""
SEEDS = 3
WORDS = (
    "dataset=imagefolder",
    "dataset.image_size=32",
    "model=preact_resnet18",
    "optimizer=sgd",
    "optimizer.lr=0.1",
    "optimizer.momentum=0.9",
    "optimizer.nesterov=true",
    "optimizer.weight_decay=5e-4",
    "scheduler=cosine",
    "scheduler.warmup_epochs=1",
    "trainer.batch_size=128",
    "trainer.epochs=15",
)


def cifar10(bench: Bench) -> None:
    """Test accuracy of the last epoch and the time of each run."""
    root = Path(os.environ.get("VICINAL_DATA", "data")) / NAME
    title = "CIFAR-10 (JPEG), preact_resnet18, 15 epochs"
    if bench.quick:
        root = bench.folder / "tree"
        write_tree(root, 100)
    if not root.exists():
        bench.skip(title, "", f"there is no folder {NAME} in the one that VICINAL_DATA names")
        return
    more = [f"trainer.threads={bench.threads}"]
    if bench.quick:
        more += ["model.width=2", "trainer.epochs=2", "dataset.val_size=50"]
    for seed in range(1 if bench.quick else SEEDS):
        for mixup in ("none", "input", "manifold", "cutmix"):
            alpha = () if mixup == "none" else (f"mixup.alpha={2 if mixup == 'manifold' else 1}",)
            words = (*WORDS, f"dataset.root={root}", f"mixup={mixup}", *alpha, f"seed={seed}", *more)
            job = experiment(bench.folder / "recipe", *words, settings=QUIET)
            result = run(job)
            name = f"{title}, {mixup}, seed {seed}"
            bench.extra.setdefault("results", {})[name] = {
                key: result[key] for key in ("cell_id", "test", "val", "seconds", "images_per_second", "peak_memory")
            }
            bench.row(f"{name}: test acc1", "", Spread.of([result["test"]["last"]["acc1"]]), unit="")
            seconds = result["seconds"]["train"] + result["seconds"]["evaluation"]
            bench.row(f"{name}: steps and evaluation", "", Spread.of([seconds]), unit="s")
