"""The pictures of docs/gallery.md: embedded digits and points in the plane, so that nothing is downloaded."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import torch

from vicinal.jobs.run import run
from vicinal.visualize import show_between, show_boundary, show_mixing
from vicinal.visualize.jobs import jobs
from vicinal.visualize.toys import TOYS

log = logging.getLogger(__name__)

WORDS = ("mixup.alpha=1", "trainer.threads=1", "trainer.precision=fp32")
"""The same alpha for all strategies; and the same bits wherever torch is the same."""
RUNS = ("mixup=none,input,manifold,cutmix", "seed=range(3)")


def gallery(folder: Path, output_dir: Path) -> Iterator[Path]:
    """Make all pictures, in a minute or two: the paths of the PNG files as they are written.

    Args:
        folder: of the pictures.
        output_dir: of the runs that are trained for them; those that are there are not trained again.
    """
    torch.set_num_threads(1)
    yield from show_mixing.show(WORDS, folder / "mixing.png")
    yield show_boundary.show(TOYS, folder / "boundary.png", report=log.info)
    asked = jobs([*RUNS, *WORDS, f"output_dir='{output_dir}'"])
    for job in asked:
        run(job.experiment)
    runs = [job.experiment.folder.path for job in asked]
    yield show_between.show(runs, folder / "between.png", report=log.info)
