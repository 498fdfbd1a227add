"""Presets of ``conf/mixup/reference`` against sums by hand, and their strength against closed forms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import betainc
from scipy.stats import chisquare

from vicinal.mixing import Mixup
from vicinal.tasks import CLASSIFICATION
from vicinal.tasks.losses import CrossEntropy
from vicinal.training.objective import Objective

from .presets import drawn, one, permuted, plan_of, preset

CLASSES = 4
IMAGES = torch.tensor([0.0, 1.0, 2.0, 4.0]).view(4, 1, 1, 1)
LABELS = torch.tensor([0, 1, 2, 0])
PARTNER = [2, 0, 3, 1]
MIXED = torch.tensor([0.5, 0.75, 2.5, 3.25])
"""0.75 x + 0.25 x[PARTNER]: 0 + 2/4, 3/4 + 0, 6/4 + 4/4, 12/4 + 1/4."""
TARGETS = torch.tensor([[0.75, 0, 0.25, 0], [0.25, 0.75, 0, 0], [0.25, 0, 0.75, 0], [0.75, 0.25, 0, 0]])


@pytest.mark.parametrize(
    ("name", "alpha", "lam"),
    [
        ("mixup_cifar10", 1.0, 0.75),
        ("manifold_mixup", 2.0, 0.75),
        ("regmixup", 20.0, 0.75),
        ("composer", 0.2, 0.75),  # min(0.75, 0.25) is the partner's
        ("composer", 0.2, 0.25),  # min(0.25, 0.75) as well
    ],
)
def test_means_by_hand(name: str, alpha: float, lam: float) -> None:
    """lam x_i + (1 - lam) x_j with one lambda and one permutation j of the batch, for images and labels alike."""
    with drawn(lam, alpha=alpha), permuted(PARTNER):
        plan = plan_of(preset(name, *(["mixup.layers=[input]"] if name == "manifold_mixup" else [])), IMAGES)
    assert torch.equal(plan.mix(IMAGES).flatten(), MIXED)
    assert torch.equal(plan.targets(LABELS, CLASSES), TARGETS)


def test_fastai_by_hand() -> None:
    """Each sample has max(lam, 1 - lam) itself: 0.75, 0.5, 1 and 0.875 for the draws 0.25, 0.5, 0 and 0.875."""
    with drawn(0.25, 0.5, 0.0, 0.875, alpha=0.4), permuted(PARTNER):
        plan = plan_of(preset("fastai"), IMAGES)
    mixed = [0.25 * 2, 0.5 * 1 + 0.5 * 0, 2, 0.875 * 4 + 0.125 * 1]
    targets = [[0.75, 0, 0.25, 0], [0.5, 0.5, 0, 0], [0, 0, 1, 0], [0.875, 0.125, 0, 0]]
    assert plan.mix(IMAGES).flatten().tolist() == mixed
    assert plan.targets(LABELS, CLASSES).tolist() == targets


def test_cutmix_pytorch_by_hand() -> None:
    """lambda 0.5 on 4 x 5 pixels: int(4 sqrt(0.5)) = 2 rows and int(5 sqrt(0.5)) = 3 columns, half of them, 1 and 1, to
    both sides of row 0 and column 3: row 0 and columns 2 and 3 are left of it, so lambda becomes 1 - 2 / 20.
    """
    images = torch.stack([torch.zeros(1, 4, 5), torch.ones(1, 4, 5)])
    with drawn(0.5, alpha=1.0, centre=(0, 3)), permuted([1, 0]):
        plan = plan_of(preset("cutmix_pytorch", "mixup.prob=1"), images)
    assert plan.mix(images)[0, 0].tolist() == [[0, 0, 1, 1, 0], [0] * 5, [0] * 5, [0] * 5]
    assert plan.lam.tolist() == pytest.approx([0.9, 0.9])
    assert plan.targets(torch.tensor([0, 1]), 2).flatten().tolist() == pytest.approx([0.9, 0.1, 0.1, 0.9])


def test_the_depth_of_manifold_mixup_is_uniform() -> None:
    """random.randint(0, 2) in its network: the input, layer1 or layer2."""
    strategy = preset("manifold_mixup", "mixup.layers=[input,layer1,layer2]")
    generator = torch.Generator().manual_seed(0)
    counts = Counter(strategy.sample((2, 1, 1, 1), generator).layer for _ in range(3000))
    assert counts.keys() == {None, "layer1", "layer2"}
    assert chisquare(list(counts.values())).pvalue > 1e-3


def test_the_loss_of_regmixup_is_the_mean_over_clean_and_mixed_images() -> None:
    """Its criterion on 2B outputs with targets cat(y, y) and cat(y, y[PARTNER]): half of the paper's sum."""
    strategy = preset("regmixup")
    with drawn(0.75, alpha=20.0), permuted(PARTNER):
        plan = plan_of(strategy, IMAGES)
    weight = torch.randn(1, CLASSES, generator=torch.Generator().manual_seed(0))
    objective = Objective(
        CLASSIFICATION, CrossEntropy(), strategy.mixed_weight, strategy.clean_weight, strategy.together
    )
    loss = objective(lambda images, plan: plan.mix(images).flatten(1) @ weight, IMAGES, LABELS, plan).loss

    logits = torch.cat([IMAGES.flatten(1), MIXED[:, None]]) @ weight
    first, second = torch.cat([LABELS, LABELS]), torch.cat([LABELS, LABELS[PARTNER]])
    torch.testing.assert_close(loss, 0.75 * F.cross_entropy(logits, first) + 0.25 * F.cross_entropy(logits, second))


# Strength


def mean_area(odd_sides: bool, side: int = 32) -> float:
    """E[area] of a box that is cut off at the border, share of the image, for lambda uniform in [0, 1]: exactly.

    A side has k pixels with probability ((k + 1)^2 - k^2) / side^2, and every pixel is as likely to be the centre.
    """
    places = np.arange(side)
    total = 0.0
    for k in range(side):
        before, after = k // 2, k - k // 2 if odd_sides else k // 2
        seen = np.mean(np.minimum(places + after, side) - np.maximum(places - before, 0))
        total += (2 * k + 1) / side**2 * (seen / side) ** 2
    return total


def mean_smaller(alpha: float) -> float:
    """E[min(lambda, 1 - lambda)] of Beta(alpha, alpha)."""
    return float(betainc(alpha + 1, alpha, 0.5))


@pytest.mark.parametrize(
    ("strategy", "mean"),
    [
        (lambda: preset("mixup_cifar10"), 0.5),
        (lambda: preset("regmixup"), 0.5),
        (lambda: preset("composer"), mean_smaller(0.2)),
        (lambda: preset("fastai"), mean_smaller(0.4)),
        (lambda: preset("cutmix_pytorch"), 0.5 * mean_area(odd_sides=False)),
        (lambda: one("timm", "input"), 0.5),
        (lambda: one("timm", "cutmix"), mean_area(odd_sides=True)),
        (lambda: one("torchvision", "input"), 0.5),
        (lambda: one("torchvision", "cutmix"), mean_area(odd_sides=False)),
    ],
)
def test_strength_at_32_pixels(strategy: Callable[[], Mixup], mean: float) -> None:
    """The mean weight of the partner, over many samples."""
    plan = replace(strategy(), per_sample=True).sample((100_000, 1, 32, 32), torch.Generator().manual_seed(0))
    assert float((1 - plan.lam.double()).mean()) == pytest.approx(mean, abs=0.005)
