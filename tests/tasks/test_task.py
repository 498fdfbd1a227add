"""What training and tables read of a task: its metrics, their directions, and no torch before it is needed."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vicinal import training
from vicinal.tasks import CLASSIFICATION, TASKS, MeanMetric, Metric
from vicinal.tasks.metric import Totals
from vicinal.training.state import History


def test_keys_are_unique_and_name_metrics() -> None:
    for name, task in TASKS.items():
        keys = [metric.key for metric in task.metrics]
        assert task.name == name
        assert len(set(keys)) == len(keys)
        assert {task.selection, task.score_key, task.loss_key} - {None} <= set(keys)
    with pytest.raises(KeyError):
        CLASSIFICATION.metric("acc")


@pytest.mark.parametrize(("better", "best"), [("higher", 2), ("lower", 3)])
def test_the_best_epoch_is_that_of_the_selection_in_its_direction(better: str, best: int) -> None:
    own = MeanMetric("own", "own", "", better, lambda outputs, targets: targets)  # type: ignore[arg-type]
    task = replace(CLASSIFICATION, metrics=(own,), selection="own")
    history = History()
    for value in (0.5, 0.7, 0.2, 0.2, 0.7):
        history.add({"val/own": value, "val/acc1": 1 - value}, torch.nn.Linear(1, 1), task)
    assert history.best_epoch == best


class Ratio(Metric):
    """A quotient of sums, which is no mean over the samples."""

    def sums(self, outputs: torch.Tensor, targets: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return torch.stack([(outputs * targets).sum(), (outputs + targets).sum()]).to(dtype)

    def value(self, totals: torch.Tensor, count: int) -> torch.Tensor:
        return totals[0] / totals[1]


def test_any_metric_is_computed_from_sums_over_the_batches() -> None:
    outputs, targets = torch.randn(2, 50, generator=torch.Generator().manual_seed(0)).abs()
    square = MeanMetric("square", "", "", "lower", lambda outputs, targets: (outputs - targets) ** 2)
    metrics = Totals((Ratio("ratio", "", "", "higher"), square), torch.device("cpu"))
    for start in range(0, 50, 7):
        metrics.update(outputs[start : start + 7], targets[start : start + 7])
    ratio = float((outputs * targets).sum() / (outputs + targets).sum())
    expected = {"ratio": ratio, "square": float(((outputs - targets) ** 2).mean())}
    assert metrics.compute() == pytest.approx(expected, rel=1e-6)


def test_tables_read_tasks_without_torch() -> None:
    code = "import json, sys; from vicinal.tasks import TASKS; json.dump([*sys.modules], sys.stdout)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "numpy"}.isdisjoint(json.loads(ended.stdout))


def test_training_names_no_metric() -> None:
    keys = "|".join(metric.key for task in TASKS.values() for metric in task.metrics)
    for file in Path(training.__path__[0]).glob("*.py"):
        assert not re.search(rf"[\"'/]({keys})[\"']", file.read_text(encoding="utf-8")), file
