"""The pictures of docs/gallery.md: embedded digits and points in the plane, so that nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from vicinal.jobs.run import run
from vicinal.visualize import between, boundary, mixing
from vicinal.visualize.boundary import TOYS
from vicinal.visualize.jobs import jobs

WORDS = ("mixup.alpha=1", "trainer.threads=1", "trainer.precision=fp32")
"""The same alpha for all strategies; and the same bits wherever torch is the same."""
RUNS = ("mixup=none,input,manifold,cutmix", "seed=range(3)")


def gallery(folder: Path, output_dir: Path) -> Iterator[Path]:
    """Make all pictures, in a minute or two, and yield the paths of the PNG files as they are written.

    Runs in `output_dir` that are completed are not trained again.
    """
    torch.set_num_threads(1)
    yield from mixing.show(WORDS, folder / "mixing.png")
    yield boundary.show(TOYS, folder / "boundary.png")
    trained = jobs([*RUNS, *WORDS, f"output_dir='{output_dir}'"])
    for job in trained:
        run(job.experiment)
    yield between.show([job.experiment.folder.path for job in trained], folder / "between.png")
