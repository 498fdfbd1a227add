"""Accuracy by class against scikit-learn's recall, and where it is shown."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import recall_score

from vicinal.data import RunData, Samples
from vicinal.experiment import Experiment
from vicinal.jobs.run import run
from vicinal.tasks import CLASSIFICATION, Task
from vicinal.tasks.metric import Totals

GROUPS = ("acc_many", "acc_medium", "acc_few")


def bound(counts: list[int]) -> Task:
    """The task of a training on so many images of each class."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    part = Samples(torch.empty(len(labels), 1, 0, 0, dtype=torch.uint8), labels)
    data = RunData(part, None, part, tuple(map(str, range(len(counts)))), (0.0,), (1.0,))
    return CLASSIFICATION.bind(data, uneven=True)


def classes_of(counts: list[int]) -> list[tuple[int, ...]]:
    task = bound(counts)
    return [task.metric(key).classes for key in GROUPS]  # type: ignore[attr-defined]


def measure(counts: list[int], predicted: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """All metrics of predictions, in two batches."""
    task = bound(counts)
    metrics = Totals(task.computed, torch.device("cpu"))
    for chosen in (slice(0, 1), slice(1, None)):
        metrics.update(task.read(F.one_hot(predicted[chosen], len(counts)).float()), labels[chosen])
    return metrics.compute()


def test_thirds_of_the_classes() -> None:
    assert classes_of([5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]) == [(0, 1, 2), (3, 4, 5, 6), (7, 8, 9)]
    assert classes_of([3, 9, 1, 5]) == [(1,), (3, 0), (2,)]
    assert classes_of([7, 7, 7]) == [(0,), (1,), (2,)]
    assert list(map(len, classes_of([1] * 100))) == [33, 34, 33]


def test_two_classes_have_none_between_them() -> None:
    assert classes_of([2, 8]) == [(1,), (), (0,)]
    found = measure([2, 8], torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]))
    assert (found["acc_many"], found["acc_few"]) == (0.5, 1.0)
    assert "acc_medium" not in found


@given(
    classes=st.integers(3, 12),
    samples=st.integers(2, 40),
    counts=st.lists(st.integers(1, 50), min_size=12, max_size=12),
    seed=st.integers(0, 99),
)
def test_each_third_has_the_mean_recall_of_its_classes(
    classes: int, samples: int, counts: list[int], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    predicted, labels = torch.randint(classes, (2, samples), generator=generator)
    found = measure(counts[:classes], predicted, labels)
    for key, group in zip(GROUPS, classes_of(counts[:classes]), strict=True):
        present = [label for label in group if label in labels]
        expected = recall_score(labels, predicted, labels=present, average="macro") if present else 0.0
        assert found[key] == pytest.approx(expected)


def test_only_a_training_with_imbalance_has_the_thirds(compose: Callable[..., Experiment]) -> None:
    words = ("model=mlp", "model.hidden=[4]", "trainer.epochs=1", "dataset.train_size=200")
    balanced = run(compose(*words))["test"]["last"]
    experiment = compose(*words, "dataset.imbalance=exponential", "dataset.label_noise=0.5")
    result = run(experiment)["test"]["last"]
    assert balanced.keys() == {metric.key for metric in CLASSIFICATION.metrics} - {*GROUPS}
    assert result.keys() == {metric.key for metric in CLASSIFICATION.metrics}
    many, medium, few = (result[key] for key in GROUPS)
    assert result["balanced_acc"] == pytest.approx((3 * many + 4 * medium + 3 * few) / 10)
