"""Average precision against torchmetrics and by hand, and what the task says of boxes."""

import math
from typing import Any

import pytest
import torch
from torchmetrics.detection import MeanAveragePrecision

from vicinal.data import RunData, Samples
from vicinal.errors import UserError
from vicinal.mixing import MixPlan
from vicinal.models.cnn import CNN
from vicinal.tasks import DETECTION, average_precision
from vicinal.tasks.average_precision import class_metrics, keys_of_classes

NAMES = ("red cell", "white cell", "other")


def data(targets: torch.Tensor, names: tuple[str, ...] = NAMES) -> RunData:
    part = Samples(torch.zeros(len(targets), 3, 32, 32, dtype=torch.uint8), targets)
    return RunData(part, None, part, names, None, None)


def boxes(*rows: tuple[float, ...]) -> torch.Tensor:
    made = torch.zeros(1, 4, 6)
    for place, row in enumerate(rows):
        made[0, place] = torch.tensor(row)
    return made


def random_boxes(batch: int, seed: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """True boxes, and detections near them with scores, and some elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(batch, 6, 2, generator=generator) * 20
    corners = torch.cat([first, first + 4 + 8 * torch.rand(batch, 6, 2, generator=generator)], dim=2)
    label = torch.randint(classes, (batch, 6, 1), generator=generator).float()
    there = (torch.rand(batch, 6, 1, generator=generator) < 0.7).float()
    near = corners + torch.randn(corners.shape, generator=generator)
    scores = torch.rand(batch, 6, 1, generator=generator) * (torch.rand(batch, 6, 1, generator=generator) < 0.8)
    return torch.cat([label, corners, there], dim=2), torch.cat([label, near, scores], dim=2)


def test_the_metrics_are_those_of_torchmetrics() -> None:
    true, found = random_boxes(9, 0, 2)  # the third class has no box
    task = DETECTION.bind(data(true), uneven=False)
    evaluator = task.evaluator(torch.device("cpu"))
    theirs = MeanAveragePrecision(class_metrics=True, backend="faster_coco_eval")
    strict = MeanAveragePrecision(class_metrics=True, backend="faster_coco_eval", iou_thresholds=[0.5])
    for few in torch.arange(9).split(4):
        evaluator.update(found[few], true[few])
        for metric in (theirs, strict):
            metric.update(
                [
                    {"boxes": r[:, 1:5], "scores": r[:, 5], "labels": r[:, 0].int()}
                    for r in (r[r[:, 5] > 0] for r in found[few])
                ],
                [{"boxes": r[:, 1:5], "labels": r[:, 0].int()} for r in (r[r[:, 5] > 0] for r in true[few])],
            )
    ours, (all_ious, half) = evaluator.compute(), (metric.compute() for metric in (theirs, strict))
    assert 0.05 < ours["map"] < 0.95
    assert list(ours) == [metric.key for metric in task.computed]
    assert ours == pytest.approx(
        {
            "map": float(all_ious["map"]),
            "ap50": float(all_ious["map_50"]),
            "ap_red_cell": float(all_ious["map_per_class"][0]),
            "ap_white_cell": float(all_ious["map_per_class"][1]),
            "ap_other": 0.0,
            "ap50_red_cell": float(half["map_per_class"][0]),
            "ap50_white_cell": float(half["map_per_class"][1]),
            "ap50_other": 0.0,
        }
    )


def test_one_class_by_hand() -> None:
    """Right, wrong, right by score: precision 1 up to recall 1/3, 2/3 up to 2/3, 0 beyond, at 101 points."""
    true = boxes((0, 0, 0, 10, 10, 1), (0, 10, 10, 20, 20, 1), (0, 20, 20, 30, 30, 1))
    found = boxes((0, 0, 0, 10, 10, 0.9), (0, 11, 0, 20, 9, 0.8), (0, 10, 10, 20, 20, 0.7), (1, 0, 0, 9, 9, 0.6))
    evaluator = DETECTION.bind(data(true), uneven=False).evaluator(torch.device("cpu"))
    evaluator.update(found, true)
    values = evaluator.compute()
    expected = (34 * 1 + 33 * 2 / 3) / 101
    assert values["ap50_red_cell"] == pytest.approx(expected)
    assert values["map"] == pytest.approx(expected)  # only one class has a box
    assert values["ap50"] == pytest.approx(expected)
    assert values["ap50_white_cell"] == 0


@pytest.mark.parametrize("nothing", ["found", "true", "both"])
def test_nothing_is_zero_and_not_nan(nothing: str) -> None:
    true, found = random_boxes(2, 0, 2)
    if nothing != "found":
        true = torch.zeros_like(true)
    if nothing != "true":
        found = torch.zeros_like(found)
    evaluator = DETECTION.bind(data(true), uneven=False).evaluator(torch.device("cpu"))
    evaluator.update(found, true)
    assert set(evaluator.compute().values()) == {0.0}


def test_keys_of_classes_are_words_and_unique() -> None:
    assert keys_of_classes(["RBC", "a b/c", "Æ1"]) == ["rbc", "a_b_c", "æ1"]
    assert keys_of_classes(["a b", "a-b"]) == ["class0", "class1"]
    assert keys_of_classes(["???", "b"]) == ["class0", "class1"]
    assert class_metrics([str(number) for number in range(11)]) == []


GOOD = (0.0, 1.0, 2.0, 8.0, 9.0, 1.0)


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, 3), (0, 0.5), (0, -1), (1, -1), (3, 33), (4, 40), (3, 1), (4, math.nan), (5, 0.5), (5, -1)],
)
def test_impossible_boxes_are_refused(place: int, value: float) -> None:
    row = [*GOOD]
    DETECTION.refuse(data(boxes(GOOD)), (3, 32, 32))
    row[place] = value
    with pytest.raises(ValueError, match="task must fit the targets: detection needs boxes of a known class"):
        DETECTION.refuse(data(boxes(tuple(row))), (3, 32, 32))


def test_other_targets_are_refused() -> None:
    for targets, reason in (
        (torch.zeros(3, dtype=torch.int64), r"needs \(N, M, 6\), got \(3,\) train"),
        (torch.zeros(3, 2, 5), r"needs \(N, M, 6\), got \(3, 2, 5\) train"),
        (torch.zeros(3, 2, 6), "needs boxes in train, got none"),
    ):
        with pytest.raises(ValueError, match=reason):
            DETECTION.refuse(data(targets), (3, 32, 32))
    with pytest.raises(ValueError, match="detection needs images"):
        DETECTION.refuse(data(boxes(GOOD)), (5,))


def test_a_network_without_boxes_and_a_missing_package_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"model must have the methods losses and decode for dataset\.task=detection"):
        DETECTION.check(CNN(1, 8, 2))
    monkeypatch.setattr(average_precision, "NEEDED", ("torchmetrics", "no_such_package"))
    with pytest.raises(
        UserError, match=r"needs no_such_package, which is not installed: pip install 'vicinal\[detection\]'"
    ):
        DETECTION.check(CNN(1, 8, 2))


def test_captions_count_the_boxes() -> None:
    sets = [boxes((0, 0, 0, 9, 9, 1), (0, 1, 1, 9, 9, 1), (2, 1, 1, 9, 9, 1)), boxes()]
    members: list[tuple[float, Any]] = [(0.73, sets[0][0].tolist()), (0.27, sets[1][0].tolist())]
    assert DETECTION.caption(members, NAMES) == "0.73 (2 red cell, 1 other) + 0.27 (nothing)"
    assert DETECTION.caption(members[:1], NAMES) == "2 red cell, 1 other"


def test_the_panel_draws_boxes_where_they_are() -> None:
    targets = torch.cat([boxes((0, 4, 4, 20, 20, 1)), boxes((1, 10, 2, 30, 12, 1))])
    plan = MixPlan(torch.tensor([1.0, 1.0]), torch.tensor([1, 0]), active=False)
    shown = DETECTION.tiles(torch.zeros(2, 4, 1, 32, 32, dtype=torch.uint8), plan, targets)
    assert shown.shape == (2, 4, 3, 32, 32)
    red, lime = (torch.tensor(color)[:, None, None] for color in ((255, 0, 0), (0, 255, 0)))
    for tile, color, (x1, y1, x2, y2) in (
        (0, red, (4, 4, 20, 20)),
        (1, lime, (10, 2, 30, 12)),
        (3, red, (4, 4, 20, 20)),
    ):
        edge = torch.zeros(32, 32, dtype=torch.bool)
        edge[y1, x1 : x2 + 1] = edge[y2, x1 : x2 + 1] = True
        edge[y1 : y2 + 1, x1] = edge[y1 : y2 + 1, x2] = True
        assert torch.equal(shown[0, tile], torch.where(edge, color, 0).to(torch.uint8))
    assert not shown[:, 2].any()
    mixed = DETECTION.tiles(
        torch.zeros(2, 4, 3, 32, 32, dtype=torch.uint8), MixPlan(plan.lam * 0.6, plan.partner), targets
    )
    assert mixed[0, 3, 0].any()
    assert mixed[0, 3, 1].any()
