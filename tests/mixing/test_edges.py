"""Rare combinations of parts, and numbers near the end of what a type holds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vicinal.mixing import CutMix, InputMixup, ManifoldMixup, MixPlan, Mixup
from vicinal.mixing.context import Context
from vicinal.mixing.feature_transforms import aligned
from vicinal.mixing.features import AlignMix, MoEx, NoisyFeatureMixup, PatchUp, PatchUpPlan
from vicinal.mixing.laws import Beta
from vicinal.mixing.masks import Boxes, ScalarMask
from vicinal.mixing.one_of import OneOf
from vicinal.mixing.pasting import ResizeMix, Ricap
from vicinal.mixing.saliency import PuzzleMix
from vicinal.mixing.text import SSMix
from vicinal.mixing.zeta import ZetaMixup


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


HIDDEN = {
    "patchup, hard": PatchUp(2.0, ["block"], soft=False, per_sample=True, prob=0.5),
    "patchup, soft": PatchUp(2.0, ["block"], per_sample=True, prob=0.5),
    "alignmix": AlignMix(2.0, ["block"], per_sample=True, prob=0.5),
    "noisy_features": NoisyFeatureMixup(1.0, ["block"], per_sample=True, prob=0.5),
    "moex": MoEx(layers=["block"], per_sample=True, prob=0.5),
}


@pytest.mark.parametrize("strategy", HIDDEN.values(), ids=HIDDEN)
@pytest.mark.parametrize("seed", range(4))  # of alignmix, both sides of its coin
def test_a_sample_that_is_not_mixed_stays_as_it_is(strategy: Mixup, seed: int) -> None:
    x = torch.rand(32, 6, 5, 5, generator=seeded())
    plan = strategy.sample((32, 1, 8, 8), seeded(seed))
    unmixed = plan.lam == 1
    assert 0 < unmixed.sum() < 32
    mixed = plan.mix(x)
    torch.testing.assert_close(mixed[unmixed], x[unmixed], rtol=0, atol=0)
    assert (mixed != x).flatten(1).any(dim=1)[~unmixed].sum() > 8  # the others are, but for those that are their own
    assert plan.settled().lam[unmixed].tolist() == [1.0] * int(unmixed.sum())


def reference_alignment(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sinkhorn's algorithm on (B, C, P), to AlignMix's end: when the mean over the batch of |u - u'| is small."""
    a, b = x.transpose(0, 2, 1), y.transpose(0, 2, 1)
    cost = np.square(a[:, :, None] - b[:, None]).sum(-1)
    u, v, logs = np.zeros_like(cost[:, 0]), np.zeros_like(cost[:, 0]), -math.log(cost.shape[1])
    for _ in range(100):
        before = u
        u = 0.1 * (logs - np.logaddexp.reduce((v[:, None] - cost) / 0.1, axis=2))
        v = 0.1 * (logs - np.logaddexp.reduce((u[:, :, None] - cost) / 0.1, axis=1))
        if np.abs(u - before).sum(-1).mean() < 0.1:
            break
    transport = cost.shape[1] * np.exp((u[:, :, None] + v[:, None] - cost) / 0.1)
    return np.einsum("bpq,bcq->bcp", transport, y)


