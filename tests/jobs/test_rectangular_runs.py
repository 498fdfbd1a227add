"""Whole runs on images that are wider than high: the same to the bit after a kill, and however images are kept."""

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.box_files import write_voc
from vicinal.build import load_data
from vicinal.data import Samples, Source, voc
from vicinal.errors import ConfigError
from vicinal.experiment import Experiment
from vicinal.jobs.run import run
from vicinal.runs import mixed_sheet
from vicinal.tracking.run_files import TIME_FIELDS
from vicinal.training.learner import Learner

Compose = Callable[..., Experiment]
TRAINER = ("trainer.epochs=2", "trainer.precision=fp32", "trainer.threads=1", "tracker=csv")


def picture(seed: int, *size: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, size, np.uint8))


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Words for two classes of images, each of another size."""
    monkeypatch.chdir(tmp_path)
    for part, count in (("train", 12), ("test", 5)):
        for label, name in enumerate(("ant", "bee")):
            folder = tmp_path / "tree" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                seed = 100 * label + number + (50 if part == "test" else 0)
                picture(seed, 14 + 3 * number, 40 - 2 * number, 3).save(folder / f"{number}.png")
    words = (
        f"dataset.root={tmp_path}/tree",
        "dataset.image_size=[12,20]",
        "dataset.val_size=4",
        "dataset.crop_padding=3",
    )
    return ("dataset=imagefolder", "dataset.cache_dir=cache", *words, "model=cnn", "trainer.batch_size=8", *TRAINER)


def rows(experiment: Experiment) -> str:
    """What a run has measured, but times."""
    return re.sub(rf', "({"|".join(TIME_FIELDS)})": [^,}}]+', "", experiment.folder.metrics.read_text())


def cut(compose: Compose, monkeypatch: pytest.MonkeyPatch, *words: str) -> Experiment:
    """A run that ends in its second epoch, and goes on."""
    original, steps = Learner.step, 0

    def step(self: Learner, *args: Any, **keys: Any) -> Any:
        nonlocal steps
        steps += 1
        made = original(self, *args, **keys)
        if steps == 4:
            signal.raise_signal(signal.SIGTERM)
        return made

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", step)
        with pytest.raises(SystemExit):
            run(compose(*words, "output_dir=cut"))
    resumed = compose(*words, "output_dir=cut")
    run(resumed)
    return resumed


@pytest.mark.parametrize("strategy", ["input", "cutmix"])
def test_a_tree_of_images(
    tree: tuple[str, ...], compose: Compose, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    words = (*tree, f"mixup={strategy}", "wandb.images=4")
    whole = compose(*words, "output_dir=whole", "dataset.keep=decoded")
    run(whole)
    again = cut(compose, monkeypatch, *words, "dataset.keep=encoded")
    assert again.run_id == whole.run_id
    assert rows(again) == rows(whole)
    assert again.folder.checkpoint.read_bytes() == whole.folder.checkpoint.read_bytes()
    assert json.loads(whole.folder.result.read_bytes())["config"]["dataset"]["image_size"] == [12, 20]
    assert {pixels.shape for pixels, _ in mixed_sheet.tiles(whole.folder.mixed)} == {(4, 3, 12, 20)}


def own() -> Source:
    """A source of one's own, with images of 12 x 20 pixels in ten classes."""
    inputs = torch.randint(0, 256, (60, 1, 12, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    part = Samples(inputs, torch.arange(60) % 10)
    return Source(part, part, tuple("0123456789"))


def test_a_source_of_ones_own(tmp_path: Path, compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = (
        "dataset=digits", f"dataset._target_={__name__}.own", "dataset.val_size=20", "mixup=cutmix",
        "trainer.batch_size=10", *TRAINER,
    )  # fmt: skip
    run(compose(*words, "dataset.image_size=[12,20]"))
    for size in ("12", "20", "[20,12]"):
        line = rf"^dataset.image_size={re.escape(size)}: must be \[12,20\], as in the data$"
        with pytest.raises(ConfigError, match=line):
            load_data(compose(*words, f"dataset.image_size={size}"))


def test_random_parts(tree: tuple[str, ...], compose: Compose) -> None:
    experiment = compose(*tree, "mixup=none", "dataset.crop=resized", "dataset.resize=14")
    run(experiment)
    assert len(rows(experiment).splitlines()) == 2


def test_masks(tmp_path: Path, compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for part, count in (("train", 20), ("test", 4)):
        for number in range(count):
            for kind, pixels in (
                ("images", picture(number, 20, 40)),
                ("masks", picture(number, 20, 40).point(lambda v: v > 99)),
            ):
                (tmp_path / "tree" / part / kind).mkdir(parents=True, exist_ok=True)
                pixels.save(tmp_path / "tree" / part / kind / f"{number}.png")
    words = (
        "dataset=masks", "dataset.channels=1", f"dataset.folder={tmp_path}/tree", "dataset.image_size=[16,24]",
        "dataset.classes=2", "dataset.val_size=4", "dataset.crop_padding=3", "model.width=2", "trainer.batch_size=8",
        "mixup=classmix", *TRAINER,
    )  # fmt: skip
    whole = compose(*words, "output_dir=whole")
    result = run(whole)
    assert 0 < json.loads(whole.folder.result.read_bytes())["test"]["last"]["miou"] <= 1
    assert result["task"] == "segmentation"
    assert rows(cut(compose, monkeypatch, *words)) == rows(whole)
    with pytest.raises(
        ConfigError, match=r"^dataset.image_size=\[16,20\]: must be a multiple of 8 in height and width"
    ):
        compose(*words, "dataset.image_size=[16,20]")


def test_boxes(tmp_path: Path, compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    voc.examined.cache_clear()
    folder = write_voc(tmp_path / "voc")
    words = (
        "dataset=voc", f"dataset.folder={folder}", "dataset.origin=0", "dataset.image_size=[32,48]", "model.width=2",
        "dataset.crop_padding=3", "trainer.batch_size=2", "mixup=ricap", "wandb.images=4", *TRAINER,
    )  # fmt: skip
    whole = compose(*words, "output_dir=whole")
    run(whole)
    test = json.loads(whole.folder.result.read_bytes())["test"]["last"]
    assert all(0 <= value <= 1 for value in test.values())
    assert rows(cut(compose, monkeypatch, *words)) == rows(whole)
    assert {pixels.shape for pixels, _ in mixed_sheet.tiles(whole.folder.mixed)} == {(4, 3, 32, 48)}
    with pytest.raises(ConfigError, match=r"^dataset.rotate=true: must be false: right angles need squares"):
        compose(*words, "dataset.rotate=true")
