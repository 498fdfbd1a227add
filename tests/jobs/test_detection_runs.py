"""Whole runs on images with boxes: the same to the bit after a kill, finite, and with a panel that shows the boxes."""

import json
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.data.box_files import write_voc
from vicinal.data import voc
from vicinal.experiment import Experiment
from vicinal.jobs.run import run
from vicinal.runs import mixed_sheet
from vicinal.tracking.run_files import TIME_FIELDS
from vicinal.training.learner import Learner

Compose = Callable[..., Experiment]
EPOCHS = 2


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    monkeypatch.chdir(tmp_path)
    voc.examined.cache_clear()
    folder = write_voc(tmp_path / "voc")
    data = (f"dataset.folder={folder}", "dataset.origin=0", "dataset.image_size=32", "dataset.crop_padding=3")
    trainer = (f"trainer.epochs={EPOCHS}", "trainer.batch_size=2", "trainer.precision=fp32", "trainer.threads=1")
    return ("dataset=voc", *data, "model.width=2", *trainer, "tracker=csv")


def rows_of(experiment: Experiment) -> list[dict[str, Any]]:
    lines = experiment.folder.metrics.read_text().splitlines()
    assert not any("NaN" in line or "Infinity" in line for line in lines)
    rows = [json.loads(line) for line in lines]
    return [{name: value for name, value in row.items() if name not in TIME_FIELDS} for row in rows]


@pytest.mark.parametrize(
    "mixing", ["mixup=ricap", "mixup=input trainer.loss=unweighted mixup.clean_weight=1", "mixup=manifold"]
)
def test_a_run_that_was_cut_is_the_run_that_was_not(
    mixing: str, words: tuple[str, ...], compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = (compose(*words, *mixing.split(), f"output_dir={name}") for name in ("whole", "cut"))
    run(whole)
    step, steps = Learner.step, 0

    def stopping(*args: Any, **keys: Any) -> Any:
        nonlocal steps
        steps += 1
        made = step(*args, **keys)
        if steps == 3:  # the first of the second epoch
            signal.raise_signal(signal.SIGTERM)
        return made

    monkeypatch.setattr(Learner, "step", stopping)
    with pytest.raises(SystemExit):
        run(cut)
    assert cut.folder.completed() is None
    run(cut)
    assert rows_of(cut) == rows_of(whole)
    assert cut.folder.checkpoint.read_bytes() == whole.folder.checkpoint.read_bytes()


def test_a_run_records_the_metrics_of_each_class_and_nothing_that_is_no_number(
    words: tuple[str, ...], compose: Compose
) -> None:
    experiment = compose(*words, "mixup=cutmix", "wandb.images=4", "dataset.train_size=4", "dataset.val_size=1")
    run(experiment)
    result = json.loads(experiment.folder.result.read_bytes())
    keys = ["map", "ap50", "ap_bar", "ap_dot", "ap50_bar", "ap50_dot"]
    assert [metric["key"] for metric in result["task"]["metrics"]] == keys
    assert result["task"]["selection"] == "map"
    last = rows_of(experiment)[-1]
    for part in ("val", "test"):
        assert all(0 <= last[f"{part}/{key}"] <= 1 for key in keys)
    assert math.isfinite(last["train/loss"])
    assert not [name for name in last if name.startswith("train_clean/")]
    assert sum(last["mixing/lam"]) == 4
    sheet = mixed_sheet.tiles(experiment.folder.mixed)
    assert all(tiles.shape == (4, 3, 32, 32) for tiles, _ in sheet)
    assert all("bar" in caption and "dot" in caption for _, caption in sheet)
