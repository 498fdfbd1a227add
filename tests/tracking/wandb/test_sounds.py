"""Mixed clips can be heard at W&B and beside the run: both are what entered the network."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vicinal import build
from vicinal.data.inputs import Waveforms
from vicinal.experiment import Experiment
from vicinal.jobs.run import run
from vicinal.jobs.run_info import settings, show
from vicinal.mixing.context import Context
from vicinal.runs import mixed_sounds
from vicinal.runs.files import DamagedError
from vicinal.tracking.tracker import RunInfo
from vicinal.tracking.wandb.tracker import WandbTracker
from vicinal.training.rng_streams import RngStreams

Read = Callable[[Path], Any]


def heard(file: Path) -> tuple[int, list[int]]:
    with wave.open(str(file)) as stream:
        assert (stream.getnchannels(), stream.getsampwidth()) == (1, 2)
        return stream.getframerate(), np.frombuffer(stream.readframes(stream.getnframes()), "<i2").tolist()


def test_sounds_come_back_bit_for_bit(
    info: RunInfo, wandb_tracker: Callable[..., WandbTracker], read_offline_run: Read
) -> None:
    sounds = torch.randint(-32768, 32768, (3, 50), dtype=torch.int16, generator=torch.Generator().manual_seed(0))
    with wandb_tracker(images=2) as tracker:
        tracker.mixed_sounds(sounds, 8000, ["a", "b", "c"])
        tracker.epoch({"epoch": 1, "train/loss": 0.5})
        tracker.epoch({"epoch": 2, "train/loss": 0.25})
    found = read_offline_run(info.folder)
    assert found.captions == {"mixed_sounds": ["a", "b"]}
    assert [heard(file) for file in found.sounds["mixed_sounds"]] == [(8000, each) for each in sounds[:2].tolist()]
    assert found.history == [{"epoch": 1, "train/loss": 0.5}, {"epoch": 2, "train/loss": 0.25}]


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for digit in range(10):
        for number in (0, 5, 6):
            file = tmp_path / f"fsdd/recordings/{digit}_theo_{number}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(10 * digit + number).integers(-9000, 9000, 350, np.int16)
            file.write_bytes(mixed_sounds.encode(noise, 8000))
    return tmp_path


def test_a_run_shows_its_clips_and_lets_them_be_heard(
    clips: Path, compose: Callable[..., Experiment], read_offline_run: Read
) -> None:
    """Between-class mixing of waveforms, then CutMix of spectrograms, from a real run each."""
    for strategy in ("between_class", "logmel/cutmix"):
        words = (
            "dataset=fsdd",
            f"dataset.root={clips}",
            "dataset.length=400",
            "dataset.val_size=0",
            "trainer.epochs=2",
        )
        small = ("trainer.batch_size=10", "scheduler=constant", "model.widths=[2]", "model.mels=8", "wandb.images=3")
        experiment = compose(*words, *small, f"mixup={strategy}", "trainer.precision=fp32", "wandb.mode=offline")
        run(experiment)
        found, folder = read_offline_run(experiment.folder.path), experiment.folder
        data, streams = build.load_data(experiment), RngStreams(0)
        batches = build.make_loaders(experiment, data).train.epoch(streams.order, streams.augmentation)
        kind = Waveforms(8000, 400)
        expected = []
        for (inputs, labels), count in zip(batches, (2, 1), strict=True):
            shapes = {"logmel": (1, 8, 6)}
            context = Context(images=inputs, labels=labels, shapes=shapes)
            plan = experiment.strategy.sample(inputs.shape, streams.mixing, context)
            mixed = plan.mix(inputs) if strategy == "between_class" else inputs.clone()
            expected += [(each[0] * 32768).round().clamp(-32768, 32767).tolist() for each in mixed[:count]]
            own = plan.own_part(inputs)[:1]
            assert own.shape == ((1, 1, 400) if strategy == "between_class" else (1, 1, 8, 6))
        assert [heard(file) for file in found.sounds["mixed_sounds"]] == [(8000, each) for each in expected]
        assert found.captions["mixed_sounds"] == found.captions["mixed_images"]
        assert all(("at logmel" in text) == (plan.layer is not None) for text in found.captions["mixed_sounds"])
        sounds, rate = mixed_sounds.read(folder.mixed_sounds, 3)
        assert (sounds.tolist(), rate) == (expected, 8000)
        pictures = np.stack([np.asarray(Image.open(file)) for file in found.images["mixed_images"]])
        assert pictures.shape == (3, 40, 4 * 6)  # the clip, its partner, the mask and what enters
        entering = kind.picture(torch.tensor(expected)[:, None] / 32768)[:, 0].numpy()
        assert np.abs(pictures[:, :, 18:].astype(int) - entering).max() <= 1  # rounded to 16 bits


def test_a_completed_run_is_sent_with_its_sounds(
    clips: Path, compose: Callable[..., Experiment], read_offline_run: Read
) -> None:
    words = ("dataset=fsdd", f"dataset.root={clips}", "dataset.length=400", "dataset.val_size=0", "trainer.epochs=1")
    experiment = compose(*words, "scheduler=constant", "model.widths=[2]", "model.mels=8", "wandb.images=3")
    run(experiment)
    result = experiment.folder.load_result()
    result["config"]["wandb"]["mode"] = "offline"
    show(experiment.folder, result, settings(result), None)
    found = read_offline_run(experiment.folder.path)
    sounds, _ = mixed_sounds.read(experiment.folder.mixed_sounds, 3)
    assert [heard(file)[1] for file in found.sounds["mixed_sounds"]] == sounds.tolist()
    experiment.folder.mixed_sounds.write_bytes(experiment.folder.mixed_sounds.read_bytes()[:-2])
    with pytest.raises(DamagedError, match="3 clips of one length"):
        mixed_sounds.read(experiment.folder.mixed_sounds, 3)
