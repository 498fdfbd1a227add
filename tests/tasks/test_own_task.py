"""A task of one's own, from a file outside the package: trained, selected by its metric, reported without its code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vicinal.analysis.load import load_runs
from vicinal.models.mlp import MLP
from vicinal.report.report import finish
from vicinal.tasks import task_named

MODULE = '''
from __future__ import annotations

import torch

from vicinal.data import Samples, Source
from vicinal.tasks import MeanMetric, Task


def distance(outputs, targets):
    """Pixels between the found and the true point of each sample."""
    return (outputs - targets).norm(dim=1)


class Keypoint(Task):
    """One point per image, (N, 2): row and column."""

    losses = ("l1",)

    def loss(self, settings, counts, epoch, model=None):
        def l1(plan, outputs, targets, weight=None):
            losses = (outputs.float() - plan.mix_targets(targets)).abs().sum(dim=1)
            return losses.mean() if weight is None else (weight * losses).mean()

        return l1

    def read(self, outputs, model=None):
        return outputs.float()

    def score(self, plan, outputs, targets):
        return (distance(outputs.float(), plan.mix_targets(targets)) < 1).float()

    def caption(self, members, class_names):
        return " and ".join(f"{weight:.2f} at {row:.0f}, {column:.0f}" for weight, (row, column) in members)


def keypoint(near: float = 1.0) -> Task:
    found = MeanMetric("near", "points that are found", "%", "higher", lambda *both: distance(*both) < near)
    apart = MeanMetric("apart", "distance to the point", "px", "lower", distance, short="distance")
    return Keypoint("keypoint", (found, apart), "apart", score_key="near")


def points() -> Source:
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(8, (72, 2), generator=generator)
    images = torch.zeros(72, 1, 8, 8, dtype=torch.uint8)
    images[torch.arange(72), 0, places[:, 0], places[:, 1]] = 255
    targets = places.float()
    return Source(Samples(images[:60], targets[:60]), Samples(images[60:], targets[60:]), ("row", "column"))
'''
DATASET = """
defaults: [base]
_target_: my_points.points
task: {_target_: my_points.keypoint, near: 1.5}
channels: 1
image_size: 8
classes: 2
val_size: 12
augment: false
"""
WORDS = ("dataset=points", "model=mlp", "model.hidden=[16]", "trainer.epochs=3", "trainer.threads=1", "output_dir=out")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the module and the option, which are there for the trainings and not for the report."""
    (tmp_path / "my/dataset").mkdir(parents=True)
    (tmp_path / "my/dataset/points.yaml").write_text(DATASET)
    (tmp_path / "code").mkdir()
    (tmp_path / "code/my_points.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path / "code")
    yield tmp_path
    sys.modules.pop("my_points", None)


Train = Callable[..., tuple[int, str, str]]


def test_trained_selected_and_reported(
    own: Path, train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, stderr = train("--config-dir", "my", *WORDS, "mixup=none,input,cutmix", "trainer.precision=fp32", "-m")
    assert code == 0, stderr
    import my_points  # type: ignore[import-not-found]

    source = my_points.points()
    (sweep,) = (own / "out/sweeps").iterdir()
    runs = load_runs(sweep).runs
    assert [run.completed for run in runs] == [True] * 3
    for run in runs:
        result = json.loads((run.folder / "result.json").read_bytes())
        rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
        assert result["task"]["name"] == "keypoint"
        assert result["best_epoch"] == 1 + int(np.argmin([row["val/apart"] for row in rows]))
        assert {"train/near", "train_clean/near"} <= rows[0].keys()
        assert result["test"]["last"] == pytest.approx(again(run.folder, source), rel=1e-5)

    monkeypatch.setattr(sys, "path", [path for path in sys.path if Path(path) != own / "code"])
    del sys.modules["my_points"], my_points
    (own / "code/my_points.py").unlink()
    for file in (sweep / "report").iterdir():
        file.unlink()
    capsys.readouterr()
    finish(sweep)
    assert "my_points" not in sys.modules
    task = task_named(runs[0].task)
    assert (task.selected.unit, task.selected.better, task.metric("near").percent) == ("px", "lower", True)
    printed = " ".join(capsys.readouterr().out.split())
    assert "distance to the point" in printed
    page = (sweep / "report/report.html").read_text(encoding="utf-8")
    assert "points that are found" in page
    table = (sweep / "report/summary.csv").read_text().splitlines()
    assert len(table) == 4
    assert "test/last mean" in table[0]
    means = [run.test["last"]["apart"] for run in runs]  # type: ignore[index]
    for mean in means:
        assert any(f"{mean}" in line for line in table[1:])


def again(folder: Path, source: object) -> dict[str, float]:
    """Return the test scores of the stored weights, computed by numpy."""
    stored = torch.load(folder / "checkpoint.pt", weights_only=True)
    model = MLP(1, 8, 2, hidden=[16]).eval()
    model.load_state_dict(stored["model"])
    images = source.train.inputs[split_of(source)].double() / 255  # type: ignore[attr-defined]
    mean, std = images.mean(), images.std(correction=0)
    with torch.no_grad():
        found = model(((source.test.inputs / 255 - mean) / std).float()).numpy()  # type: ignore[attr-defined]
    apart = np.linalg.norm(found - source.test.targets.numpy(), axis=1)  # type: ignore[attr-defined]
    return {"near": float((apart < 1.5).mean()), "apart": float(apart.mean())}


def split_of(source: object) -> torch.Tensor:
    """Return the training rows that are left by a random cut of 12."""
    order = np.random.RandomState(0).permutation(60)
    return torch.from_numpy(np.sort(order[12:]))


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("{_target_:my_points.distance}", "dataset.task.outputs=???: is missing; my_points.distance needs it"),
        ("{_target_:my_points.nothing}", "dataset.task._target_=my_points.nothing: must be the path of a class or"),
        ("{_target_:builtins.dict}", "dataset.task={_target_:builtins.dict,near:1.5}: must be a name, or"),
        ("keypoint", "dataset.task=keypoint: allowed: classification, multilabel, regression"),
    ],
)  # fmt: skip
def test_a_task_that_is_none_is_refused(own: Path, train: Train, task: str, message: str) -> None:
    code, _, stderr = train("--config-dir", "my", *WORDS, f"dataset.task={task}")
    assert (code, stderr.count("\n")) == (1, 1), stderr
    assert message in stderr
    assert not (own / "out").exists()
