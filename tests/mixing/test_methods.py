"""The methods beyond the four: masks, weights and targets against written-out computations and published strengths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from vicinal.config.schema import CONF
from vicinal.experiment import Experiment
from vicinal.mixing import CutMix, InputMixup, ManifoldMixup, MixPlan, Mixup, NoMix, Strategy, mixed_forward
from vicinal.mixing.attention import AttentionPlan, TransMix
from vicinal.mixing.context import Context
from vicinal.mixing.feature_transforms import AlignFeatures, ExchangeMoments, aligned
from vicinal.mixing.features import (
    AlignMix,
    MoEx,
    NoisyFeatureMixup,
    NoisyPlan,
    PatchUp,
    PatchUpPlan,
)
from vicinal.mixing.fields import FMix, GridMix, SmoothMix, fourier_field
from vicinal.mixing.label_rules import Drawn, LabelRule
from vicinal.mixing.masks import Boxes
from vicinal.mixing.one_of import OneOf
from vicinal.mixing.pasting import CropsPlan, Cutout, RandomErasing, ResizeMix, Ricap
from vicinal.mixing.puzzle import LABELS as BLOCK_LABELS
from vicinal.mixing.puzzle import Energy, block_energy, exact, icm, transported
from vicinal.mixing.saliency import PuzzleMix, SaliencyMix, centre_surround
from vicinal.mixing.several import SeveralPlan
from vicinal.mixing.zeta import ZetaMixup
from vicinal.models.vit import ViT

SHAPE = (6, 3, 8, 8)
LABELS = torch.tensor([0, 1, 0, 1, 2, 2])
METHODS: dict[str, Strategy] = {
    "fmix": FMix(1.0),
    "fmix per sample": FMix(1.0, per_sample=True),
    "gridmix": GridMix(1.0),
    "smoothmix": SmoothMix(),
    "resizemix": ResizeMix(),
    "cutout": Cutout(size=4),
    "random_erasing": RandomErasing(per_sample=True),
    "ricap": Ricap(0.3),
    "three": InputMixup(1.0, members=3),
    "three per sample": InputMixup(1.0, members=3, per_sample=True),
    "zeta": ZetaMixup(),
    "patchup": PatchUp(1.0, ["input"], block=3),
    "alignmix": AlignMix(1.0, ["input"]),
    "saliencymix": SaliencyMix(1.0),
    "puzzlemix": PuzzleMix(1.0),
    "puzzlemix, exact": PuzzleMix(1.0, solver="exact", per_sample=True),
    "one_of": OneOf(strategies={"a": InputMixup(1.0), "b": CutMix(1.0)}, weights={"a": 0.4, "b": 0.4}),
}
each = pytest.mark.parametrize("strategy", METHODS.values(), ids=METHODS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(shape: tuple[int, ...] = SHAPE, seed: int = 1) -> Tensor:
    return torch.rand(*shape, generator=seeded(seed))


def context_of(x: Tensor) -> Context:
    return Context(images=x, saliency=centre_surround(x))


@each
@pytest.mark.parametrize("shape", [(6, 3, 8, 8), (1, 1, 8, 8), (3, 2, 5, 9), (2, 1, 1, 1)])
def test_any_batch_and_any_size(strategy: Strategy, shape: tuple[int, ...]) -> None:
    generator, x = seeded(), images(shape)
    labels = torch.arange(shape[0]) % 3
    if isinstance(strategy, PuzzleMix) and shape[-1] % 2:
        with pytest.raises(ValueError, match="sides must be even"):
            strategy.sample(shape, generator, context_of(x))
        return
    if isinstance(strategy, Cutout) and shape[-1] == 1:
        with pytest.raises(ValueError, match=r"^cannot cut out a square: nothing would be left of 1 x 1 places$"):
            strategy.sample(shape, generator, context_of(x))
        return
    for _ in range(10):
        before = x.clone()
        plan = strategy.sample(shape, generator, context_of(x))
        mixed, targets = plan.mix(x), plan.targets(labels, 3)
        assert torch.equal(x, before)
        assert mixed.shape == x.shape
        assert torch.isfinite(mixed).all()
        assert mixed.max() <= x.max() + 1e-6
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(shape[0]))
        assert plan.lam.dtype == torch.float32
        assert plan.lam.shape == plan.partner.shape == (shape[0],)
        assert ((plan.lam >= 0) & (plan.lam <= 1)).all()
        torch.testing.assert_close(plan.weights.sum(dim=1), torch.ones(shape[0]))


@each
def test_targets_have_the_weights_of_the_members(strategy: Strategy) -> None:
    generator = seeded()
    for _ in range(5):
        plan = strategy.sample(SHAPE, generator, context_of(images()))
        expected = torch.zeros(6, 3)
        for row, (members, weights) in enumerate(zip(plan.members, plan.weights, strict=True)):
            for member, weight in zip(members, weights, strict=True):
                expected[row, LABELS[member]] += weight
        expected = expected if plan.active else torch.eye(3)[LABELS]
        torch.testing.assert_close(plan.targets(LABELS, 3), expected)
        logits = torch.randn(6, 3, generator=generator)
        for smoothing in (0.0, 0.1):
            torch.testing.assert_close(
                plan.loss(logits, LABELS, smoothing), F.cross_entropy(logits, expected, label_smoothing=smoothing)
            )
        losses = plan.pair_loss(partial(F.cross_entropy, logits, reduction="none"), LABELS)
        torch.testing.assert_close(losses.mean(), F.cross_entropy(logits, expected))


@pytest.mark.parametrize("name", [name for name, strategy in METHODS.items() if isinstance(strategy, Mixup)])
@pytest.mark.parametrize("labels", ["majority", "constant"])
def test_the_rule_for_labels_changes_no_image(name: str, labels: str) -> None:
    strategy, x = METHODS[name], images()
    assert isinstance(strategy, Mixup)
    if isinstance(strategy.sample(SHAPE, seeded(3), context_of(x)), SeveralPlan):
        with pytest.raises(ValueError, match=rf"^labels must be area for .*, got {labels}$"):
            replace(strategy, labels=labels)
        return
    other = replace(strategy, labels=labels, label_weight=0.3)
    plans = [one.sample(SHAPE, seeded(3), context_of(x)) for one in (strategy, other)]
    assert torch.equal(*(plan.mix(x) for plan in plans))
    settled = [plan.settled().lam.tolist() for plan in plans]
    if "labels" in strategy.unused():
        assert settled[0] == settled[1]
    elif plans[0].active:
        allowed = [0.0, 1.0] if labels == "majority" else [pytest.approx(0.3), 1.0]
        assert all(weight in allowed for weight in settled[1])


@each
def test_the_mean_of_the_mask_is_the_weight(strategy: Strategy) -> None:
    generator = seeded()
    for _ in range(5):
        plan = strategy.sample(SHAPE, generator, context_of(images()))
        if plan.transform is None and not isinstance(plan, PatchUpPlan):  # whose weights are settled later
            torch.testing.assert_close(plan.own_part(images()).flatten(1).mean(dim=1), plan.lam, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "strategy", [FMix(1.0), GridMix(1.0), SmoothMix(), ResizeMix(), Ricap(0.3), InputMixup(1.0, members=3), ZetaMixup()]
)
def test_gradients_reach_every_member(strategy: Strategy) -> None:
    plan = strategy.sample((4, 1, 4, 4), seeded(3))
    x = images((4, 1, 4, 4)).double().requires_grad_()
    assert torch.autograd.gradcheck(plan.mix, x)


@pytest.mark.parametrize(
    ("strategy", "partner", "tolerance"),
    [
        (ResizeMix(per_sample=True), 0.159, 0.005),
        (SmoothMix(per_sample=True), 0.574, 0.005),
        (FMix(1.0, per_sample=True), 0.500, 0.008),
        (ZetaMixup(), 1 - 0.802, 0.0005),
        (ZetaMixup(gamma=2.4), 1 - 0.723, 0.0005),
        (ZetaMixup(gamma=1.73), 1 - 0.511, 0.0005),
        (InputMixup(1.0, members=3, per_sample=True), 1 - 0.335, 0.006),
        (InputMixup(1.0, members=4, per_sample=True), 1 - 0.251, 0.006),
    ],
)
def test_strengths_at_32_pixels(strategy: Strategy, partner: float, tolerance: float) -> None:
    shape = (128, 1, 32, 32)
    generator = seeded()
    lam = torch.cat([strategy.sample(shape, generator).lam for _ in range(100)])
    assert (1 - lam).mean().item() == pytest.approx(partner, abs=tolerance)


def test_fmix_has_the_share_that_is_asked_for() -> None:
    for lam in (0.0, 0.25, 0.5, 0.9):
        plan = FMix(1.0, law="constant", lam=lam).sample((2, 3, 16, 12), seeded())
        assert plan.lam[0].item() == pytest.approx(round(lam * 192) / 192)


def test_a_fourier_field_has_its_spectrum() -> None:
    """Power falls with the frequency to twice the decay, and is the same in both directions."""
    field = fourier_field(2000, 32, 32, 3.0, seeded())
    power = torch.fft.fft2(field).abs().square().mean(dim=0)
    assert (power[0, 8] / power[0, 4]).item() == pytest.approx(2**-6, rel=0.1)
    assert (power[8, 0] / power[4, 0]).item() == pytest.approx(2**-6, rel=0.1)
    assert (power[0, 5] / power[5, 0]).item() == pytest.approx(1, rel=0.15)


def test_a_grid_has_cells() -> None:
    plan = GridMix(1.0, cells=2, law="constant", lam=0.5, per_sample=True).sample((4, 1, 6, 4), seeded(1))
    for own in plan.own_part(torch.ones(4, 1, 6, 4))[:, 0]:
        cells = own.reshape(2, 3, 2, 2)
        assert torch.equal(cells, cells[:, :1, :, :1].expand_as(cells))


def test_resizemix_pastes_the_whole_partner() -> None:
    plan = ResizeMix(scale_low=0.5, scale_high=0.5).sample(SHAPE, seeded(4))
    assert isinstance(plan.mask, Boxes)
    (top,), (bottom,), (left,), (right,) = plan.mask.sides
    x = images()
    small = F.interpolate(x[plan.partner], (bottom - top, right - left), mode="bilinear", align_corners=False)
    expected = x.clone()
    expected[..., top:bottom, left:right] = small
    assert torch.equal(plan.mix(x), expected)


def test_random_erasing_is_inside_and_of_the_areas_asked_for() -> None:
    strategy = RandomErasing(prob=1.0)
    sides = []
    for seed in range(20):
        plan = strategy.sample((128, 1, 32, 32), seeded(seed))
        assert isinstance(plan.mask, Boxes)
        sides += list(zip(*plan.mask.sides, strict=True))
    tops, bottoms, lefts, rights = np.array(sides).T
    height, width = bottoms - tops, rights - lefts
    assert (tops >= 0).all()
    assert (bottoms <= 32).all()
    assert (lefts >= 0).all()
    assert (rights <= 32).all()
    area = height * width / 1024
    assert area.min() > 0.01
    assert area.max() < 0.43
    assert np.median(area) == pytest.approx(0.19, abs=0.02)
    assert stats.ttest_1samp(np.log(height / width), 0).pvalue > 0.01


@pytest.mark.parametrize("labels", ["drawn", Drawn()])
def test_ricap_has_no_lambda_that_labels_could_take(labels: str | LabelRule) -> None:
    with pytest.raises(ValueError, match=r"^labels must be area for RICAP, got "):
        Ricap(0.3, labels=labels)


def test_ricap_is_four_crops() -> None:
    generator = seeded(2)
    for _ in range(5):
        plan = Ricap(0.3).sample(SHAPE, generator)
        if not plan.active:
            continue
        assert isinstance(plan, CropsPlan)
        x, expected = images(), torch.empty(SHAPE)
        row, column = plan.boundary
        for k, (r, c, h, w) in enumerate(
            [
                (0, 0, row, column),
                (0, column, row, 8 - column),
                (row, 0, 8 - row, column),
                (row, column, 8 - row, 8 - column),
            ]
        ):
            top, left = plan.offsets[k]
            expected[..., r : r + h, c : c + w] = x[plan.members[:, k], :, top : top + h, left : left + w]
            assert plan.weights[0, k].item() == pytest.approx(h * w / 64)
        assert torch.equal(plan.mix(x), expected)


@given(st.sampled_from([0.2, 1.0, 5.0]), st.integers(0, 1000))
def test_two_members_of_the_dirichlet_law_are_beta(alpha: float, seed: int) -> None:
    drawn = torch._sample_dirichlet(torch.full((500, 2), alpha, dtype=torch.float64), seeded(seed))[:, 0]
    assert stats.kstest(drawn.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 1e-4


def test_three_members_by_hand() -> None:
    plan = InputMixup(1.0, members=3, per_sample=True).sample(SHAPE, seeded())
    assert isinstance(plan, SeveralPlan)
    x = images()
    expected = sum(plan.weights[:, k].view(-1, 1, 1, 1) * x[plan.members[:, k]] for k in range(3))
    torch.testing.assert_close(plan.mix(x), expected)
    assert torch.equal(plan.members[:, 0], torch.arange(6))
    law = InputMixup(1.0, members=3).law_of_lambda(20)
    assert law == pytest.approx(np.diff(stats.beta(1, 2).cdf(np.linspace(0, 1, 21))).tolist())


def test_members_of_a_block_inside_the_network() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 7), nn.Linear(7, 3))
    plan = ManifoldMixup(1.0, ["1"], members=4).sample(SHAPE, seeded())
    hidden = model[1](model[0](images()))
    expected = model[2](sum(plan.weights[:, k, None] * hidden[plan.members[:, k]] for k in range(4)))
    torch.testing.assert_close(mixed_forward(model, images(), plan), expected)


def test_zeta_ranks_the_whole_batch() -> None:
    plan = ZetaMixup(gamma=2.0).sample(SHAPE, seeded())
    weights = 1 / torch.arange(1, 7) ** 2.0
    torch.testing.assert_close(plan.weights, (weights / weights.sum()).expand(6, -1))
    assert all(sorted(row.tolist()) == list(range(6)) for row in plan.members)
    assert torch.equal(plan.members[:, 0], torch.arange(6))


def test_one_of_by_its_weights() -> None:
    strategy = METHODS["one_of"]
    generator, counts = seeded(), {"input": 0, "cutmix": 0, "none": 0}
    for _ in range(2000):
        plan = strategy.sample(SHAPE, generator)
        counts["none" if not plan.active else "input" if plan.mask is None else "cutmix"] += 1
    empty = counts["none"] - 400  # a box may be empty; then CutMix has mixed nothing but is active
    assert abs(counts["input"] - 800) < 110
    assert abs(counts["cutmix"] + empty - 800) < 160
    assert strategy.depths == ["input"]


@pytest.mark.parametrize(
    ("keys", "refusal"),
    [
        ({"strategies": {}, "weights": {}}, "strategies must have at least one"),
        ({"strategies": {"a": NoMix()}, "weights": {"b": 1.0}}, "weights must be of a, got b"),
        ({"strategies": {"a": NoMix()}, "weights": {"a": 1.5}}, "weights must be >= 0 with a sum of at most 1"),
        ({"strategies": {"a": NoMix()}, "weights": {"a": -0.5}}, "weights must be >= 0"),
    ],
)
def test_one_of_refuses(keys: dict[str, object], refusal: str) -> None:
    with pytest.raises(ValueError, match=f"^{refusal}"):
        OneOf(**keys)  # type: ignore[arg-type]


def test_noise_by_hand() -> None:
    plan = NoisyFeatureMixup(1.0, ["input"]).sample(SHAPE, seeded())
    assert isinstance(plan, NoisyPlan)
    x = images()
    mixed = MixPlan(plan.lam, plan.partner).mix(x)
    noisy = plan.mix(x)
    assert torch.equal(noisy, plan.mix(x))
    generator = seeded(plan.seed)
    uniform, normal = torch.rand(SHAPE, generator=generator), torch.randn(SHAPE, generator=generator)
    torch.testing.assert_close(noisy, (1 + plan.multiplied * (2 * uniform - 1)) * mixed + plan.added * normal)
    silent = NoisyFeatureMixup(1.0, ["input"], add=0.0, multiply=0.0).sample(SHAPE, seeded())
    assert torch.equal(silent.mix(x), mixed)


def test_the_scale_of_the_noise_is_beta_2_5() -> None:
    generator = seeded()
    strategy = NoisyFeatureMixup(1.0, ["input"], add=1.0, multiply=1.0)
    plans = [strategy.sample(SHAPE, generator) for _ in range(3000)]
    for name in ("multiplied", "added"):
        assert stats.kstest([getattr(plan, name) for plan in plans], stats.beta(2, 5).cdf).pvalue > 0.01


def test_moments_are_exchanged() -> None:
    x, other = torch.randn(2, 4, 16, 3, 3, dtype=torch.float64, generator=seeded())
    exchange = ExchangeMoments((4, 16, 3, 3))
    mixed = exchange(x, other)
    torch.testing.assert_close(mixed.mean(dim=1), other.mean(dim=1))
    torch.testing.assert_close(mixed.std(dim=1), other.std(dim=1), rtol=1e-3, atol=0)
    plan = MoEx(layers=["input"]).sample((4, 16, 3, 3), seeded())
    torch.testing.assert_close(plan.mix(x.float()), exchange(x.float(), x.float()[plan.partner]))
    assert plan.lam.tolist() == [pytest.approx(0.9)] * 4


def test_moments_of_samples_that_are_not_mixed_stay() -> None:
    plan = MoEx(layers=["input"], prob=0.5, per_sample=True).sample((64, 3, 4, 4), seeded())
    x = images((64, 3, 4, 4))
    unmixed = plan.lam == 1
    assert 15 < unmixed.sum() < 49
    assert torch.equal(plan.mix(x)[unmixed], x[unmixed])


def smooth_saliencies(count: int, n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = seeded(seed)
    small = torch.rand(2, count, 3, 3, generator=generator)
    own, other = (part / part.sum(dim=(1, 2), keepdim=True) for part in F.interpolate(small, (n, n), mode="bilinear"))
    return own, other, torch.rand(count, generator=generator)


def test_the_exact_masks_are_those_of_brute_force() -> None:
    energy = block_energy(*smooth_saliencies(4, 3, 0), 1.2, 0.2)
    every = torch.cartesian_prod(*[torch.tensor(BLOCK_LABELS)] * 9).view(-1, 3, 3)
    for row, mask in enumerate(exact(energy)):
        one = Energy(energy.unary[row : row + 1], energy.pairwise)
        least = Energy(one.unary.expand(len(every), -1, -1, -1), one.pairwise).of(every).min()
        torch.testing.assert_close(one.of(mask[None])[0], least, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("n", "gap"), [(2, 0.01), (4, 0.02), (8, 0.08)])
def test_the_fast_masks_are_nearly_as_good(n: int, gap: float) -> None:
    energy = block_energy(*smooth_saliencies(100, n, 1), 1.2, 0.2)
    least, found = energy.of(exact(energy)), energy.of(icm(energy))
    assert (found >= least - 1e-5).all()
    assert ((found - least) / least.abs()).mean() < gap


def test_the_energy_by_hand() -> None:
    own, other = torch.tensor([[[0.4, 0.6], [0.0, 0.0]]]), torch.tensor([[[0.1, 0.2], [0.3, 0.4]]])
    energy = block_energy(own, other, torch.tensor([0.5]), 1.2, 0.0)
    mask = torch.tensor([[[1.0, 0.5], [0.0, 0.0]]])
    lost = 0.1 + 0.5 * 0.6 + 0.5 * 0.2
    assert energy.of(mask).item() == pytest.approx(lost + 1.2 / 32 * (0.25 + 0.25 + 1 + 0))


def test_salient_blocks_move_to_where_they_are_seen() -> None:
    saliency, mask = torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)
    saliency[0, 0, 0] = 1.0
    mask[0, 0, 1] = 1.0
    assert transported(saliency, mask, 0.1)[0, 1] == 0  # to the right
    assert transported(saliency, torch.ones(1, 2, 2), 0.8)[0].tolist() == [0, 1, 2, 3]


def test_a_box_is_around_the_most_salient_pixel_of_the_partner() -> None:
    x = torch.zeros(SHAPE)
    at = [(1, 1), (2, 6), (5, 5), (6, 2), (4, 4), (3, 1)]
    for row, (i, j) in enumerate(at):
        x[row, :, i, j] = 1
    plan = SaliencyMix(1.0, law="constant", lam=0.9).sample(SHAPE, seeded(), Context(images=x))
    assert isinstance(plan.mask, Boxes)
    for (top, bottom, left, right), partner in zip(zip(*plan.mask.sides, strict=True), plan.partner, strict=True):
        assert ((top + bottom) // 2, (left + right) // 2) == at[partner]


def test_attention_weighs_half_of_the_label() -> None:
    model = ViT(1, 8, 10)
    plan = TransMix(1.0, law="constant", lam=0.5).sample((6, 1, 8, 8), seeded(3))
    assert isinstance(plan.mask, Boxes)
    mixed_forward(model, images((6, 1, 8, 8)), plan)
    assert isinstance(plan, AttentionPlan)
    (attention,) = plan.seen
    inside = plan.mask.inside(8, 8)[0, 0].float()
    share = torch.stack([inside[i : i + 4, j : j + 4].mean() for i in (0, 4) for j in (0, 4)])
    partner = (attention * share).sum(dim=1) / attention.sum(dim=1)
    torch.testing.assert_close(plan.settled().lam, 1 - (1 - plan.lam + partner) / 2)
    assert plan.to(torch.device("cpu")).settled().lam.shape == (6,)


@pytest.mark.parametrize("odd_sides", [True, False])
def test_attention_has_the_boxes_of_cutmix(odd_sides: bool) -> None:
    shape = (40, 1, 9, 9)
    plans = [of(1.0, per_sample=True, odd_sides=odd_sides).sample(shape, seeded(3)) for of in (CutMix, TransMix)]
    boxes = [plan.mask for plan in plans]
    assert isinstance(boxes[0], Boxes)
    assert isinstance(boxes[1], Boxes)
    assert boxes[0].sides == boxes[1].sides


@pytest.mark.parametrize(("sides", "side"), [((8, 8), 4), ((32, 32), 16), ((28, 28), 14), ((6, 40), 2), ((3, 3), 2)])
def test_the_square_of_cutout_is_half_of_the_image(sides: tuple[int, int], side: int) -> None:
    """An odd half is one less; some of each image is left, and at the border less is cut out."""
    mask = Cutout().sample((400, 1, *sides), seeded()).mask
    assert isinstance(mask, Boxes)
    assert max(mask.areas) == side**2
    assert (mask.own_share((400, 1, *sides)) > 0).all()


@pytest.mark.parametrize("sides", [(8, 8), (5, 9)])
def test_a_square_that_leaves_nothing_of_any_image_is_refused(sides: tuple[int, int]) -> None:
    most = 2 * max(sides) - 1
    lines = rf"^size must be at most {most}: nothing would be left of {sides[0]} x {sides[1]} places, got {most + 1}$"
    with pytest.raises(ValueError, match=lines):
        Cutout(size=most + 1).sample((4, 1, *sides), seeded())
    share = Cutout(size=most).sample((400, 1, *sides), seeded()).own_share((400, 1, *sides))
    assert (share == 0).any()
    assert (share > 0).any()


def test_amplitudes_that_are_infinite_are_refused() -> None:
    """They would make one mask of all draws."""
    with pytest.raises(
        ValueError, match=r"^decay must be smaller for 8 x 8 places, some amplitudes are infinite, got 50"
    ):
        FMix(1.0, decay=50).sample(SHAPE, seeded())
    masks = [FMix(1.0, decay=20).sample((1, 1, 8, 8), seeded(seed)).own_part(torch.ones(1, 1, 8, 8)) for seed in (1, 2)]
    assert not torch.equal(*masks)


def test_a_grid_has_at_most_a_cell_per_pixel() -> None:
    plans = [GridMix(1.0, cells=cells).sample((5, 1, 9, 7), seeded()) for cells in (9, 10, 10**6)]
    masks = [plan.own_part(torch.ones(5, 1, 9, 7)) for plan in plans]
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(masks[0], masks[2])


def test_numbers_of_numpy_are_numbers() -> None:
    plans = [InputMixup(alpha).sample(SHAPE, seeded()) for alpha in (1, np.int64(1), np.float32(1))]
    assert all(torch.equal(plan.lam, plans[0].lam) for plan in plans)


def test_a_square_of_no_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^size must be >= 2, got 1$"):
        Cutout(size=1)
    assert max(Cutout(size=3).sample((99, 1, 9, 9), seeded()).mask.areas) == 4  # type: ignore[union-attr]


def test_attention_is_read_from_the_last_block() -> None:
    model, seen = ViT(3, 8, 10, depth=2).eval(), []
    model.get_submodule("attention").register_forward_hook(lambda module, args, output: seen.append(output))
    logits = model(images((5, 3, 8, 8)))
    assert logits.shape == (5, 10)
    assert seen[0].shape == (5, 4, 5, 5)
    torch.testing.assert_close(seen[0].sum(dim=-1), torch.ones(5, 4, 5))
    block, x = model.block1, torch.randn(2, 5, 96)
    reference = nn.MultiheadAttention(96, 4, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(block.queries_keys_values.weight)
        reference.in_proj_bias.copy_(block.queries_keys_values.bias)
        reference.out_proj.load_state_dict(block.out.state_dict())
    normed = block.norm1(x)
    after = x + reference(normed, normed, normed)[0]
    torch.testing.assert_close(block(x), after + block.mlp(block.norm2(after)))


@pytest.mark.parametrize("soft", [True, False])
def test_patchup_by_hand(soft: bool) -> None:
    plan = PatchUp(1.0, ["input"], block=3, gamma=0.5, soft=soft).sample((4, 6, 9, 9), seeded(1))
    x, labels, logits = images((4, 6, 9, 9)), torch.tensor([0, 1, 2, 1]), torch.randn(4, 3, generator=seeded())
    assert isinstance(plan, PatchUpPlan)
    changed = plan.blocks((6, 9, 9))
    lam = plan.lam[0]
    inside = lam * x + (1 - lam) * x[plan.partner] if soft else x[plan.partner]
    torch.testing.assert_close(plan.mix(x), torch.where(changed, inside, x))
    kept, settled = 1 - changed.float().mean(), plan.settled()
    own = F.cross_entropy(logits, labels, reduction="none")
    other = F.cross_entropy(logits, labels[plan.partner], reduction="none")
    weight = lam if soft else 0.0
    total = kept + (1 - kept) * weight
    expected = kept * own + (1 - kept) * (weight * own + (1 - weight) * other) + total * own + (1 - total) * other
    torch.testing.assert_close(PatchUp.mixed_weight * settled.loss(logits, labels), expected.mean())
    torch.testing.assert_close(settled.lam, total.expand(4))


def test_patchup_of_a_block_of_several_tensors_has_the_share_of_all() -> None:
    plan = PatchUp(1.0, ["input"], block=3, gamma=0.5, soft=False).sample((4, 6, 9, 9), seeded(1))
    assert isinstance(plan, PatchUpPlan)
    shapes = [(6, 9, 9), (2, 5, 5)]
    for shape in shapes:
        plan.mix(torch.rand(4, *shape))
    kept = [1 - plan.blocks(shape).double().mean().item() for shape in shapes]
    assert kept[0] != kept[1]
    assert plan.settled().lam.tolist() == pytest.approx([sum(kept) / 2] * 4)


def test_patchup_has_the_same_blocks_where_channels_are_last() -> None:
    plan = PatchUp(1.0, ["block"], block=3, gamma=0.5).sample((4, 3, 18, 18), seeded(1))
    assert isinstance(plan, PatchUpPlan)
    x = torch.randn(4, 96, 8, 8, generator=seeded())
    torch.testing.assert_close(plan.mix(x.movedim(1, -1)), plan.mix(x).movedim(1, -1), rtol=0, atol=0)
    assert plan.blocks((96, 8, 8)).any()


def test_patchup_changes_about_its_share() -> None:
    """Blocks overlap, so gamma 0.5 covers 1 - (1 - rate)^area of the positions away from the border."""
    plan = PatchUpPlan(
        torch.ones(1), torch.zeros(1).long(), inputs=(1, 3, 15, 15), block=3, gamma=0.5, soft=True, seed=5, kept=[]
    )
    changed = plan.blocks((400, 15, 15))[:, 3:-3, 3:-3].float().mean().item()
    rate = 0.5 * 15**2 / (9 * 13**2)
    assert changed == pytest.approx(1 - (1 - rate) ** 9, abs=0.01)


def test_aligned_features_are_moved_to_where_they_are_alike() -> None:
    """A shuffled copy is put back, since that costs nothing."""
    x = torch.randn(2, 32, 3, 3, generator=seeded())
    order = torch.randperm(9, generator=seeded(1))
    shuffled = x.flatten(2)[:, :, order].view_as(x)
    torch.testing.assert_close(aligned(x, shuffled), x, atol=1e-3, rtol=0)
    torch.testing.assert_close(aligned(x.flatten(2), shuffled.flatten(2)).view_as(x), x, atol=1e-3, rtol=0)
    align = AlignFeatures(to_partner=False, mixed=torch.ones(1, dtype=torch.bool), inputs=(4, 3, 8, 8))
    for shape in ((4, 8), (4, 8, 8, 96)):  # a row, and channels last
        with pytest.raises(ValueError, match=r"^features are aligned by their places"):
            align(torch.randn(shape), torch.randn(shape))


def test_alignment_keeps_the_sum_of_the_partner() -> None:
    """The transport has uniform marginals: each position of the partner is used once in all."""
    x, other = torch.randn(2, 3, 16, 4, 4, generator=seeded())
    torch.testing.assert_close(aligned(x, other).sum(dim=(2, 3)), other.sum(dim=(2, 3)), atol=0.5, rtol=0.05)


@pytest.mark.parametrize("file", sorted((CONF / "mixup/matched").glob("*.yaml")), ids=lambda file: file.stem)
def test_matched_strategies_are_as_strong_as_resizemix(file: Path, compose: Callable[..., Experiment]) -> None:
    """The mean of 1 - lambda over 40,000 samples; that of ResizeMix itself is 0.1588 over 400,000."""
    experiment = compose(f"mixup=matched/{file.stem}", "mixup.per_sample=true")
    generator = torch.Generator().manual_seed(0)
    plans = [experiment.strategy.sample((1000, 3, 32, 32), generator) for _ in range(40)]
    assert torch.stack([1 - plan.lam for plan in plans]).mean().item() == pytest.approx(0.1588, abs=0.003)
