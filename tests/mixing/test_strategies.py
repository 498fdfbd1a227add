"""What each strategy decides, from which numbers, and what it leaves alone."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError, asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vicinal.mixing import CutMix, InputMixup, ManifoldMixup, MixPlan, Mixup, NoMix, Strategy, mixed_forward
from vicinal.mixing.masks import Boxes
from vicinal.tasks import CLASSIFICATION
from vicinal.tasks.losses import CrossEntropy

LAYERS = ("input", "layer1", "layer2")
SHAPE = (5, 3, 8, 8)

Beta = Callable[..., Strategy]
BETAS: dict[str, Beta] = {
    "input": InputMixup,
    "manifold": lambda alpha, **rest: ManifoldMixup(alpha, LAYERS, **rest),
    "cutmix": CutMix,
    "cutmix-uncorrected": lambda alpha, **rest: CutMix(alpha, labels="drawn", **rest),
}
each_beta = pytest.mark.parametrize("make", BETAS.values(), ids=BETAS)
STRATEGIES: dict[str, Strategy] = {
    "none": NoMix(),
    **{name: make(1.0) for name, make in BETAS.items()},
    **{f"{name}-per-sample": make(1.0, per_sample=True) for name, make in BETAS.items()},
}
each_strategy = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sides(plan: MixPlan) -> list[list[int]]:
    """Top, bottom, left and right of the boxes."""
    assert isinstance(plan.mask, Boxes)
    return [*plan.mask.sides]


def written(plan: MixPlan) -> tuple[Any, ...]:
    """Lambda, partners, layer, boxes, active."""
    boxes = None if plan.mask is None else sides(plan)
    return plan.lam.tolist(), plan.partner.tolist(), plan.layer, boxes, plan.active


def close_to_share(count: int, total: int, share: float) -> bool:
    """Within five standard deviations of a binomial."""
    return abs(count - total * share) < 5 * math.sqrt(total * share * (1 - share))


class TestPlans:
    @each_strategy
    @given(batch=st.integers(1, 9), sizes=st.tuples(*[st.integers(1, 12)] * 3), seed=st.integers(0, 2**32))
    def test_are_well_formed_at_any_shape(
        self, strategy: Strategy, batch: int, sizes: Sequence[int], seed: int
    ) -> None:
        plan = strategy.sample((batch, *sizes), seeded(seed))
        assert (plan.lam.shape, plan.lam.dtype) == ((batch,), torch.float32)
        assert plan.partner.dtype == torch.int64
        assert sorted(plan.partner.tolist()) == list(range(batch))
        assert bool(((plan.lam >= 0) & (plan.lam <= 1)).all())
        x = torch.randn(batch, *sizes, generator=seeded(seed))
        assert plan.mix(x).shape == x.shape

    def test_no_mixing_leaves_everything_and_draws_nothing(self) -> None:
        generator = seeded()
        plan = NoMix().sample(SHAPE, generator)
        assert written(plan) == ([1] * 5, [0, 1, 2, 3, 4], None, None, False)
        assert torch.equal(generator.get_state(), seeded().get_state())

    @each_beta
    def test_one_lambda_a_batch_or_one_a_sample(self, make: Beta) -> None:
        shape = (64, 3, 32, 32)
        assert len(set(make(2.0).sample(shape, seeded()).lam.tolist())) == 1
        assert len(set(make(2.0, per_sample=True).sample(shape, seeded()).lam.tolist())) > 48

    def test_one_box_a_batch_or_one_a_sample(self) -> None:
        shape = (64, 3, 32, 32)
        assert [len(side) for side in sides(CutMix(1.0).sample(shape, seeded()))] == [1] * 4
        assert len(set(zip(*sides(CutMix(1.0, per_sample=True).sample(shape, seeded())), strict=True))) > 48

    @each_beta
    @given(seed=st.integers(0, 2**32))
    def test_for_a_batch_of_one_per_sample_is_per_batch(self, make: Beta, seed: int) -> None:
        plans = [make(1.0, per_sample=each).sample((1, 3, 8, 8), seeded(seed)) for each in (False, True)]
        assert written(plans[0]) == written(plans[1])

    @given(seed=st.integers(0, 2**32), per_sample=st.booleans())
    def test_area_correction_sets_the_weight_to_the_area_that_is_left(self, seed: int, per_sample: bool) -> None:
        shape = (6, 3, 32, 24)
        raw = CutMix(1.0, per_sample=per_sample, labels="drawn").sample(shape, seeded(seed))
        corrected = CutMix(1.0, per_sample=per_sample).sample(shape, seeded(seed))
        assert sides(raw) == sides(corrected)
        assert isinstance(corrected.mask, Boxes)
        left = [1 - area / (32 * 24) for area in corrected.mask.areas]
        expected = torch.tensor(left if per_sample else left * 6, dtype=torch.float32)
        assert torch.equal(corrected.lam, expected)
        assert torch.equal(raw.lam, InputMixup(1.0, per_sample=per_sample).sample(shape, seeded(seed)).lam)

    def test_layers_are_drawn_uniformly(self) -> None:
        strategy, generator = ManifoldMixup(1.0, LAYERS), seeded()
        drawn = [strategy.sample((1, 1, 1, 1), generator).layer for _ in range(3000)]
        assert set(drawn) == {None, "layer1", "layer2"}
        assert all(close_to_share(drawn.count(layer), 3000, 1 / 3) for layer in (None, "layer1", "layer2"))

    def test_partners_are_a_uniform_permutation(self) -> None:
        strategy, generator = InputMixup(1.0), seeded()
        drawn = [tuple(strategy.sample((3, 1, 1, 1), generator).partner.tolist()) for _ in range(3000)]
        assert len(set(drawn)) == 6
        assert all(close_to_share(drawn.count(order), 3000, 1 / 6) for order in set(drawn))


class TestProbability:
    @each_beta
    @pytest.mark.parametrize("off", [{"alpha": 1.0, "prob": 0.0}, {"alpha": 0.0}], ids=["prob=0", "alpha=0"])
    @pytest.mark.parametrize("per_sample", [False, True])
    def test_off_means_that_nothing_is_mixed(self, make: Beta, off: dict[str, float], per_sample: bool) -> None:
        strategy, generator = make(**off, per_sample=per_sample), seeded()
        for _ in range(20):
            plan = strategy.sample(SHAPE, generator)
            assert not plan.active
            assert plan.lam.tolist() == [1] * 5
            # Said by lambda and mask too, not by the switch alone.
            x = torch.randn(SHAPE)
            assert torch.equal(replace(plan, active=True).mix(x), x)

    @each_beta
    def test_a_share_of_the_batches_is_mixed(self, make: Beta) -> None:
        strategy, generator = make(2.0, prob=0.3), seeded()
        mixed = sum(strategy.sample((2, 1, 32, 32), generator).active for _ in range(2000))
        assert close_to_share(mixed, 2000, 0.3)

    @each_beta
    def test_a_share_of_the_samples_is_mixed(self, make: Beta) -> None:
        shape = (20_000, 3, 512, 512)  # so large an image that hardly any box is empty
        plan = make(8.0, prob=0.3, per_sample=True).sample(shape, seeded())
        assert plan.active
        assert close_to_share(int((plan.lam < 1).sum()), 20_000, 0.3)

    @each_beta
    def test_a_sample_that_is_not_chosen_keeps_every_bit(self, make: Beta) -> None:
        plan = make(8.0, prob=0.5, per_sample=True).sample((64, 3, 32, 32), seeded())
        kept = plan.lam == 1
        assert 16 < int(kept.sum()) < 48
        x = torch.randn(64, 3, 32, 32)
        mixed = plan.mix(x)
        assert torch.equal(mixed[kept], x[kept])
        moved = ~kept & (plan.partner != torch.arange(64))
        assert bool((mixed[moved] != x[moved]).flatten(1).any(dim=1).all())

    @each_beta
    def test_prob_one_mixes_every_batch(self, make: Beta) -> None:
        strategy, generator = make(8.0), seeded()
        assert all(strategy.sample((2, 1, 32, 32), generator).active for _ in range(200))


class TestRandomness:
    @pytest.mark.parametrize("per_sample", [False, True])
    @given(seed=st.integers(0, 2**32))
    def test_the_first_batch_has_the_same_lambda_and_partners_everywhere(self, per_sample: bool, seed: int) -> None:
        plans = {name: make(0.4, per_sample=per_sample).sample(SHAPE, seeded(seed)) for name, make in BETAS.items()}
        for plan in plans.values():
            assert torch.equal(plan.partner, plans["input"].partner)
        for name in ("manifold", "cutmix-uncorrected"):
            assert torch.equal(plans[name].lam, plans["input"].lam)

    @pytest.mark.parametrize("per_sample", [False, True])
    def test_manifold_at_the_input_is_input_mixup_to_the_end(self, per_sample: bool) -> None:
        ours, theirs = seeded(), seeded()
        manifold = ManifoldMixup(0.4, ["input"], prob=0.8, per_sample=per_sample)
        plain = InputMixup(0.4, prob=0.8, per_sample=per_sample)
        x = torch.randn(SHAPE)
        for _ in range(30):
            plan, expected = manifold.sample(SHAPE, ours), plain.sample(SHAPE, theirs)
            assert written(plan) == written(expected)
            assert torch.equal(plan.mix(x), expected.mix(x))
            assert torch.equal(ours.get_state(), theirs.get_state())

    @each_beta
    def test_how_much_is_drawn_depends_on_neither_alpha_nor_prob(self, make: Beta) -> None:
        states = []
        for alpha, prob in [(0.0, 1.0), (1e-3, 1.0), (1.0, 0.0), (1.0, 0.5), (32.0, 1.0)]:
            generator = seeded()
            make(alpha, prob=prob).sample(SHAPE, generator)
            states.append(generator.get_state())
        assert all(torch.equal(state, states[0]) for state in states)

    @each_strategy
    def test_a_strategy_remembers_nothing(self, strategy: Strategy) -> None:
        before = asdict(strategy)  # type: ignore[call-overload]
        first = written(strategy.sample(SHAPE, seeded(1)))
        strategy.sample((3, 1, 4, 4), seeded(2))
        assert written(strategy.sample(SHAPE, seeded(1))) == first
        assert asdict(strategy) == before  # type: ignore[call-overload]

    @each_strategy
    def test_a_strategy_cannot_be_changed(self, strategy: Strategy) -> None:
        with pytest.raises(FrozenInstanceError):
            strategy.alpha = 3.0  # type: ignore[attr-defined]

    @each_strategy
    def test_torchs_own_generator_is_not_touched(self, strategy: Strategy) -> None:
        before = torch.get_rng_state()
        plan = strategy.sample(SHAPE, seeded())
        labels = torch.arange(5)
        plan.mix(torch.zeros(SHAPE))
        plan.loss(torch.zeros(5, 5), labels)
        plan.targets(labels, 5)
        assert torch.equal(torch.get_rng_state(), before)

    @each_strategy
    def test_after_the_decision_no_value_is_read_back(self, strategy: Strategy) -> None:
        """Meta tensors have no values: whatever would wait for a device raises here."""
        meta = torch.device("meta")
        plan = strategy.sample(SHAPE, seeded()).to(meta)
        labels = torch.empty(5, dtype=torch.int64, device=meta)
        logits = torch.empty(5, 10, device=meta, requires_grad=True)
        images = torch.empty(SHAPE, device=meta)
        assert plan.mix(images).shape == SHAPE
        assert plan.targets(labels, 10).shape == (5, 10)
        assert CLASSIFICATION.score(plan, logits, labels).shape == (5,)
        assert all(bound.shape == (5,) for bound in CLASSIFICATION.bounds(plan, labels, 10, CrossEntropy(0.1)))
        loss = plan.loss(logits, labels, 0.1)
        loss.backward()  # type: ignore[no-untyped-call]
        assert loss.shape == ()
        model = torch.nn.Sequential()
        model.add_module("layer1", torch.nn.Conv2d(3, 4, 1, device=meta))
        model.add_module("layer2", torch.nn.Conv2d(4, 2, 1, device=meta))
        assert mixed_forward(model, images, plan).shape == (5, 2, 8, 8)


class TestRefusals:
    @each_beta
    @pytest.mark.parametrize("alpha", [-1.0, -1e-9, math.nan, math.inf, -math.inf])
    def test_alpha(self, make: Beta, alpha: float) -> None:
        with pytest.raises(ValueError, match=rf"^alpha must be a finite number >= 0, got {alpha}$"):
            make(alpha)

    @each_beta
    @pytest.mark.parametrize("prob", [-0.1, 1.1, math.nan, math.inf])
    def test_prob(self, make: Beta, prob: float) -> None:
        with pytest.raises(ValueError, match=rf"^prob must be in \[0, 1\], got {prob}$"):
            make(1.0, prob=prob)

    @each_beta
    @pytest.mark.parametrize(
        ("key", "value", "allowed"),
        [("mixed_weight", value, "> 0") for value in (0.0, -1.0, math.nan, math.inf)]
        + [("clean_weight", value, ">= 0") for value in (-1.0, math.nan, math.inf)],
    )
    def test_weights_of_the_loss(self, make: Beta, key: str, value: float, allowed: str) -> None:
        with pytest.raises(ValueError, match=rf"^{key} must be a finite number {allowed}, lam or 1-lam, got {value}$"):
            make(1.0, **{key: value})

    @pytest.mark.parametrize("layers", [[], (), "layer1", ""])
    def test_layers(self, layers: Sequence[str]) -> None:
        line = f'layers must be a list of block names or "input", at least one, got {layers!r}'
        with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
            ManifoldMixup(1.0, layers)

    @each_beta
    def test_a_generator_on_a_device(self, make: Beta) -> None:
        class Elsewhere:
            device = torch.device("cuda", 0)

        line = r"^a plan is decided on the host: the generator must be on the CPU, not cuda:0$"
        with pytest.raises(ValueError, match=line):
            make(1.0).sample(SHAPE, Elsewhere())  # type: ignore[arg-type]


GOLDEN: dict[str, list[tuple[Any, ...]]] = {
    "none": [
        ([1.0] * 3, [0, 1, 2], None, None, False),
        ([1.0] * 3, [0, 1, 2], None, None, False),
    ],
    "input": [
        ([0.4540190100669861] * 3, [0, 2, 1], None, None, True),
        ([0.5365152359008789] * 3, [2, 0, 1], None, None, True),
    ],
    "manifold": [
        ([0.4540190100669861] * 3, [0, 2, 1], "layer2", None, True),
        ([0.9393507838249207] * 3, [0, 1, 2], "layer1", None, True),
    ],
    "cutmix": [
        ([0.736328125] * 3, [0, 2, 1], None, [[0], [18], [17], [32]], True),
        ([0.5283203125] * 3, [2, 1, 0], None, [[11], [32], [0], [23]], True),
    ],
    "cutmix-uncorrected": [
        ([0.4540190100669861] * 3, [0, 2, 1], None, [[0], [18], [17], [32]], True),
        ([0.06734036654233932] * 3, [2, 1, 0], None, [[11], [32], [0], [23]], True),
    ],
    "input-per-sample": [
        ([0.3371434509754181, 0.7384468913078308, 0.9000359773635864], [1, 0, 2], None, None, True),
        ([0.12913714349269867, 0.46744537353515625, 0.7731688618659973], [0, 2, 1], None, None, True),
    ],
    "manifold-per-sample": [
        ([0.3371434509754181, 0.7384468913078308, 0.9000359773635864], [1, 0, 2], "layer1", None, True),
        ([0.8304619789123535, 0.62223881483078, 0.5875281691551208], [1, 2, 0], None, None, True),
    ],
    "cutmix-per-sample": [
        (
            [0.6513671875, 0.765625, 0.94140625],
            [1, 0, 2],
            None,
            [[0, 0, 1], [21, 15, 11], [0, 8, 26], [17, 24, 32]],
            True,
        ),
        (
            [0.9140625, 0.595703125, 0.75390625],
            [2, 1, 0],
            None,
            [[21, 14, 0], [32, 32, 12], [0, 9, 0], [8, 32, 21]],
            True,
        ),
    ],
    "cutmix-uncorrected-per-sample": [
        (
            [0.3371434509754181, 0.7384468913078308, 0.9000359773635864],
            [1, 0, 2],
            None,
            [[0, 0, 1], [21, 15, 11], [0, 8, 26], [17, 24, 32]],
            True,
        ),
        (
            [0.8412496447563171, 0.11279194056987762, 0.41973620653152466],
            [2, 1, 0],
            None,
            [[21, 14, 0], [32, 32, 12], [0, 9, 0], [8, 32, 21]],
            True,
        ),
    ],
}


@each_strategy
def test_golden_plans(strategy: Strategy, request: pytest.FixtureRequest) -> None:
    """The first two batches of seed 7: a change of these numbers is a change of every result ever made."""
    generator = seeded(7)
    plans = [written(strategy.sample((3, 3, 32, 32), generator)) for _ in range(2)]
    assert plans == GOLDEN[request.node.callspec.id]


@pytest.mark.parametrize("prob", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("alpha", [0.0, 0.2, 1.0, 4.0])
@pytest.mark.parametrize("bins", [1, 3, 20])
def test_the_law_that_is_asked_for(prob: float, alpha: float, bins: int) -> None:
    """What is not mixed has a lambda of 1, and CutMix is asked for the same before its boxes are cut off."""
    law = InputMixup(alpha, prob=prob).law_of_lambda(bins)
    expected = prob * np.diff(stats.beta.cdf(np.linspace(0, 1, bins + 1), alpha, alpha)) if alpha else np.zeros(bins)
    expected[-1] += 1 - expected.sum()
    assert law == pytest.approx(expected.tolist(), abs=1e-12)
    assert (
        CutMix(alpha, prob=prob).law_of_lambda(bins)
        == ManifoldMixup(alpha, ["a", "b"], prob=prob).law_of_lambda(bins)
        == law
    )


def test_without_mixing_there_is_neither_depth_nor_law() -> None:
    assert list(NoMix().depths) == []
    assert NoMix().law_of_lambda(20) is None


@pytest.mark.parametrize(("low", "got"), [(1.5, "1.5 to 1.5"), (-0.5, "-0.5 to -0.5"), (float("nan"), "nan to nan")])
def test_a_lambda_outside_0_and_1_is_refused(low: float, got: str) -> None:
    class Own(Mixup):
        def draw_lam(self, rows, generator, context):
            return torch.full((rows,), low, dtype=torch.float64)

        def make_plan(self, lam, partner, shape, generator, context):  # type: ignore[no-untyped-def]
            return MixPlan(lam, partner)

    with pytest.raises(ValueError, match=rf"^draw_lam must return numbers in \[0, 1\], got {got}$"):
        Own().sample((4, 1, 8, 8), torch.Generator())