@pytest.mark.parametrize(("scale", "side"), [(0.3, 4), (0.3, 7), (1.0, 7), (3.0, 3), (0.01, 5), (0.0, 3)])
def test_alignment_is_transported_as_far_as_in_its_reference(scale: float, side: int) -> None:
    """From a few steps to all 100, in which plans are made again."""
    x, y = (F.relu(torch.randn(3, 64, side, side, generator=seeded(seed))) * scale for seed in range(2))
    expected = reference_alignment(*(part.flatten(2).double().numpy() for part in (x, y)))
    torch.testing.assert_close(aligned(x, y).flatten(2).double(), torch.from_numpy(expected), atol=1e-3, rtol=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = torch.from_numpy(expected).view_as(x).float()
        torch.testing.assert_close(aligned(x, y).float(), rounded, atol=0.02 * scale, rtol=0.02)


@pytest.mark.parametrize(
    ("inputs", "blocks", "chosen"),
    [
        ((1, 800), {"a": (16, 400), "b": (32, 200), "c": (64,)}, "b"),  # clips, by convolutions in time
        ((1, 800), {"a": (16, 40, 10), "b": (32, 20, 5), "c": ()}, "b"),  # as spectrograms
        ((3, 8, 8), {"a": (16, 8, 8), "b": (17, 96)}, "a"),  # patches are vectors
        ((3, 8, 8), {"a": (16, 2, 1), "b": (64, 1, 1)}, "a"),  # one place is not moved
    ],
)
def test_features_are_aligned_where_they_have_places(
    inputs: tuple[int, ...], blocks: dict[str, tuple[int, ...]], chosen: str
) -> None:
    shapes = {"input": inputs, **blocks}
    assert AlignMix.default_layers([*blocks], shapes.__getitem__) == ["input", chosen]


@pytest.mark.parametrize("blocks", [{}, {"a": (64,), "b": ()}, {"a": (8, 1, 1)}])
def test_without_places_nothing_can_be_aligned(blocks: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match=r"^no block returns one tensor with two or more places to align$"):
        AlignMix.default_layers([*blocks], {"input": (3, 8, 8), **blocks}.__getitem__)


@pytest.mark.parametrize("scale", [1e2, 1e4, 1e6])
def test_alignment_of_large_features_is_finite(scale: float) -> None:
    """Their transport is hard: each place takes nearly all from the places that are nearest."""
    x = F.relu(torch.randn(8, 64, 6, 6, generator=seeded(2))) * scale
    moved = torch.randperm(36, generator=seeded(3))
    same = aligned(x, x.flatten(2)[:, :, moved].view_as(x))
    torch.testing.assert_close(same, x, rtol=1e-3, atol=1e-3 * scale)
    x[0, 0, 0, 0] *= 1e3
    assert aligned(x, x.flip(0)).isfinite().all()
    assert aligned(x[:0], x[:0]).shape == (0, 64, 6, 6)


def test_moments_need_several_channels_and_a_partner() -> None:
    plan = MoEx(layers=["input"]).sample((4, 1, 8, 8), seeded())
    with pytest.raises(ValueError, match=r"^moments are exchanged over channels, and there is one$"):
        plan.mix(torch.rand(4, 1, 8, 8))
    with pytest.raises(ValueError, match=r"^partner must be a sample for MoEx, whose moments are taken, got blank$"):
        MoEx(layers=["input"], partner="blank")


@pytest.mark.parametrize("soft", [True, False])
def test_a_blank_partner_is_blank_in_the_blocks_of_patchup(soft: bool) -> None:
    x = torch.rand(4, 3, 9, 9, generator=seeded()) + 0.1
    plan = PatchUp(2.0, ["block"], partner="blank", soft=soft, block=3, gamma=0.5).sample(x.shape, seeded(1))
    assert isinstance(plan, PatchUpPlan)
    changed = plan.blocks(x.shape[1:])
    assert changed.any()
    expected = torch.where(changed, (plan.lam[0] if soft else 0.0) * x, x)
    torch.testing.assert_close(plan.mix(x), expected)


@pytest.mark.parametrize("partner", ["roll", "next", "flip"])
def test_several_members_are_not_one_and_the_same(partner: str) -> None:
    with pytest.raises(ValueError, match=rf"^partner must be drawn at random for RICAP, got {partner}$"):
        Ricap(1.0, partner=partner)
    with pytest.raises(
        ValueError, match=rf"^partner must be drawn at random for more than two members, got {partner}$"
    ):
        InputMixup(1.0, members=3, partner=partner)


@pytest.mark.parametrize("alpha", [1e-3, 0.009, 0.011])  # below the end of torch's own variates, and above it
def test_several_weights_of_a_tiny_alpha_are_one_and_zeros(alpha: float) -> None:
    """The mean of the largest, from gamma variates in logarithms: torch's own gave 0.918 at 0.001."""
    drawn = Beta(alpha, members=3).draw(20_000, seeded())
    torch.testing.assert_close(drawn.sum(dim=1), torch.ones(20_000, dtype=torch.float64))
    random = np.random.default_rng(0)
    logs = np.log(random.gamma(alpha + 1, size=(20_000, 3))) + np.log(random.random((20_000, 3))) / alpha
    oracle = torch.from_numpy(logs).softmax(dim=1).amax(dim=1).mean().item()
    assert 0.98 < oracle < 0.999
    assert drawn.amax(dim=1).mean().item() == pytest.approx(oracle, abs=0.002)
    assert drawn.mean(dim=0).tolist() == pytest.approx([1 / 3] * 3, abs=0.015)


def test_a_large_balance_takes_the_rarest_class() -> None:
    labels, counts = torch.tensor([0, 0, 1, 2]), torch.tensor([4000, 5000, 100])
    strategy = InputMixup(1.0, partner="class_balanced", balance=400.0)
    partner = strategy.draw_partner(4, seeded(), Context(labels=labels, counts=counts))
    assert partner.tolist() == [3, 3, 3, 3]


def test_alpha_has_an_end_where_the_law_has_alpha() -> None:
    with pytest.raises(ValueError, match=r"^alpha_end must be None, law=uniform has no alpha, got 1.0$"):
        CutMix(law="uniform", alpha_end=1.0)


def test_no_law_is_given_of_what_is_not_lambda() -> None:
    assert Ricap(1.0).law_of_lambda(4) is None
    assert PatchUp(1.0, ["block"], soft=False).law_of_lambda(4) is None
    assert PatchUp(1.0, ["block"]).law_of_lambda(4) == [0.25] * 4


def test_weights_of_many_members_sum_to_one_in_bf16() -> None:
    logits = torch.randn(8, 5, generator=seeded()).bfloat16()
    labels: Tensor = torch.arange(8) % 5
    plan = ZetaMixup(gamma=1.0).sample((8, 1, 4, 4), seeded())
    assert plan.loss(logits, labels).item() == plan.loss(logits.float(), labels).item()


@pytest.mark.parametrize("strategy", [ZetaMixup(gamma=1.0), InputMixup(1.0, members=3)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_many_members_are_not_rounded_by_autocast(strategy: Mixup, dtype: torch.dtype) -> None:
    x, labels = torch.randn(8, 1, 4, 4, generator=seeded()), torch.arange(8) % 5
    plan = strategy.sample(x.shape, seeded())
    with torch.autocast("cpu", dtype):
        mixed, targets = plan.mix(x), plan.targets(labels, 5)
    assert torch.equal(mixed, plan.mix(x))
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(8), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(33, 33), (33, 64), (64, 225)])
def test_puzzles_are_of_halves(size: tuple[int, int]) -> None:
    shape, context = (4, 3, *size), Context(saliency=torch.rand(4, *size, generator=seeded()))
    with pytest.raises(ValueError, match=rf"^PuzzleMix halves images, .* must be even, got {size[0]} x {size[1]} pix"):
        PuzzleMix(1.0).sample(shape, seeded(), context)


@pytest.mark.parametrize(("scale", "side"), [(0.05, 40), (0.3, 40), (0.48, 100), (1.0, 32), (0.0, 32)])
def test_a_box_of_whole_pixels_loses_none(scale: float, side: int) -> None:
    """``int(scale * side)``, even, of the paper's section 3.2; at the border it is cut off."""
    for seed in range(20):
        plan = ResizeMix(scale_low=scale, scale_high=scale).sample((2, 3, side, side), seeded(seed))
        if scale == 0:
            assert not plan.active or plan.lam.tolist() == [1, 1]
            continue
        assert isinstance(plan.mask, Boxes)
        (top,), (bottom,), *_ = plan.mask.sides
        if 0 < top < bottom < side:
            assert bottom - top == round(scale * side) // 2 * 2


def test_tensors_in_a_field_of_a_plan_move_along() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Kept(MixPlan):
        kept: tuple[Any, ...]

    kept = (torch.ones(2), [ScalarMask(torch.ones(2))], {"a": torch.ones(2), "b": None}, "text", 3)
    moved = Kept(lam=torch.ones(2), partner=torch.arange(2), kept=kept).to(torch.device("meta")).kept
    assert [moved[0].device.type, moved[1][0].lam.device.type, moved[2]["a"].device.type] == ["meta"] * 3
    assert (moved[2]["b"], *moved[3:]) == (None, "text", 3)
    assert isinstance(moved, tuple)
    assert isinstance(moved[1], list)


def test_a_choice_has_the_weights_of_the_loss_for_all() -> None:
    """Two strategies have others of their own."""
    for strategy, key, plain in ((PatchUp(2.0, ["input"]), "mixed_weight", 1.0), (SSMix(), "clean_weight", 0.0)):
        value = getattr(strategy, key)
        text = f"^strategies must leave {key} to mixup.{key}, for all of them; a has {value}, not {plain}$"
        with pytest.raises(ValueError, match=text):
            OneOf(strategies={"a": strategy}, weights={"a": 1.0})
        OneOf(strategies={"a": replace(strategy, **{key: plain})}, weights={"a": 1.0}, **{key: value})


def test_a_choice_asks_for_shapes_of_blocks_that_masks_are_drawn_for() -> None:
    parts = {"a": ManifoldMixup(1.0, ["input", "first"]), "b": CutMix(1.0, depth="second"), "c": CutMix(1.0)}
    choice = OneOf(strategies=parts, weights=dict.fromkeys(parts, 0.3))
    assert choice.needs == {"shapes"}
    assert choice.sized == ["second"]
    assert [part.sized for part in parts.values()] == [[], ["second"], []]


@pytest.mark.parametrize(
    "strategy", [Ricap(0.3, prob=1e-9), InputMixup(1.0, members=3, prob=1e-9), ZetaMixup(prob=1e-9)]
)
def test_a_batch_that_is_not_mixed_has_the_weight_one_of_itself(strategy: Mixup) -> None:
    plan = strategy.sample((4, 1, 8, 8), torch.Generator().manual_seed(0))
    assert not plan.active
    assert plan.weights.tolist() == [[1.0] + [0.0] * (plan.weights.shape[1] - 1)] * 4
    assert plan.members[:, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("soft", [True, False])
def test_the_own_part_of_patchup_is_outside_its_blocks(soft: bool) -> None:
    plan = PatchUp(2.0, ["input"], soft=soft, block=3, per_sample=True).sample((6, 3, 12, 12), seeded())
    assert isinstance(plan, PatchUpPlan)
    x = torch.rand(6, 3, 12, 12, generator=seeded(1))
    own = plan.own_part(x)
    torch.testing.assert_close(plan.mix(x), own * x + (1 - own) * x[plan.partner])
    assert {tuple(sorted(set(part.flatten().tolist()))) for part in own} != {(1.0,)}
    torch.testing.assert_close(own.mean(dim=(1, 2, 3)), plan.settled().lam)
