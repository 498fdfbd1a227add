"""Accuracy ceiling and loss floor against the targets themselves, and in the mean against closed forms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from vicinal.mixing import InputMixup, MixPlan
from vicinal.tasks import CLASSIFICATION
from vicinal.tasks.losses import CrossEntropy

SEED = st.integers(0, 2**32)


def drawn(batch: int, classes: int, seed: int, active: bool = True) -> tuple[MixPlan, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lam = torch.rand(batch, generator=generator)
    partner = torch.randperm(batch, generator=generator)
    return MixPlan(lam, partner, active=active), torch.randint(classes, (batch,), generator=generator)


def ceiling_of(plan: MixPlan, labels: torch.Tensor) -> torch.Tensor:
    return CLASSIFICATION.bounds(plan, labels, 100, CrossEntropy()).ceiling


def floor_of(plan: MixPlan, labels: torch.Tensor, classes: int, smoothing: float = 0.0) -> torch.Tensor:
    return CLASSIFICATION.bounds(plan, labels, classes, CrossEntropy(smoothing)).floor


@given(batch=st.integers(1, 8), classes=st.integers(1, 6), seed=SEED, active=st.booleans())
def test_ceiling_is_the_largest_weight_of_the_target(batch: int, classes: int, seed: int, active: bool) -> None:
    plan, labels = drawn(batch, classes, seed, active)
    ceiling = ceiling_of(plan, labels)
    assert (ceiling.shape, ceiling.dtype) == ((batch,), torch.float32)
    torch.testing.assert_close(ceiling, plan.targets(labels, classes).amax(dim=1), rtol=0, atol=1e-7)


@given(
    batch=st.integers(1, 8),
    classes=st.integers(2, 6),
    seed=SEED,
    smoothing=st.sampled_from([0.0, 0.1, 0.7, 1.0]),
    active=st.booleans(),
)
def test_floor_is_the_entropy_of_the_smoothed_target(
    batch: int, classes: int, seed: int, smoothing: float, active: bool
) -> None:
    plan, labels = drawn(batch, classes, seed, active)
    targets = (1 - smoothing) * plan.targets(labels, classes) + smoothing / classes
    floor = floor_of(plan, labels, classes, smoothing)
    assert (floor.shape, floor.dtype) == ((batch,), torch.float32)
    expected = torch.from_numpy(stats.entropy(targets.double().numpy(), axis=1)).float()
    torch.testing.assert_close(floor, expected, rtol=0, atol=2e-6)


@given(batch=st.integers(1, 8), seed=SEED, smoothing=st.sampled_from([0.1, 0.7]))
def test_the_perfect_learner_reaches_both(batch: int, seed: int, smoothing: float) -> None:
    plan, labels = drawn(batch, 5, seed)
    logits = ((1 - smoothing) * plan.targets(labels, 5) + smoothing / 5).log()
    score = CLASSIFICATION.score(plan, logits, labels)
    torch.testing.assert_close(score, ceiling_of(plan, labels), rtol=0, atol=1e-6)
    floor = floor_of(plan, labels, 5, smoothing).mean()
    torch.testing.assert_close(plan.loss(logits, labels, smoothing), floor, rtol=0, atol=2e-6)


@given(batch=st.integers(1, 8), seed=SEED, smoothing=st.sampled_from([0.0, 0.1]))
def test_no_logits_get_past_them(batch: int, seed: int, smoothing: float) -> None:
    plan, labels = drawn(batch, 5, seed)
    logits = 3 * torch.randn(batch, 5, generator=torch.Generator().manual_seed(seed))
    assert bool((CLASSIFICATION.score(plan, logits, labels) <= ceiling_of(plan, labels) + 1e-6).all())
    assert float(plan.loss(logits, labels, smoothing) - floor_of(plan, labels, 5, smoothing).mean()) > -1e-5


@given(classes=st.integers(2, 6), smoothing=st.sampled_from([0.0, 0.1, 1.0]))
def test_the_floor_without_mixing_is_that_of_smoothing_alone(classes: int, smoothing: float) -> None:
    target = [smoothing / classes + (1 - smoothing) * (label == 0) for label in range(classes)]
    floor = CLASSIFICATION.clean_floor(torch.ones(classes), CrossEntropy(smoothing))
    assert floor == pytest.approx(stats.entropy(target), abs=2e-6)


@pytest.mark.parametrize(
    ("alpha", "ceiling", "floor"),
    [(0.2, 0.899, 0.228), (1, 0.750, 0.500), (2, 0.688, 0.583), (8, 0.598, 0.663), (32, 0.550, 0.685)],
)
def test_means_under_distinct_classes(alpha: float, ceiling: float, floor: float) -> None:
    count = 100_000
    plan = InputMixup(alpha, per_sample=True).sample((count, 3, 32, 32), torch.Generator().manual_seed(0))
    labels = torch.arange(count)  # every sample a class of its own
    mean_ceiling = float(ceiling_of(plan, labels).double().mean())
    mean_floor = float(floor_of(plan, labels, count).double().mean())
    assert mean_ceiling == pytest.approx(ceiling, abs=0.005)
    assert mean_floor == pytest.approx(floor, abs=0.005)
    # E[max(l, 1 - l)] = 1/2 + 4^-a / (a B(a, a));  E[H(l)] = psi(2a + 1) - psi(a + 1)
    assert mean_ceiling == pytest.approx(0.5 + 4**-alpha / (alpha * special.beta(alpha, alpha)), abs=0.003)
    assert mean_floor == pytest.approx(special.digamma(2 * alpha + 1) - special.digamma(alpha + 1), abs=0.003)
