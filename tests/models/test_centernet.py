"""CenterNet's loss written out cell by cell, its radius by moved corners, and what is found in a perfect map."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_iou

from vicinal.mixing import MixPlan
from vicinal.models import block_names
from vicinal.models.centernet import CenterNet, _radius
from vicinal.tasks.detection import DetectionLoss

CLASSES, CELLS = 2, 4
BOXES = torch.tensor(
    [
        [[0.0, 1, 2, 8, 7, 1], [1, 5, 5, 16, 15, 0.3], [0, 6, 4, 10, 12, 0.6], [0, 0, 0, 0, 0, 0]],
        [[1.0, 0, 0, 4, 4, 0.7], [1, 8, 8, 16, 16, 1], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]],
        [[0.0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]],
    ]
)


def written_out(outputs: torch.Tensor, boxes: torch.Tensor) -> list[float]:
    """Equations 1 to 4 of arXiv 1904.07850, one cell and one object at a time."""
    losses = []
    for image, rows in zip(outputs.double().tolist(), boxes.tolist(), strict=True):
        there = [row for row in rows if row[5] > 0]
        total = 0.0
        for label in range(CLASSES):
            for y in range(CELLS):
                for x in range(CELLS):
                    heat = 0.0
                    for own, x1, y1, x2, y2, _ in there:
                        if own == label:
                            extent = torch.tensor([x2 - x1, y2 - y1], dtype=torch.float64) / 4
                            sigma = (2 * float(_radius(extent)) + 1) / 6
                            cx, cy = math.floor((x1 + x2) / 8), math.floor((y1 + y2) / 8)
                            heat = max(heat, math.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2)))
                    p = 1 / (1 + math.exp(-image[label][y][x]))
                    if heat < 1:
                        total -= (1 - heat) ** 4 * p**2 * math.log(1 - p)
        for label, x1, y1, x2, y2, weight in there:
            cx, cy = (x1 + x2) / 8, (y1 + y2) / 8
            x, y = math.floor(cx), math.floor(cy)
            p = 1 / (1 + math.exp(-image[int(label)][y][x]))
            width, height, dx, dy = (image[CLASSES + part][y][x] for part in range(4))
            total -= weight * (1 - p) ** 2 * math.log(p)
            total += weight * 0.1 * (abs(width - (x2 - x1) / 4) + abs(height - (y2 - y1) / 4))
            total += weight * (abs(dx - (cx - x)) + abs(dy - (cy - y)))
        losses.append(total / max(1.0, sum(row[5] for row in there)))
    return losses


def model() -> CenterNet:
    return CenterNet(1, 16, CLASSES, width=2)


def test_the_loss_is_that_of_the_paper_with_weights() -> None:
    outputs = torch.randn(3, CLASSES + 4, CELLS, CELLS, generator=torch.Generator().manual_seed(0))
    assert model().losses(outputs, BOXES).tolist() == pytest.approx(written_out(outputs, BOXES), rel=1e-5)


def test_gradients_are_those_of_finite_differences() -> None:
    outputs = torch.randn(3, CLASSES + 4, CELLS, CELLS, generator=torch.Generator().manual_seed(1))
    outputs.requires_grad_()
    net = model()
    (gradient,) = torch.autograd.grad(net.losses(outputs, BOXES).sum(), outputs)
    direction = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(2))
    step = 1e-3
    sums = [sum(written_out((outputs + sign * step * direction).detach(), BOXES)) for sign in (1, -1)]
    assert float((gradient * direction).sum()) == pytest.approx((sums[0] - sums[1]) / (2 * step), rel=1e-3)


def test_the_loss_of_a_blend_is_that_of_all_boxes_with_lambda_as_weight() -> None:
    outputs = torch.randn(2, CLASSES + 4, CELLS, CELLS, generator=torch.Generator().manual_seed(3))
    targets = torch.where(BOXES[:2, :, 5:] > 0, BOXES[:2], 0.0)
    targets[..., 5] = (targets[..., 5] > 0).float()
    plan = MixPlan(torch.tensor([0.7, 0.7]), torch.tensor([1, 0]))
    for weighted in (True, False):
        both = targets.repeat(1, 2, 1)
        both[:, 4:] = targets.flip(0)
        if weighted:
            both[:, :4, 5] *= 0.7
            both[:, 4:, 5] *= 0.3
        loss = DetectionLoss(model(), 16, weighted)(plan, outputs, targets)
        assert float(loss) == pytest.approx(sum(written_out(outputs, both)) / 2, rel=1e-5)
        weight = torch.tensor([2.0, 0.5])
        expected = sum(w * each for w, each in zip(weight.tolist(), written_out(outputs, both), strict=True)) / 2
        assert float(DetectionLoss(model(), 16, weighted)(plan, outputs, targets, weight)) == pytest.approx(expected)


@given(width=st.floats(1, 50), height=st.floats(1, 50))
def test_corners_that_move_by_the_radius_leave_an_iou_of_seven_tenths_at_worst(width: float, height: float) -> None:
    r = float(_radius(torch.tensor([width, height], dtype=torch.float64)))
    true = torch.tensor([[0.0, 0.0, width, height]], dtype=torch.float64)
    moves = torch.tensor([[1, 1, 1, 1], [1, 1, -1, -1], [-1, -1, 1, 1]], dtype=torch.float64)
    ious = box_iou(true, true + r * moves)[0]
    assert float(ious.min()) == pytest.approx(0.7)


@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
def test_a_perfect_map_gives_the_boxes_back(size: tuple[int, int]) -> None:
    net = CenterNet(3, size, 2)
    boxes = torch.tensor([[0.0, 3, 5, 20, 30], [1, 30, 8, size[1] - 1, 33], [1, 10, 40, 15, 47]])
    outputs = torch.zeros_like(net.eval()(torch.zeros(1, 3, *size)))
    assert outputs.shape == (1, 6, size[0] // 4, size[1] // 4)
    outputs[:, :2] = -8.0
    for rank, (label, x1, y1, x2, y2) in enumerate(boxes.tolist()):
        cx, cy = (x1 + x2) / 8, (y1 + y2) / 8
        x, y = int(cx), int(cy)
        outputs[0, int(label), y, x] = 5.0 - rank
        outputs[0, 2:, y, x] = torch.tensor([(x2 - x1) / 4, (y2 - y1) / 4, cx - x, cy - y])
        outputs[0, int(label), y, x - 1] = 4.9 - rank  # no peak beside a higher one
    found = net.decode(outputs)
    assert found.shape == (1, 100, 6)
    torch.testing.assert_close(found[0, :3, :5], boxes)
    assert found[0, :3, 5].tolist() == pytest.approx([1 / (1 + math.exp(rank - 5.0)) for rank in range(3)])
    assert found[0, 3, 5] < 1e-3
    assert found[..., 1:5].amin() >= 0
    assert found[..., 1:5:2].amax() <= size[1]
    assert found[..., 2:5:2].amax() <= size[0]


def test_the_network_keeps_to_its_shapes() -> None:
    net = CenterNet(3, 64, 5)
    assert net(torch.zeros(2, 3, 64, 64)).shape == (2, 9, 16, 16)
    assert net.eval()(torch.zeros(1, 3, 64, 64))[0, :5].sigmoid().mean().item() == pytest.approx(0.1, abs=0.02)
    assert block_names(net) == ("stage1", "stage2")
    with pytest.raises(ValueError, match=r"image_size must be a multiple of 16 for CenterNet, got 40"):
        CenterNet(3, 40, 5)
    with pytest.raises(
        ValueError, match=r"image_size must be a multiple of 16 in height and width for CenterNet, got \[3"
    ):
        CenterNet(3, (32, 40), 5)
