"""A training on clips: its losses are the sums written out, and one that was interrupted is the one that was not."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vicinal import build
from vicinal.experiment import Experiment
from vicinal.jobs.run import run
from vicinal.mixing.context import Context
from vicinal.runs.mixed_sounds import encode
from vicinal.training.learner import Learner
from vicinal.training.rng_streams import RngStreams

Compose = Callable[..., Experiment]
WORDS = (
    "dataset=fsdd",
    "dataset.length=400",
    "dataset.val_size=0",
    "trainer.epochs=2",
    "trainer.batch_size=8",
    "trainer.threads=1",
    "trainer.precision=fp32",
    "scheduler=constant",
    "model.widths=[2]",
    "model.mels=8",
    "output_dir=outputs",
)


@pytest.fixture(autouse=True)
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for digit in range(10):
        for number in (0, 5, 6):
            file = tmp_path / f"data/fsdd/recordings/{digit}_theo_{number}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(10 * digit + number).integers(-9000, 9000, 350, np.int16)
            file.write_bytes(encode(noise, 8000))
    monkeypatch.setenv("VICINAL_DATA", "data")
    monkeypatch.chdir(tmp_path)


def left_behind(experiment: Experiment) -> dict[str, Any]:
    folder = experiment.folder
    rows = re.sub(r', "(throughput|seconds)": [^,}]+', "", folder.metrics.read_text())
    files = (folder.checkpoint, folder.mixed, folder.mixed_sounds, folder.predictions)
    return {"rows": rows, **{file.name: file.read_bytes() for file in files}}


@pytest.mark.parametrize("strategy", ["logmel/cutmix", "between_class", "logmel/specmix"])
@pytest.mark.parametrize("step", [2, 4])
def test_a_run_that_was_interrupted_is_the_one_that_was_not(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, strategy: str, step: int
) -> None:
    words = (*WORDS, f"mixup={strategy}", "wandb.images=5")
    run(compose(*words))
    whole = left_behind(compose(*words))
    shutil.rmtree("outputs")
    original, done = Learner.step, []

    def stopping(self: Learner, *batch: Any) -> Any:
        output = original(self, *batch)
        done.append(1)
        if len(done) == step:
            signal.raise_signal(signal.SIGTERM)
        return output

    monkeypatch.setattr(Learner, "step", stopping)
    with pytest.raises(SystemExit):
        run(compose(*words))
    assert not compose(*words).folder.result.exists()
    run(compose(*words))
    assert len(done) == 6  # two epochs of three batches, none of them twice
    assert left_behind(compose(*words)) == whole


@pytest.mark.parametrize("strategy", ["logmel/cutmix", "logmel/specmix", "between_class"])
def test_the_loss_of_the_first_epoch_is_the_sum_written_out(
    compose: Compose, strategy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """-sum over samples of w log p(own class) + (1 - w) log p(partner's class), w counted from the mask."""
    experiment = compose(*WORDS, f"mixup={strategy}", "trainer.epochs=1", "optimizer.lr=1e-30")
    run(experiment)
    assert " clips/s" in capsys.readouterr().out
    (row,) = map(json.loads, experiment.folder.metrics.read_text().splitlines())
    data, streams = build.load_data(experiment), RngStreams(0)
    with streams.default("init"):
        model = build.make_model(experiment)
    total, shares = 0.0, []
    for inputs, labels in build.make_loaders(experiment, data).train.epoch(streams.order, streams.augmentation):
        context = Context(images=inputs, labels=labels, shapes={"logmel": (1, 8, 6)})
        plan = experiment.strategy.sample(inputs.shape, streams.mixing, context)
        with torch.no_grad():
            if strategy == "between_class":
                weight, spectrogram = plan.lam, model.logmel(plan.mix(inputs))
            else:
                own = plan.applied_mask.mix(torch.ones(len(inputs), 1, 8, 6), torch.zeros(len(inputs), 1, 8, 6)) == 1
                before = model.logmel(inputs)
                weight, spectrogram = own.float().mean(dim=(1, 2, 3)), torch.where(own, before, before[plan.partner])
                shares += weight.tolist()
            logits = torch.nn.Sequential(model.block1, model.head)(spectrogram).double()
        log_p = logits - logits.exp().sum(dim=1, keepdim=True).log()
        for index, (label, other) in enumerate(zip(labels.tolist(), labels[plan.partner].tolist(), strict=True)):
            w = float(weight[index])
            total -= w * float(log_p[index, label]) + (1 - w) * float(log_p[index, other])
    assert row["train/loss"] == pytest.approx(total / 20, rel=1e-5)
    if shares:
        assert row["mixing/lam_mean_partner"] == pytest.approx(1 - np.mean(shares), abs=1e-6)
        assert row["mixing/layer/logmel"] == 3
