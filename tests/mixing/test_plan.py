"""What a plan does to tensors, labels and the loss."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vicinal.mixing import InputMixup, MixPlan, Mixup
from vicinal.mixing.context import Context
from vicinal.mixing.fields import FMix
from vicinal.mixing.masks import Boxes
from vicinal.mixing.pasting import Cutout, ResizeMix, Ricap
from vicinal.mixing.saliency import PuzzleMix

CLASSES = 7
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def random_plan(batch: int, seed: int) -> MixPlan:
    generator = torch.Generator().manual_seed(seed)
    return MixPlan(torch.rand(batch, generator=generator), torch.randperm(batch, generator=generator))


def batch_of(batch: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Images, logits and labels."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(batch, 3, 6, 5, generator=generator),
        2 * torch.randn(batch, CLASSES, generator=generator),
        torch.randint(CLASSES, (batch,), generator=generator),
    )


def box_plan() -> MixPlan:
    boxes = Boxes([[1], [4], [0], [3]], (6, 5))
    return MixPlan(torch.full((4,), 0.7), torch.tensor([1, 2, 3, 0]), mask=boxes)


BATCH = st.integers(1, 9)
SEED = st.integers(0, 2**32)
SMOOTHING = st.sampled_from([0.0, 0.1, 0.5, 1.0])


class TestMix:
    @given(batch=BATCH, seed=SEED, sizes=st.lists(st.integers(1, 4), max_size=4))
    def test_is_the_weighted_mean_at_any_rank(self, batch: int, seed: int, sizes: list[int]) -> None:
        plan = random_plan(batch, seed)
        x = torch.randn(batch, *sizes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        mixed = plan.mix(x)
        for i, (lam, j) in enumerate(zip(plan.lam.tolist(), plan.partner.tolist(), strict=True)):
            torch.testing.assert_close(mixed[i], lam * x[i] + (1 - lam) * x[j], rtol=0, atol=1e-14)

    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("plan", [random_plan(4, 0), box_plan()], ids=["scalar", "box"])
    def test_keeps_the_dtype_and_does_not_change_x(self, dtype: torch.dtype, plan: MixPlan) -> None:
        x = torch.randn(4, 3, 6, 5).to(dtype)
        before = x.clone()
        mixed = plan.mix(x)
        assert mixed.dtype == dtype
        assert torch.equal(x, before)
        assert not torch.equal(mixed, x)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_low_precision_is_rounded_once_at_the_end(self, dtype: torch.dtype) -> None:
        plan = random_plan(8, 1)
        x = torch.randn(8, 3, 6, 5).to(dtype)
        assert torch.equal(plan.mix(x), plan.mix(x.float()).to(dtype))

    @pytest.mark.parametrize("plan", [random_plan(4, 0), box_plan()], ids=["scalar", "box"])
    def test_channels_last_stays_channels_last(self, plan: MixPlan) -> None:
        x = torch.randn(4, 3, 6, 5)
        mixed = plan.mix(x.to(memory_format=torch.channels_last))
        assert mixed.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(mixed, plan.mix(x))

    @pytest.mark.parametrize("lam", [0.0, 1.0])
    def test_at_the_ends_lambda_gives_exact_copies(self, lam: float) -> None:
        partner = torch.tensor([2, 0, 1])
        x = torch.randn(3, 2, 4, 4)
        mixed = MixPlan(torch.full((3,), lam), partner).mix(x)
        assert torch.equal(mixed, x if lam else x[partner])

    @given(lam=st.floats(0, 1, width=32))
    def test_mixing_with_oneself_changes_no_bit(self, lam: float) -> None:
        x = torch.randn(3, 2, 4, 4)
        assert torch.equal(MixPlan(torch.full((3,), lam), torch.arange(3)).mix(x), x)

    def test_the_mask_takes_the_place_of_lambda(self) -> None:
        x = torch.stack([torch.full((1, 6, 5), float(i)) for i in range(4)])
        mixed = box_plan().mix(x)
        for i in range(4):
            assert sorted(set(mixed[i].flatten().tolist())) == sorted([i, (i + 1) % 4])
            assert int((mixed[i] == (i + 1) % 4).sum()) == 3 * 3

    def test_an_inactive_plan_gives_x_itself(self) -> None:
        x = torch.randn(3, 2)
        assert MixPlan(torch.full((3,), 0.5), torch.tensor([1, 2, 0]), active=False).mix(x) is x

    def test_refuses_integers_that_it_would_blend(self) -> None:
        plan = MixPlan(torch.full((2,), 0.5), torch.tensor([1, 0]))
        integers = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
        with pytest.raises(TypeError, match=r"^mixing needs floating-point values, got torch\.uint8$"):
            plan.mix(integers)
        assert replace(plan, active=False).mix(integers) is integers

    @pytest.mark.parametrize("active", [True, False])
    @pytest.mark.parametrize("batch", [1, 3])
    def test_refuses_another_batch_size(self, batch: int, active: bool) -> None:
        plan = MixPlan(torch.full((2,), 0.5), torch.tensor([1, 0]), active=active)
        with pytest.raises(ValueError, match=rf"^the plan is for a batch of 2, got {batch}$"):
            plan.mix(torch.zeros(batch, 3, 4, 4))


class TestTargets:
    @given(batch=BATCH, seed=SEED)
    def test_rows_are_distributions_with_the_weights_of_both_labels(self, batch: int, seed: int) -> None:
        plan = random_plan(batch, seed)
        _, _, labels = batch_of(batch, seed)
        targets = plan.targets(labels, CLASSES)
        assert (targets.shape, targets.dtype) == ((batch, CLASSES), torch.float32)
        expected = torch.zeros(batch, CLASSES, dtype=torch.float64)
        for i, (lam, j) in enumerate(zip(plan.lam.tolist(), plan.partner.tolist(), strict=True)):
            expected[i, labels[i]] += lam
            expected[i, labels[j]] += 1 - lam
        torch.testing.assert_close(targets.double(), expected, rtol=0, atol=1e-7)
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(batch), rtol=0, atol=1e-6)

    def test_an_inactive_plan_gives_one_hot(self) -> None:
        plan = MixPlan(torch.full((2,), 0.5), torch.tensor([1, 0]), active=False)
        assert plan.targets(torch.tensor([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]


class TestLoss:
    @given(batch=BATCH, seed=SEED, smoothing=SMOOTHING)
    def test_equals_cross_entropy_to_the_soft_targets(self, batch: int, seed: int, smoothing: float) -> None:
        plan = random_plan(batch, seed)
        _, logits, labels = batch_of(batch, seed)
        expected = F.cross_entropy(logits, plan.targets(labels, CLASSES), label_smoothing=smoothing)
        torch.testing.assert_close(plan.loss(logits, labels, smoothing), expected, rtol=1e-6, atol=1e-6)

    @given(batch=BATCH, seed=SEED, smoothing=SMOOTHING)
    def test_counts_smoothing_once(self, batch: int, seed: int, smoothing: float) -> None:
        """-sum_k [(1 - s) y_k + s / K] log p_k, in float64 by hand."""
        plan = random_plan(batch, seed)
        _, logits, labels = batch_of(batch, seed)
        exponentials = logits.double().exp()
        log_p = (exponentials / exponentials.sum(dim=1, keepdim=True)).log()
        smoothed = (1 - smoothing) * plan.targets(labels, CLASSES).double() + smoothing / CLASSES
        expected = -(smoothed * log_p).sum(dim=1).mean()
        torch.testing.assert_close(plan.loss(logits.double(), labels, smoothing), expected, rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_an_inactive_plan_is_plain_cross_entropy(self, smoothing: float) -> None:
        _, logits, labels = batch_of(5)
        plan = MixPlan(torch.full((5,), 0.3), torch.randperm(5), active=False)
        assert torch.equal(
            plan.loss(logits, labels, smoothing), F.cross_entropy(logits, labels, label_smoothing=smoothing)
        )

    def test_gradient_is_probabilities_minus_targets(self) -> None:
        plan = random_plan(6, 3)
        _, logits, labels = batch_of(6)
        logits.requires_grad_()
        plan.loss(logits, labels).backward()  # type: ignore[no-untyped-call]
        assert logits.grad is not None
        expected = (logits.detach().softmax(dim=1) - plan.targets(labels, CLASSES)) / 6
        torch.testing.assert_close(logits.grad, expected, rtol=0, atol=1e-6)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
    def test_is_in_the_dtype_of_the_logits(self, dtype: torch.dtype) -> None:
        _, logits, labels = batch_of(5)
        assert random_plan(5, 0).loss(logits.to(dtype), labels).dtype == dtype


class TestMixTargets:
    @given(batch=BATCH, seed=SEED, sizes=st.lists(st.integers(1, 4), max_size=3))
    def test_without_a_mask_all_are_blended(self, batch: int, seed: int, sizes: list[int]) -> None:
        plan = random_plan(batch, seed)
        y = torch.randn(batch, *sizes, dtype=torch.float64)
        mixed = plan.mix_targets(y)
        for i, (lam, j) in enumerate(zip(plan.lam.tolist(), plan.partner.tolist(), strict=True)):
            torch.testing.assert_close(mixed[i], lam * y[i] + (1 - lam) * y[j], rtol=0, atol=1e-14)

    @pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float32])
    @pytest.mark.parametrize("channels", [(), (2,), (2, 3)])
    def test_maps_are_cut_where_the_images_are(self, dtype: torch.dtype, channels: tuple[int, ...]) -> None:
        plan = box_plan()
        maps = torch.arange(4).view(-1, *[1] * (len(channels) + 2)).expand(-1, *channels, 6, 5).to(dtype)
        images = torch.arange(4.0).view(-1, 1, 1, 1).expand(-1, 1, 6, 5)
        mixed = plan.mix_targets(maps)
        assert (mixed.shape, mixed.dtype) == (maps.shape, dtype)
        expected = plan.mix(images).view(4, *[1] * len(channels), 6, 5).expand(maps.shape)
        assert torch.equal(mixed.float(), expected)

    def test_each_sample_has_its_own_cut(self) -> None:
        boxes = Boxes([[0, 1], [2, 2], [0, 0], [1, 2]], (2, 2))
        plan = MixPlan(torch.tensor([0.5, 0.5]), torch.tensor([1, 0]), mask=boxes)
        maps = torch.tensor([7, 9]).view(2, 1, 1).expand(2, 2, 2)
        assert plan.mix_targets(maps).tolist() == [[[9, 7], [9, 7]], [[9, 9], [7, 7]]]

    def test_maps_are_blended_where_a_block_is_cut(self) -> None:
        """The block has other places than the map, as many or not."""
        plan = replace(box_plan(), layer="block1")
        maps = torch.rand(4, 2, 6, 5)
        torch.testing.assert_close(plan.mix_targets(maps), 0.7 * maps + 0.3 * maps[[1, 2, 3, 0]])
        with pytest.raises(TypeError, match=r"^blending needs floating-point targets"):
            plan.mix_targets(maps.long())

    @pytest.mark.parametrize(
        "strategy", [ResizeMix(scale_low=0.7), PuzzleMix(1.0), Cutout(size=3), Ricap(1.0), FMix(1.0)]
    )
    def test_maps_are_changed_as_the_images_are(self, strategy: Mixup) -> None:
        images = torch.rand(4, 1, 8, 8)
        context = Context(images=images, saliency=images[:, 0])
        plan = strategy.sample(images.shape, torch.Generator().manual_seed(3), context)
        mixed = plan.mix_targets(images[:, 0])
        assert torch.equal(mixed, plan.mix(images)[:, 0])
        assert not torch.equal(mixed, images[:, 0])
        if plan.transform is not None:
            with pytest.raises(TypeError, match=r"^blending needs floating-point targets"):
                plan.mix_targets(torch.zeros(4, 8, 8, dtype=torch.int64))

    @pytest.mark.parametrize("strategy", [Ricap(1.0, depth="block1"), InputMixup(1.0, members=3, depth="block1")])
    def test_several_maps_are_blended_where_a_block_is_mixed(self, strategy: Mixup) -> None:
        context = Context(shapes={"block1": (5, 4, 4)})
        plan = strategy.sample((4, 1, 8, 8), torch.Generator().manual_seed(3), context)
        maps = torch.rand(4, 8, 8)
        expected = (plan.weights[:, :, None, None] * maps[plan.members]).sum(dim=1)
        torch.testing.assert_close(plan.mix_targets(maps), expected)
        own = plan.own_part(torch.zeros(4, 1, 8, 8))
        assert own.shape == (4, 5, 4, 4)
        torch.testing.assert_close(own.mean(dim=(1, 2, 3)), plan.lam)

    def test_vectors_are_blended_under_a_mask_too(self) -> None:
        y = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0], [4.0, 0.0]])
        torch.testing.assert_close(box_plan().mix_targets(y), 0.7 * y + 0.3 * y[[1, 2, 3, 0]])

    @pytest.mark.parametrize("shape", [(4,), (4, 2), (4, 6, 5)])
    def test_classes_are_not_averaged(self, shape: tuple[int, ...]) -> None:
        plan = random_plan(4, 0) if len(shape) == 3 else box_plan()
        with pytest.raises(TypeError, match=r"^blending needs floating-point targets, got torch\.int64$"):
            plan.mix_targets(torch.zeros(shape, dtype=torch.int64))

    def test_an_inactive_plan_gives_the_targets_themselves(self) -> None:
        y = torch.tensor([2, 0])
        assert MixPlan(torch.full((2,), 0.5), torch.tensor([1, 0]), active=False).mix_targets(y) is y


class TestPairLoss:
    @given(batch=BATCH, seed=SEED, smoothing=SMOOTHING)
    def test_its_mean_is_the_loss(self, batch: int, seed: int, smoothing: float) -> None:
        plan = random_plan(batch, seed)
        _, logits, labels = batch_of(batch, seed)
        losses = plan.pair_loss(
            lambda y: F.cross_entropy(logits, y, reduction="none", label_smoothing=smoothing), labels
        )
        assert losses.shape == (batch,)
        assert torch.equal(losses.mean(), plan.loss(logits, labels, smoothing))

    @given(batch=BATCH, seed=SEED)
    def test_any_loss_is_weighted_by_lambda(self, batch: int, seed: int) -> None:
        plan = random_plan(batch, seed)
        outputs, targets = torch.randn(2, batch, 3, 4, dtype=torch.float64)
        losses = plan.pair_loss(lambda y: (outputs - y).abs().amax(dim=(1, 2)), targets)
        for i, (lam, j) in enumerate(zip(plan.lam.tolist(), plan.partner.tolist(), strict=True)):
            own, other = ((outputs[i] - targets[k]).abs().max() for k in (i, j))
            torch.testing.assert_close(losses[i], lam * own + (1 - lam) * other, rtol=0, atol=1e-12)

    def test_an_inactive_plan_has_the_own_loss(self) -> None:
        plan = MixPlan(torch.full((2,), 0.5), torch.tensor([1, 0]), active=False)
        assert plan.pair_loss(lambda y: 2 * y, torch.tensor([1.0, 3.0])).tolist() == [2, 6]


class TestMoving:
    def test_nothing_is_copied_where_it_already_is(self) -> None:
        plan = box_plan()
        assert plan.to(torch.device("cpu")) is plan

    def test_everything_goes_along(self) -> None:
        moved = MixPlan(torch.ones(4), torch.arange(4), "layer1", box_plan().mask, active=False).to(
            torch.device("meta")
        )
        assert (moved.lam.device.type, moved.partner.device.type) == ("meta", "meta")
        assert (moved.layer, moved.active) == ("layer1", False)
        assert isinstance(moved.mask, Boxes)
        assert moved.mask.corners is not None
        assert moved.mask.corners.device.type == "meta"
