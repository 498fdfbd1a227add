"""FCOS's loss with weights, written out point by point. What it has in common with RetinaNet: test_anchored.py."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from vicinal.models.fcos import FCOS

BOXES = torch.tensor(
    [[0.0, 4, 4, 40, 36, 0.7], [1, 30, 20, 62, 60, 0.3], [1, 6, 8, 20, 18, 0.7], [0, 50, 2, 60, 9, 0.0]]
)
"""The third lies inside the first, the second overlaps it, and the last is padding."""


@pytest.fixture(scope="module")
def net() -> FCOS:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FCOS(3, 64, 2).eval()


@pytest.fixture(scope="module")
def outputs(net: FCOS) -> dict[str, Tensor]:
    with torch.no_grad():
        made = net(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    noise = torch.Generator().manual_seed(2)
    return {**made, **{name: torch.randn(made[name].shape, generator=noise).abs() for name in net.heads}}


def test_each_point_has_the_weight_of_its_box(
    net: FCOS, outputs: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = BOXES[:3]
    matched = matched_by_torchvision(net, outputs, boxes, monkeypatch)
    assert {*matched} == {-1, 0, 1, 2}
    total, divisor = 0.0, 0.0
    logits, sides, central = (outputs[name][0].double().tolist() for name in net.heads)
    for point, (box, anchor) in enumerate(zip(matched, outputs["anchors"].tolist(), strict=True)):
        label, *corners, weight = boxes[box].tolist() if box >= 0 else (-1, 0, 0, 0, 0, 1.0)
        terms = sum(focal(logit, number == label) for number, logit in enumerate(logits[point]))
        if box >= 0:
            cell, x, y = anchor[2] - anchor[0], (anchor[0] + anchor[2]) / 2, (anchor[1] + anchor[3]) / 2
            left, top, right, bottom = x - corners[0], y - corners[1], corners[2] - x, corners[3] - y
            ratios = [min(one, other) / max(one, other) for one, other in ((left, right), (top, bottom))]
            p = 1 / (1 + math.exp(-central[point][0]))
            true = math.sqrt(math.prod(ratios))
            terms -= true * math.log(p) + (1 - true) * math.log(1 - p)
            away = [cell * side for side in sides[point]]
            terms += 1 - generalised_iou([x - away[0], y - away[1], x + away[2], y + away[3]], corners)
            divisor += weight
        total += weight * terms
    assert divisor > 1
    [ours] = net.losses(outputs, BOXES[None])
    assert float(ours) == pytest.approx(total / divisor, rel=1e-5)


def matched_by_torchvision(
    net: FCOS, outputs: dict[str, Tensor], boxes: Tensor, monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """The box of each point, as torchvision tells it to its head."""
    told: list[Tensor] = []
    monkeypatch.setattr(net.detector.head, "compute_loss", lambda *arguments: told.extend(arguments[3]))
    target: dict[str, Any] = {"boxes": boxes[:, 1:5], "labels": boxes[:, 0].long()}
    net.detector.compute_loss([target], outputs, [outputs["anchors"]], outputs["levels"].tolist())
    monkeypatch.undo()
    [matched] = told
    return matched.tolist()


def focal(logit: float, true: bool) -> float:
    """Equation 5 of arXiv 1708.02002, with its alpha of 0.25 and gamma of 2."""
    p = 1 / (1 + math.exp(-logit))
    return -0.25 * (1 - p) ** 2 * math.log(p) if true else -0.75 * p**2 * math.log(1 - p)


def generalised_iou(one: list[float], other: list[float]) -> float:
    """Algorithm 1 of arXiv 1902.09630."""

    def area(left: float, top: float, right: float, bottom: float) -> float:
        return max(right - left, 0) * max(bottom - top, 0)

    least, most = [*map(min, one, other)], [*map(max, one, other)]
    both = area(*most[:2], *least[2:])
    either = area(*one) + area(*other) - both
    hull = area(*least[:2], *most[2:])
    return both / either - (hull - either) / hull


def test_a_point_belongs_to_the_smallest_box_of_its_level(net: FCOS, outputs: dict[str, Tensor]) -> None:
    """Points of the first level, of 8 pixels, are 8 apart, and the first of them is at 0."""
    corners = torch.tensor([[0.0, 0, 33, 33], [11, 11, 21, 21], [20, 20, 26, 26]])
    matched = net.match(corners, outputs["anchors"])
    first = matched[:64].view(8, 8)  # rows and columns of points
    expected = torch.full((8, 8), -1)
    expected[1:4, 1:4] = 0  # less than 1.5 cells from its centre, and 0 < x, y < 33
    expected[2, 2] = 1  # the smaller one
    expected[3, 3] = 2
    assert torch.equal(first, expected)
    assert (matched[64:80] == -1).all()  # the second level takes boxes of which a side is more than 4 * 16 away
