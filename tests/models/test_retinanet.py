"""RetinaNet's loss with weights is a sum over the boxes. What it has in common with FCOS: test_anchored.py."""

import pytest
import torch

from vicinal.models.retinanet import RetinaNet

BOXES = torch.tensor(
    [
        [[0.0, 4, 4, 40, 36, 1], [1, 30, 20, 62, 60, 1], [0, 0, 0, 0, 0, 0]],
        [[1.0, 8, 2, 60, 50, 1], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]],
        [[0.0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]],
    ]
)


@pytest.fixture(scope="module")
def net() -> RetinaNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return RetinaNet(3, 64, 2).eval()


@pytest.fixture(scope="module")
def outputs(net: RetinaNet) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        made = net(torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    noise = torch.Generator().manual_seed(2)
    for name in ("cls_logits", "bbox_regression"):
        made[name] = made[name] + torch.randn(made[name].shape, generator=noise)
    return made


def test_a_weight_multiplies_the_terms_of_its_box(net: RetinaNet, outputs: dict[str, torch.Tensor]) -> None:
    """The loss is linear in the weights before it is divided by the weight of the anchors of all boxes."""
    weights = torch.tensor([[0.7, 0.3, 0.0], [0.6, 0, 0], [0, 0, 0]])
    matched = [net.detector.proposal_matcher(_iou(rows, outputs)) for rows in BOXES[:2]]
    counts = torch.stack([torch.stack([(each == box).sum() for box in range(3)]) for each in matched]).float()

    def total(weight: torch.Tensor) -> torch.Tensor:
        boxes = BOXES[:2].clone()
        boxes[..., 5] = weight
        few = {**outputs, **{name: outputs[name][:2] for name in ("cls_logits", "bbox_regression")}}
        return net.losses(few, boxes) * (weight * counts).sum(1).clamp(min=1)

    tiny = 1e-3  # a box of no weight would be background
    there = (BOXES[:2, :, 5] > 0).float()
    low, high = total(tiny * there), total(there)
    one = total(torch.where(torch.tensor([True, False, False]), 1.0, tiny) * there)
    slopes = torch.stack([(one - low), (high - one)], dim=1) / (1 - tiny)
    expected = low + (slopes * (weights[:2, :2] - tiny * there[:, :2])).sum(1)
    torch.testing.assert_close(total(weights[:2] * there), expected, rtol=1e-4, atol=1e-3)


def _iou(rows: torch.Tensor, outputs: dict[str, torch.Tensor]) -> torch.Tensor:
    from torchvision.ops import box_iou

    return box_iou(rows[rows[:, 5] > 0][:, 1:5], outputs["anchors"])
