"""Every strategy of ``conf/mixup`` on images that are wider than high, and higher than wide."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from torch import Tensor

from vicinal.config.components import bind
from vicinal.config.schema import CONF, register
from vicinal.mixing import MixPlan, Strategy, mixed_forward
from vicinal.mixing.attention import AttentionPlan, TransMix, patch_grid
from vicinal.mixing.context import Context
from vicinal.mixing.features import NoisyPlan
from vicinal.mixing.fields import SmoothMix, SoftMask
from vicinal.mixing.masks import Boxes
from vicinal.mixing.pasting import CropsPlan
from vicinal.mixing.saliency import centre_surround
from vicinal.models.vit import ViT

NAMES = sorted(file.stem for file in (CONF / "mixup").glob("*.yaml") if file.stem != "base")
OTHER_INPUTS = {"between_class": "clips", "ssmix": "sentences"}
IN_THE_NETWORK = ("alignmix", "manifold", "moex", "noisy_features", "patchup")
SIZES = [(12, 20), (20, 12)]
LABELS = torch.tensor([0, 1, 2, 1])


def strategy_of(name: str) -> Strategy:
    register()
    GlobalHydra.instance().clear()
    words = [f"mixup={name}", *(["mixup.layers=[input]"] if name in IN_THE_NETWORK else [])]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        node: Any = OmegaConf.to_container(compose("config", words).mixup)
    made: Strategy = bind("mixup", node)()
    return made


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def context_of(name: str, images: Tensor) -> Context:
    labels = LABELS
    if name in ("classmix", "instance_paste"):
        labels = torch.randint(0, 4, (len(images), *images.shape[2:]), generator=seeded(2)).to(torch.uint8)
    if name == "c_mixup":
        labels = torch.rand(len(images), 1, generator=seeded(2))
    return Context(
        images=images,
        saliency=centre_surround(images),
        labels=labels,
        counts=torch.tensor([5, 3, 1]),
        epoch=1,
        epochs=2,
        progress=0.1,
    )


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_strategy_mixes_a_rectangle_by_the_weights_of_its_target(name: str, size: tuple[int, int]) -> None:
    strategy, generator, shape = strategy_of(name), seeded(), (4, 3, *size)
    x = torch.rand(shape, generator=seeded(1))
    context, active = context_of(name, x), 0
    if name in OTHER_INPUTS:
        with pytest.raises(ValueError, match=f"mixes {OTHER_INPUTS[name]}"):
            strategy.sample(shape, generator, context)
        return
    for _ in range(20):
        plan = strategy.sample(shape, generator, context)
        mixed, own = plan.mix(x), plan.own_part(x)
        active += plan.active
        assert mixed.shape == x.shape
        torch.testing.assert_close(plan.weights.sum(dim=1), torch.ones(4))
        torch.testing.assert_close(plan.targets(LABELS, 3).sum(dim=1), torch.ones(4))
        assert ((own >= 0) & (own <= 1)).all()
        if plan.transform is None and strategy_weighs_by_area(strategy):
            torch.testing.assert_close(own.flatten(1).mean(dim=1), plan.settled().lam, atol=1e-6, rtol=0)
        if type(plan) in (MixPlan, AttentionPlan) and plan.transform is None:
            torch.testing.assert_close(mixed, own * x + (1 - own) * x[plan.partner])
        if isinstance(plan.mask, Boxes):
            for first, end, side in zip(plan.mask.sides[::2], plan.mask.sides[1::2], size, strict=True):
                assert all(0 <= a <= b <= side for a, b in zip(first, end, strict=True))
        if not isinstance(plan, NoisyPlan) and name != "moex":
            assert x.min() - 1e-6 <= mixed.min() or mixed.min() == 0
            assert mixed.max() <= x.max() + 1e-6
    assert bool(active) == (name != "none")


def strategy_weighs_by_area(strategy: Strategy) -> bool:
    return getattr(strategy, "labels", "area") == "area"


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_boxes_of_cutmix_have_the_aspect_of_the_image(size: tuple[int, int]) -> None:
    plan = strategy_of("cutmix").sample((4, 3, *size), seeded(3))
    boxes = [Boxes.sample(torch.tensor([0.75], dtype=torch.float64), size, seeded(seed)) for seed in range(400)]
    spans = [[end - first for (first,), (end,) in zip(box.sides[::2], box.sides[1::2], strict=True)] for box in boxes]
    assert (max(rows for rows, _ in spans), max(columns for _, columns in spans)) == (size[0] // 2, size[1] // 2)
    assert isinstance(plan.mask, Boxes)
    assert plan.mask.size == size


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_bump_is_round_and_as_wide_as_the_shorter_side_says(size: tuple[int, int]) -> None:
    """From m = exp(-1 / (2 sigma^2)) beside the centre, in both directions; the paper's shares are 0.25 to 0.5."""
    plan = SmoothMix(per_sample=True).sample((64, 3, *size), seeded())
    assert isinstance(plan.mask, SoftMask)
    for bump in plan.mask.own[:, 0].double():
        y, x = divmod(int(bump.argmax()), size[1])
        beside = [bump[y, x - 1 if x else x + 1], bump[y - 1 if y else y + 1, x]]
        sigmas = [math.sqrt(-1 / (2 * math.log(float(m)))) for m in beside]
        assert sigmas[0] == pytest.approx(sigmas[1], rel=1e-4)
        assert 0.25 * 12 * 0.999 <= sigmas[0] <= 0.5 * 12 * 1.001


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_attention_lies_on_the_grid_of_the_patches(size: tuple[int, int]) -> None:
    model = ViT(3, size, 10, patch=4)
    plan = TransMix(1.0, law="constant", lam=0.5).sample((4, 3, *size), seeded(3))
    mixed_forward(model, torch.rand(4, 3, *size, generator=seeded(1)), plan)
    assert isinstance(plan, AttentionPlan)
    assert isinstance(plan.mask, Boxes)
    (attention,) = plan.seen
    inside = plan.mask.inside(*size)[0, 0].float()
    places = [(i, j) for i in range(0, size[0], 4) for j in range(0, size[1], 4)]
    share = torch.stack([inside[i : i + 4, j : j + 4].mean() for i, j in places])
    assert attention.shape == (4, 15)
    partner = (attention * share).sum(dim=1) / attention.sum(dim=1)
    torch.testing.assert_close(plan.settled().lam, 1 - (1 - plan.lam + partner) / 2)


@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("size", [*SIZES, (8, 8), (4, 32)])
def test_the_grid_of_square_patches(size: tuple[int, int], patch: int) -> None:
    grid = size[0] // patch, size[1] // patch
    assert patch_grid(math.prod(grid), size) == grid
    for patches in (0, math.prod(grid) + 1):
        with pytest.raises(ValueError, match=f"^{patches} patches are no grid of squares of an image of {size[0]} x "):
            patch_grid(patches, size)


def test_four_crops_fill_a_rectangle() -> None:
    x = torch.arange(4 * 12 * 20).view(4, 1, 12, 20).float()
    plan = strategy_of("ricap").sample((4, 1, 12, 20), seeded(5))
    assert isinstance(plan, CropsPlan)
    mixed = plan.mix(x)
    for (rows, columns), (top, left), index in zip(
        plan.regions(12, 20), plan.offsets, plan.indices.unbind(1), strict=True
    ):
        for row in range(4):
            high, wide = rows.stop - rows.start, columns.stop - columns.start
            expected = x[index[row], :, top : top + high, left : left + wide]
            assert torch.equal(mixed[row, :, rows, columns], expected)
