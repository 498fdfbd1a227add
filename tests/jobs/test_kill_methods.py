"""A sweep over every strategy, killed inside a run of each, ends with the bits of the sweep that nobody touched."""

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny_data
from vicinal.config.schema import CONF
from vicinal.tracking.run_files import TIME_FIELDS

from ..forked import Forked

pytestmark = pytest.mark.slow

OTHERS = (
    "base",
    "transmix",
    "between_class",
    "ssmix",
    "classmix",
    "instance_paste",
    "c_mixup",
)  # for other networks and data
STRATEGIES = sorted(path.stem for path in (CONF / "mixup").glob("*.yaml") if path.stem not in OTHERS)
SMALL = (
    "trainer.epochs=2",
    "dataset.train_size=60",
    "dataset.val_size=20",
    "trainer.batch_size=20",
    "trainer.eval_batch_size=900",
    "trainer.precision=fp32",
    "trainer.threads=1",
    "trainer.checkpoint_every=1steps",
    "tracker=none",
    "seed=0,1",
    "mixup.alpha=0.5,1",
    "-m",
)
VIT = ("model=vit_tiny", "model.width=16", "optimizer=adamw", "optimizer.lr=0.001")


def runs(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in sorted(folder.glob("outputs/runs/*"))}


def in_work(folder: Path) -> set[str]:
    """The runs that have a checkpoint of some of their steps, and no result."""
    return {
        name
        for name, run in runs(folder).items()
        if (run / "checkpoint.pt").exists() and not (run / "result.json").exists()
    }


def start(words: tuple[str, ...], folder: Path) -> Forked:
    return Forked(words, folder, folder / "out.txt", {**os.environ, "OMP_NUM_THREADS": "1"})


def train(words: tuple[str, ...], folder: Path) -> None:
    assert start(words, folder).wait(600) == 0, (folder / "out.txt").read_text()[-2000:]


def kill(words: tuple[str, ...], folder: Path, draw: random.Random) -> None:
    """Run the command, and kill it inside a training of its own."""
    for _ in range(10):
        before = in_work(folder)
        process = start(words, folder)
        while not in_work(folder) - before:
            assert process.poll() is None, f"no training could be hit: {(folder / 'out.txt').read_text()[-2000:]}"
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.05))
        process.kill()
        process.wait(60)
        if in_work(folder) - before:  # else it was done in the meantime, and the next one's turn comes
            return
    pytest.fail("no training could be hit")


def record(run: Path) -> dict[str, Any]:
    """All that a run has found, without the times."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    result = json.loads((run / "result.json").read_text())
    kept = {key: result[key] for key in ("test", "val", "val_best", "status")}
    return {"rows": [{key: row[key] for key in row if key not in TIME_FIELDS} for row in rows], **kept}


@pytest.mark.parametrize("network", ["cnn", "vit"])
def test_every_strategy_goes_on_to_the_bit(network: str, tmp_path: Path) -> None:
    strategies, own = (STRATEGIES, ()) if network == "cnn" else (["transmix"], VIT)
    whole, struck, draw = tmp_path / "whole", tmp_path / "struck", random.Random(0)
    whole.mkdir()
    struck.mkdir()
    every = (f"mixup={','.join(strategies)}", *own, *SMALL)
    train(every, whole)
    for strategy in strategies:
        kill((f"mixup={strategy}", *own, *SMALL), struck, draw)
    assert len(in_work(struck)) == len(strategies)
    train(every, struck)
    assert len(runs(whole)) >= 2 * len(strategies)
    compare(whole, struck)


def compare(whole: Path, struck: Path) -> None:
    """Both folders have the same runs, to the bit."""
    expected, found = runs(whole), runs(struck)
    assert expected.keys() == found.keys()
    for name, run in expected.items():
        assert record(run) == record(found[name]), name
        old, new = (torch.load(each / "checkpoint.pt", weights_only=True)["model"] for each in (run, found[name]))
        assert all(torch.equal(old[key], new[key]) for key in old), name
        views = [[view.read_bytes() for view in sorted(each.glob("mixed.*"))] for each in (run, found[name])]
        assert views[0] == views[1], name
        assert ("mixing/lam" in record(run)["rows"][-1]) == ("-none-" not in name), name


TASKS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "segmentation": (
        ("dataset=dsb2018", "dataset.val_size=2", "model.width=2", "model.depth=2"),
        ("none", "input", "cutmix", "classmix", "instance_paste"),
    ),
    "detection": (
        ("dataset=bccd", "dataset.names=[bar,dot]", "dataset.image_size=64"),
        ("none", "input", "cutmix", "ricap"),
    ),
    "sound": (
        (
            "dataset=fsdd",
            "dataset.val_size=10",
            "dataset.length=400",
            "model.widths=[2]",
            "model.mels=8",
            "trainer.epochs=8",
        ),
        ("none", "input", "between_class", "logmel/cutmix", "logmel/specmix"),
    ),
    "text": (("dataset=trec", "dataset.val_size=12"), ("none", "manifold", "ssmix")),
    "regression": (("dataset=diabetes",), ("none", "input", "c_mixup")),
    "labels": (
        ("dataset=table", "dataset.task=multilabel", "dataset.target=[large]", "trainer.epochs=30"),
        ("none", "input", "manifold"),
    ),
}
"""By kind of target or input: words, and strategies that make sense for it; long enough to be hit on a busy machine."""
SHORT = (
    *("trainer.epochs=2", "trainer.batch_size=4", "trainer.precision=fp32", "trainer.threads=1", "tracker=none"),
    *("trainer.checkpoint_every=1steps", "scheduler=constant", "seed=0", "-m"),
)


@pytest.mark.parametrize("kind", TASKS)
def test_every_task_goes_on_to_the_bit(kind: str, tmp_path: Path) -> None:
    own, strategies = TASKS[kind]
    if kind == "detection":
        pytest.importorskip("faster_coco_eval")
    whole, struck, draw = tmp_path / "whole", tmp_path / "struck", random.Random(0)
    data = tiny_data.write(tmp_path / "data")
    for folder in (whole, struck):
        folder.mkdir()
    words = (*SHORT, f"dataset.root={data}", *own)
    every = (f"mixup={','.join(strategies)}", *words)
    train(every, whole)
    for strategy in draw.sample(strategies, 2):
        kill((f"mixup={strategy}", *words), struck, draw)
    assert len(in_work(struck)) == 2
    train(every, struck)
    assert len(runs(whole)) == len(strategies)
    compare(whole, struck)
