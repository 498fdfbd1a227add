"""Real trainings on synthetic images, put together from a command line's words as a run puts its own together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from benchmarks.suite.synthetic import MEAN, STD, image_data
from vicinal import build
from vicinal.config.schema import CONF, register
from vicinal.data import RunData
from vicinal.experiment import Experiment
from vicinal.jobs.run import run
from vicinal.runs.signals import GracefulShutdown
from vicinal.tracking.tracker import Tracker
from vicinal.training.checkpointer import Checkpointer, Interval
from vicinal.training.hardware import Hardware, apply
from vicinal.training.learner import Learner
from vicinal.training.loop import Loaders, train_epoch
from vicinal.training.mixed_examples import MixedExamples
from vicinal.training.rng_streams import RngStreams
from vicinal.training.state import TrainState

LR = 0.01
SETTINGS = (
    "dataset=cifar10",
    f"dataset.mean={list(MEAN)}",
    f"dataset.std={list(STD)}",
    "trainer.batch_size=128",
    f"optimizer.lr={LR}",
    "scheduler=constant",
    "wandb.mode=disabled",
    "wandb.images=0",
)
"""Words of every training on synthetic images; all other keys have their defaults."""
QUIET = ("wandb.mode=disabled", "wandb.images=0")
"""Words of a training on data of its own."""


def experiment(folder: Path, *words: str, settings: Sequence[str] = SETTINGS) -> Experiment:
    """Return the experiment of a command line, in a folder of its own."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return Experiment.composed(
            compose("config", [*settings, f"output_dir={folder}", *words], return_hydra_config=True)
        )


def run_on(job: Experiment, load_data: Callable[[], RunData]) -> dict[str, Any]:
    """Run a whole experiment on other data than its own."""
    with patch.object(build, "load_data", lambda experiment: load_data()):
        return run(job)


class Run:
    """A training whose epochs are run one by one, which shows and saves nothing.

    Args:
        folder: for its output, which is none.
        images: how many are made up; None for the data that the words choose.
        *words: of the command line.
        data: instead.
    """

    def __init__(self, folder: Path, images: int | None, *words: str, data: RunData | None = None) -> None:
        self.experiment = experiment(folder, *words, settings=QUIET if images is None else SETTINGS)
        self.hardware = self.experiment.hardware
        apply(self.hardware, self.experiment.trainer)
        if data is None:
            data = build.load_data(self.experiment) if images is None else image_data(images)
        counts = self.experiment.task.counts(data.train.targets, self.experiment.sizes.classes)
        self.loaders: Loaders = build.make_loaders(self.experiment, data)
        streams = RngStreams(0)
        with streams.default("init"):
            model = build.make_model(self.experiment)
        self.learner = Learner(
            model,
            self.experiment.optimizer,
            self.experiment.scheduler,
            self.experiment.strategy,
            self.experiment.trainer,
            self.hardware,
            steps_per_epoch=len(self.loaders.train),
            counts=counts,
            norm_bias_lr=self.experiment.optimizer.values["norm_bias_lr"],
        )
        self.training = TrainState(self.learner, streams, MixedExamples(data, 0, 1, Tracker()), counts)

    def epoch(self, checkpointer: Checkpointer | None = None) -> None:
        """Run the next epoch in the real loop, without validation."""
        train_epoch(self.training, self.loaders.train, Tracker(), checkpointer or Silent())
        self.training.mixing_row()
        self.training.end_epoch({})


class Silent(Checkpointer):
    """Save nothing and stop nothing."""

    def __init__(self) -> None:
        super().__init__(lambda training: None, Interval(), 0, GracefulShutdown())


class Bare:
    """Forward, backward and optimizer step on batches that are there: what no loop over this network can do without."""

    def __init__(self, job: Experiment, batches: Iterable[tuple[Tensor, Tensor]], compiled: bool = False) -> None:
        self.hardware: Hardware = job.hardware
        layout = torch.channels_last if job.trainer.channels_last else torch.contiguous_format
        self.model: nn.Module = build.make_model(job).to(self.hardware.device, memory_format=layout)  # type: ignore[call-overload]
        self.optimizer: Optimizer = SGD(self.model.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4, fused=True)
        self.forward: Callable[[Tensor], Tensor] = self.model
        if compiled:
            mode = "reduce-overhead" if job.hardware.cuda_graphs else None
            self.forward = torch.compile(self.model, dynamic=False, mode=mode)
        self.batches = [(images.clone(), labels.clone()) for images, labels in batches]
        self.done = 0

    @classmethod
    def beside(cls, run: Run, compiled: bool = False) -> Self:
        """Return one with the weights and the images of a run."""
        bare = cls(run.experiment, run.loaders.train.batches(), compiled)
        bare.model.load_state_dict(run.learner.model.state_dict())
        return bare

    def step(self) -> Tensor:
        """Train on the next batch and return the loss on the device."""
        images, labels = self.batches[self.done % len(self.batches)]
        self.done += 1
        if self.hardware.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        with self.hardware.autocast():
            loss = F.cross_entropy(self.forward(images), labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()
