"""Runs on images and masks: resumed to the bit, no number that is none, a panel with maps, statistics of mixing."""

import json
import math
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.jobs.run import run
from vicinal.runs.mixed_sheet import tiles
from vicinal.tasks import SEGMENTATION
from vicinal.tracking.run_files import TIME_FIELDS
from vicinal.training.learner import Learner

WORDS = (
    "dataset=masks", "dataset.channels=1", "dataset.image_size=16", "dataset.classes=3", "dataset.val_size=4",
    "dataset.rotate=true", "dataset.crop_padding=3", "dataset.instances=true", "model.width=2", "model.depth=2",
    "trainer.epochs=2", "trainer.batch_size=8", "trainer.precision=fp32", "trainer.threads=1",
)  # fmt: skip
STRATEGIES = ("none", "input", "cutmix", "manifold", "classmix", "instance_paste", "smoothmix", "ricap")
Compose = Callable[..., Experiment]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Bright squares of two classes on dark ground, three in each image."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for part, count in (("train", 24), ("test", 6)):
        for number in range(count):
            image = rng.integers(0, 60, (16, 16), dtype=np.uint8)
            layers = {"images": image, "masks": np.zeros_like(image), "instances": np.zeros_like(image)}
            for instance in (1, 2, 3):
                (y, x), label = rng.integers(0, 12, 2), int(rng.integers(1, 3))
                square = (slice(y, y + 5), slice(x, x + 5))
                image[square] = 90 * label
                layers["masks"][square], layers["instances"][square] = label, instance
            layers["masks"][0] = 255
            for name, pixels in layers.items():
                place = tmp_path / "tree" / part / name
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(place / f"{number}.png")
    return tmp_path / "tree"


def rows(experiment: Experiment) -> list[dict[str, Any]]:
    return [json.loads(line) for line in experiment.folder.metrics.read_text().splitlines()]


def left(experiment: Experiment) -> list[Any]:
    """What a run leaves, but times."""
    files = experiment.folder
    timeless = re.sub(rf', "({"|".join(TIME_FIELDS)})": [^,}}]+', "", files.metrics.read_text())
    return [timeless, files.checkpoint.read_bytes(), json.loads(files.result.read_bytes())["test"]]


LINES = [
    ("mixup=cutmix mixup.depth=encoder1",
     "mixup.depth=encoder1: a mask is drawn for one tensor, and it returns another thing; mixup=manifold blends all "
     "that it returns; allowed: input"),
    ("mixup=one_of mixup.strategies.cutmix.depth=encoder1", "mixup.strategies.cutmix.depth=encoder1: a mask is drawn "),
    ("dataset.classes=256", "dataset.classes=256: must be at most 255: 255 marks pixels that do not count"),
    ("dataset.classes=300", "dataset.classes=300: must be at most 255: 255 marks pixels that do not count"),
    ("mixup=c_mixup", "mixup.partner=label_kernel: must be a rule without distances: they are of the numbers of a "),
    ("mixup=classmix mixup.labels=drawn", "mixup.labels=drawn: must be area, majority, remix, constant for ClassMix"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), LINES, ids=[words for words, _ in LINES])
def test_what_does_not_fit_is_refused_in_a_line(folder: Path, compose: Compose, words: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        compose(*WORDS, f"dataset.folder={folder}", *words.split())
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_as_many_classes_as_a_map_can_have(folder: Path, compose: Compose) -> None:
    assert compose(*WORDS, f"dataset.folder={folder}", "dataset.classes=255").sizes.classes == 255
    with pytest.raises(ValueError, match=r"^classes must be at most 255: 255 marks pixels that do not count, got 256$"):
        SEGMENTATION.check_classes(256)


@pytest.mark.parametrize("strategy", ["instance_paste trainer.loss=ce_dice", "manifold trainer.loss=dice"])
def test_an_interrupted_run_is_the_run_that_was_not(
    folder: Path, compose: Compose, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    words = (*WORDS, f"dataset.folder={folder}", *f"mixup={strategy}".split())
    whole = compose(*words, "output_dir=whole")
    run(whole)
    original, steps = Learner.step, []

    def step(self: Learner, *args: Any) -> Any:
        output = original(self, *args)
        steps.append(output)
        if len(steps) == 4:  # in the second epoch
            signal.raise_signal(signal.SIGTERM)
        return output

    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(SystemExit):
        run(compose(*words, "output_dir=parts"))
    resumed = compose(*words, "output_dir=parts")
    run(resumed)
    assert len(steps) == 6
    assert left(resumed) == left(whole)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_a_run_records(folder: Path, compose: Compose, strategy: str) -> None:
    experiment = compose(*WORDS, f"dataset.folder={folder}", f"mixup={strategy}")
    result = run(experiment)
    assert result["task"] == "segmentation"
    for row in rows(experiment):
        numbers = [value for value in row.values() if not isinstance(value, list)]
        assert all(math.isfinite(number) for number in numbers)
        assert {"train/loss", "train/pixel_acc", "train_clean/loss", "val/miou"} <= row.keys()
        if strategy != "none":
            assert sum(row["mixing/lam"]) == 20
            assert 0 <= row["mixing/lam_mean_partner"] <= 1
    sheet = tiles(experiment.folder.path / "mixed.png")
    assert {pixels.shape for pixels, _ in sheet} == {(6, 3, 16, 16)}
    if strategy == "instance_paste":
        for pixels, caption in sheet:
            own, partner, mask, mixed, own_map, mixed_map = pixels
            kept = mask[0] > 0
            assert (mixed[:, kept] == own[:, kept]).all()
            assert (mixed[:, ~kept] == partner[:, ~kept]).all()
            assert (mixed_map[:, kept] == own_map[:, kept]).all()
            assert re.fullmatch(r"\d\.\d\d \(.+\) \+ \d\.\d\d \(.+\)|(class \d( \d+%)?(, )?)+", caption)
