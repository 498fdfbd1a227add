"""Presets of ``conf/mixup/reference`` against the code they are named after, from the same draws.

The references add in another order than we do, so they agree to the bit where no sum is rounded: images of 8 bits,
lambda a multiple of 1/256, sides that are powers of two. Elsewhere they may differ in the last digit of float32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import v2

from vicinal.mixing import InputMixup
from vicinal.mixing.laws import Law

from .presets import drawn, one, permuted, plan_of, preset

CLASSES = 4
ULP = 2**-23
"""Of float32 at 1."""
EVEN = st.sampled_from([2, 4, 6])
"""Samples of a batch: timm refuses an odd number."""
SIDE = st.integers(1, 24)
POWER = st.sampled_from([1, 2, 4, 8, 16])
PLACE = st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
"""Of the centre of a box, as shares of the sides."""
Place = tuple[float, float]


def batch_of(size: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Images of 8 bits, as multiples of 1/256, and labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (size, 3, height, width), generator=generator) / 256
    return images, torch.randint(CLASSES, (size,), generator=generator)


def by_timm(images: Tensor, labels: Tensor, kind: str, lam: float, centre: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """What timm makes of its draws, which come in this order: mix at all? which kind? lambda, row, column."""
    timm_mixup = pytest.importorskip("timm.data.mixup")
    alphas = {name: one("timm", name).alpha for name in ("input", "cutmix")}
    reference = timm_mixup.Mixup(alphas["input"], alphas["cutmix"], label_smoothing=0.0, num_classes=CLASSES)

    def beta(a: float, b: float) -> float:
        assert a == b == alphas[kind]
        return lam

    with (
        mock.patch.object(np.random, "rand", side_effect=[0.9, 0.25 if kind == "cutmix" else 0.75]),
        mock.patch.object(np.random, "beta", beta),
        mock.patch.object(np.random, "randint", side_effect=centre),
    ):
        mixed, targets = reference(images.clone(), labels)
    return mixed, targets


def by_torchvision(
    images: Tensor, labels: Tensor, kind: str, lam: float, centre: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """What torchvision makes of its draws, which come in this order: lambda, column, row."""
    alpha = one("torchvision", kind).alpha
    transform = {"input": v2.MixUp, "cutmix": v2.CutMix}[kind](alpha=alpha, num_classes=CLASSES)
    places = [torch.tensor([place]) for place in reversed(centre)]
    with (
        mock.patch.object(transform._dist, "sample", return_value=lam),
        mock.patch.object(torch, "randint", side_effect=places),
    ):
        mixed, targets = transform(images, labels)
    return mixed, targets


REFERENCES = {"timm": by_timm, "torchvision": by_torchvision}


@cache
def timm_keeps_odd_sides() -> bool:
    """Whether the timm that is installed is 1.0.29 or newer."""
    return tuple(map(int, pytest.importorskip("timm").__version__.split(".")[:3])) >= (1, 0, 29)


def check(name: str, kind: str, size: int, sides: tuple[int, int], lam: float, place: Place, exact: bool) -> None:
    """The preset and the reference, from the same draws."""
    images, labels = batch_of(size, *sides)
    centre = int(place[0] * sides[0]), int(place[1] * sides[1])
    expected, ours = REFERENCES[name](images, labels, kind, lam, centre), one(name, kind)
    if (name, kind) == ("timm", "cutmix"):
        assert ours.odd_sides
        ours = replace(ours, odd_sides=timm_keeps_odd_sides())
    with drawn(lam, alpha=ours.alpha, centre=centre):
        plan = plan_of(ours, images)
    atol = 0 if exact else ULP
    torch.testing.assert_close(plan.mix(images), expected[0], rtol=0, atol=atol)
    torch.testing.assert_close(plan.targets(labels, CLASSES), expected[1], rtol=0, atol=atol)


each_reference = pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name in REFERENCES for kind in ("input", "cutmix")]
)


@each_reference
@given(size=EVEN, sides=st.tuples(POWER, POWER), lam=st.integers(0, 256), place=PLACE)
def test_to_the_bit(name: str, kind: str, size: int, sides: tuple[int, int], lam: int, place: Place) -> None:
    check(name, kind, size, sides, lam / 256, place, exact=True)


@each_reference
@given(size=EVEN, sides=st.tuples(SIDE, SIDE), lam=st.floats(0, 1), place=PLACE)
def test_to_the_last_digit(name: str, kind: str, size: int, sides: tuple[int, int], lam: float, place: Place) -> None:
    check(name, kind, size, sides, lam, place, exact=False)


def test_smoothing_in_the_targets_of_timm_is_that_of_our_loss() -> None:
    """timm's default, 0.1 in the target before it is mixed, is ``trainer.label_smoothing=0.1``."""
    timm_mixup = pytest.importorskip("timm.data.mixup")
    images, labels = batch_of(4, 8, 8)
    logits = torch.randn(4, CLASSES, generator=torch.Generator().manual_seed(0))
    ours = one("timm", "input")
    with drawn(0.25, alpha=ours.alpha):
        plan = plan_of(ours, images)
    targets = timm_mixup.mixup_target(labels, CLASSES, 0.25, smoothing=0.1)
    torch.testing.assert_close(plan.loss(logits, labels, 0.1), F.cross_entropy(logits, targets))


@dataclass(frozen=True)
class Given(Law):
    """Lambdas that are given, not drawn."""

    lams: Tensor

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        return self.lams

    def below(self, x: float) -> float:
        raise NotImplementedError


def test_kornia_to_the_bit() -> None:
    """Its lambda, one per sample, is the weight of the partner, and uniform: ``law=uniform per_sample=true``."""
    augmentation = pytest.importorskip("kornia.augmentation")
    images, labels = batch_of(6, 8, 8)
    reference = augmentation.RandomMixUpV2(data_keys=["input", "class"])
    torch.manual_seed(0)
    reference(images, labels)
    drawn = reference._params
    drawn["mixup_lambdas"] = (256 * drawn["mixup_lambdas"]).round() / 256
    mixed, classes = reference(images, labels, params=drawn)
    ours = InputMixup(law=Given(1 - drawn["mixup_lambdas"].double()), per_sample=True)
    with permuted(drawn["mixup_pairs"].tolist()):
        plan = plan_of(ours, images)
    assert torch.equal(plan.mix(images), mixed)
    assert torch.equal(torch.stack([labels, labels[plan.partner], 1 - plan.lam], dim=1), classes)


def test_fastai_to_the_bit() -> None:
    """Its callback on half a learner. It needs packages that the extras of this project do not have."""
    callback = pytest.importorskip("fastai.callback.mixup")
    images, labels = batch_of(6, 8, 8)
    lams = torch.rand(6, generator=torch.Generator().manual_seed(0))
    reference = callback.MixUp()
    alpha = round(float(reference.distrib.concentration1), 6)
    reference.stack_y, reference.learn = True, SimpleNamespace(x=images, y=labels, xb=(images,), yb=(labels,))
    with mock.patch.object(reference.distrib, "sample", return_value=lams), permuted([2, 0, 3, 1, 5, 4]):
        reference.before_batch()
    with drawn(*lams.tolist(), alpha=alpha), permuted([2, 0, 3, 1, 5, 4]):
        plan = plan_of(preset("fastai"), images)
    assert torch.equal(plan.mix(images), reference.learn.xb[0])
    assert torch.equal(plan.lam, reference.lam)
    assert torch.equal(labels[plan.partner], reference.yb1[0])
