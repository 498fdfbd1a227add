"""The same lambda, partner and box give what torchvision's transforms give, and the published means come out."""

from __future__ import annotations

from collections.abc import Sequence
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import v2

from vicinal.mixing import CutMix, InputMixup, ManifoldMixup, MixPlan
from vicinal.mixing.laws import symmetric_beta
from vicinal.mixing.masks import Boxes

CLASSES = 10
SIDE = st.integers(1, 24)
SHAPE = st.tuples(st.integers(1, 6), st.integers(1, 4), SIDE, SIDE)
SEED = st.integers(0, 2**32)
ALPHA = st.sampled_from([0.2, 1.0, 2.0])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch_of(shape: Sequence[int], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images in [-1, 1], labels and logits."""
    generator = seeded(seed)
    images = 2 * torch.rand(*shape, generator=generator) - 1
    labels = torch.randint(CLASSES, (shape[0],), generator=generator)
    return images, labels, torch.randn(shape[0], CLASSES, generator=generator)


class Given:
    """In the place of torchvision's Beta distribution: a lambda that is given, not drawn."""

    def __init__(self, lam: float) -> None:
        self.lam = lam

    def sample(self, shape: Sequence[int]) -> float:
        return self.lam


def torchvision_batch(
    transform: v2.MixUp | v2.CutMix, lams: Tensor, partner: Tensor, images: Tensor, labels: Tensor, centres: Tensor
) -> tuple[Tensor, Tensor]:
    """Mixed images and soft targets by torchvision.

    It always mixes with the neighbour (``roll(1)``), so every sample goes in as the second of a batch of two, behind
    its partner. ``centres`` (B, 2), x and y, takes the place of what it would draw for a box.
    """
    rows = []
    for i, j in enumerate(partner.tolist()):
        transform._dist = Given(float(lams[i]))
        with mock.patch.object(torch, "randint", side_effect=centres[i].view(2, 1).unbind()):
            mixed, targets = transform(images[[j, i]], labels[[j, i]])
        rows.append((mixed[1], targets[1]))
    mixed, targets = zip(*rows, strict=True)
    return torch.stack(mixed), torch.stack(targets)


def assert_equal_to_torchvision(
    plan: MixPlan, batch: tuple[Tensor, Tensor, Tensor], expected: tuple[Tensor, Tensor]
) -> None:
    images, labels, logits = batch
    mixed, targets = expected
    torch.testing.assert_close(plan.mix(images), mixed, rtol=0, atol=1e-6)
    torch.testing.assert_close(plan.targets(labels, CLASSES), targets, rtol=0, atol=1e-6)
    for smoothing in (0.0, 0.1):
        loss = F.cross_entropy(logits, targets, label_smoothing=smoothing)
        torch.testing.assert_close(plan.loss(logits, labels, smoothing), loss, rtol=0, atol=1e-6)


@given(shape=SHAPE, alpha=ALPHA, per_sample=st.booleans(), seed=SEED)
def test_input_mixup_equals_torchvision(shape: tuple[int, ...], alpha: float, per_sample: bool, seed: int) -> None:
    plan = InputMixup(alpha, per_sample=per_sample).sample(shape, seeded(seed))
    images, labels, logits = batch_of(shape, seed)
    unused = torch.zeros(shape[0], 2, dtype=torch.int64)
    expected = torchvision_batch(v2.MixUp(num_classes=CLASSES), plan.lam, plan.partner, images, labels, unused)
    assert_equal_to_torchvision(plan, (images, labels, logits), expected)


@given(shape=SHAPE, alpha=ALPHA, per_sample=st.booleans(), seed=SEED)
def test_cutmix_equals_torchvision(shape: tuple[int, ...], alpha: float, per_sample: bool, seed: int) -> None:
    plan = CutMix(alpha, per_sample=per_sample).sample(shape, seeded(seed))
    images, labels, logits = batch_of(shape, seed)

    batch, _, height, width = shape
    rows = batch if per_sample else 1
    replay = seeded(seed)
    lams = symmetric_beta(alpha, rows, replay)
    torch.rand(rows, generator=replay)
    torch.randperm(batch, generator=replay)
    centre_y = torch.randint(height, (rows,), generator=replay)
    centre_x = torch.randint(width, (rows,), generator=replay)
    centres = torch.stack([centre_x, centre_y], dim=1).expand(batch, 2)

    transform = v2.CutMix(num_classes=CLASSES)
    expected = torchvision_batch(transform, lams.expand(batch), plan.partner, images, labels, centres)
    assert_equal_to_torchvision(plan, (images, labels, logits), expected)


@given(shape=SHAPE, alpha=ALPHA, per_sample=st.booleans(), seed=SEED)
def test_manifold_at_the_input_equals_input_mixup(
    shape: tuple[int, ...], alpha: float, per_sample: bool, seed: int
) -> None:
    images, labels, logits = batch_of(shape, seed)
    plain = InputMixup(alpha, per_sample=per_sample).sample(shape, seeded(seed))
    manifold = ManifoldMixup(alpha, ["input"], per_sample=per_sample).sample(shape, seeded(seed))
    assert manifold.layer is None
    assert torch.equal(manifold.mix(images), plain.mix(images))
    assert torch.equal(manifold.targets(labels, CLASSES), plain.targets(labels, CLASSES))
    assert torch.equal(manifold.loss(logits, labels), plain.loss(logits, labels))


@pytest.mark.parametrize(("alpha", "mean"), [(0.2, 0.278), (1.0, 0.299), (2.0, 0.306)])
def test_effective_strength_of_cutmix_at_32_pixels(alpha: float, mean: float) -> None:
    plan = CutMix(alpha, per_sample=True).sample((100_000, 3, 32, 32), seeded(0))
    assert float((1 - plan.lam.double()).mean()) == pytest.approx(mean, abs=0.005)


def test_share_of_empty_boxes_at_32_pixels() -> None:
    plan = CutMix(0.2, per_sample=True).sample((100_000, 3, 32, 32), seeded(0))
    assert isinstance(plan.mask, Boxes)
    empty = torch.tensor(plan.mask.areas) == 0
    assert float(empty.double().mean()) == pytest.approx(0.17, abs=0.01)
    assert bool((plan.lam[empty] == 1).all())
