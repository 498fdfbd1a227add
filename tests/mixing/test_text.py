"""SSMix against its definition, searched by brute force, and ids under hard masks."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vicinal.mixing import CutMix, InputMixup, ManifoldMixup, MixPlan, NoMix
from vicinal.mixing.context import Context
from vicinal.mixing.fields import HardMask
from vicinal.mixing.one_of import OneOf
from vicinal.mixing.strategies import Mixup
from vicinal.mixing.text import SSMix

LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def batch(lengths: list[int], seed: int = 0) -> Context:
    """Sentences of these lengths, whose saliency has no ties."""
    generator = torch.Generator().manual_seed(seed)
    real = torch.arange(12) < torch.tensor(lengths)[:, None]
    ids = torch.arange(1, 1 + real.numel()).view(real.shape) * real  # each word is there once
    return Context(images=ids, saliency=torch.rand(real.shape, generator=generator) * real)


def planned(strategy: Mixup, context: Context, seed: int = 0) -> MixPlan:
    assert context.images is not None
    return strategy.sample(context.images.shape, torch.Generator().manual_seed(seed), context)


def written_out(
    ids: Tensor, saliency: Tensor, partner: Tensor, share: float, ends: int = 0
) -> tuple[Tensor, list[float]]:
    mixed, weights = ids.clone(), []
    for own, other in enumerate(partner.tolist()):
        lengths = [max(0, int((ids[row] != 0).sum()) - 2 * ends) for row in (own, other)]
        size = min(max(1, round(share * lengths[0])), *lengths)
        if size == 0:
            weights.append(1.0)
            continue

        sums = [
            [float(saliency[row, first : first + size].sum()) for first in range(ends, ends + length - size + 1)]
            for row, length in zip((own, other), lengths, strict=True)
        ]
        start, taken = ends + sums[0].index(min(sums[0])), ends + sums[1].index(max(sums[1]))
        mixed[own, start : start + size] = ids[other, taken : taken + size]
        weights.append(1 - size / lengths[0])
    return mixed, weights


@given(lengths=LENGTHS, share=st.sampled_from([0.1, 0.3, 0.45, 1.0]), seed=st.integers(0, 2**20))
def test_the_least_salient_span_becomes_the_most_salient_one(lengths: list[int], share: float, seed: int) -> None:
    context = batch(lengths, seed)
    plan = planned(SSMix(share=share), context, seed)
    assert context.images is not None
    assert context.saliency is not None
    mixed, weights = written_out(context.images, context.saliency, plan.partner, share)
    assert torch.equal(plan.mix(context.images), mixed)
    torch.testing.assert_close(plan.lam, torch.tensor(weights), rtol=0, atol=1e-6)
    torch.testing.assert_close(plan.own_share(context.images.shape), plan.lam, rtol=0, atol=1e-6)
    assert torch.equal(mixed != 0, context.images != 0)  # a sentence keeps its length


@given(lengths=LENGTHS, share=st.sampled_from([0.1, 0.45, 1.0]), ends=st.integers(1, 3), seed=st.integers(0, 2**20))
def test_the_ends_of_sentences_stay(lengths: list[int], share: float, ends: int, seed: int) -> None:
    context = batch(lengths, seed)
    plan = planned(SSMix(share=share, ends=ends), context, seed)
    assert context.images is not None
    assert context.saliency is not None
    mixed, weights = written_out(context.images, context.saliency, plan.partner, share, ends)
    assert torch.equal(plan.mix(context.images), mixed)
    assert torch.equal(mixed[:, :ends], context.images[:, :ends])
    torch.testing.assert_close(plan.lam, torch.tensor(weights), rtol=0, atol=1e-6)


def test_the_loss_is_that_of_both_labels_by_their_words() -> None:
    lengths = [10, 4, 7, 12]
    context = batch(lengths, 3)
    plan = planned(SSMix(share=0.3), context)
    logits, labels = torch.randn(4, 3, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 1])
    log_p = logits.log_softmax(dim=1)
    sizes = [min(round(0.3 * own), lengths[other]) for own, other in zip(lengths, plan.partner, strict=True)]
    expected = 0.0
    for row, (size, length) in enumerate(zip(sizes, lengths, strict=True)):
        other = int(labels[plan.partner[row]])
        part = size / length
        expected -= float((1 - part) * log_p[row, labels[row]] + part * log_p[row, other]) / 4
    assert float(plan.loss(logits, labels)) == pytest.approx(expected, abs=1e-6)


def test_a_plan_mixes_vectors_of_words_in_the_same_places() -> None:
    context = batch([9, 5, 12])
    plan = planned(SSMix(share=0.4), context)
    assert context.images is not None
    vectors = context.images.double()[..., None].expand(-1, -1, 3)
    assert torch.equal(plan.mix(vectors)[..., 2], plan.mix(context.images).double())


@pytest.mark.parametrize("prob", [0.0, 0.25, 0.6])
def test_the_share_of_mixed_sentences(prob: float) -> None:
    context = batch([8] * 4000)
    plan = planned(SSMix(prob=prob, per_sample=True), context)
    mixed = float((plan.lam < 1).float().mean())
    assert mixed == pytest.approx(prob, abs=4 * (prob * (1 - prob) / 4000) ** 0.5 + 1e-9)
    assert set(plan.lam.tolist()) <= {1.0, 1 - 1 / 8}


def test_a_hard_mask_selects_ids_and_a_weighted_mean_is_refused() -> None:
    ids = torch.tensor([[1, 2, 3], [4, 5, 0]])
    lam, partner = torch.tensor([0.5, 0.5]), torch.tensor([1, 0])
    hard = HardMask(torch.tensor([[True, False, True], [False, True, True]]))
    plan = MixPlan(lam, partner, mask=hard)
    assert plan.mix(ids).tolist() == [[1, 5, 3], [1, 5, 0]]
    assert plan.mix(ids, torch.empty_like(ids)).tolist() == [[1, 5, 3], [1, 5, 0]]
    with pytest.raises(TypeError, match=re.escape("mixing needs floating-point values, got torch.int64")):
        MixPlan(lam, partner).mix(ids)
    assert MixPlan(lam, partner, active=False).mix(ids) is ids
    with pytest.raises(ValueError, match="the plan is for a batch of 2, got 1"):
        plan.mix(ids[:1])


def test_strategies_say_whether_they_blend_at_the_input() -> None:
    hidden, both = ManifoldMixup(1.0, ["embedding"]), ManifoldMixup(1.0, ["input", "embedding"])
    weights = {"a": 0.5, "b": 0.5}
    assert [item.selects for item in (NoMix(), hidden, SSMix())] == [True] * 3
    assert [item.selects for item in (InputMixup(1.0), both, CutMix(1.0))] == [False] * 3
    assert OneOf(strategies={"a": hidden, "b": SSMix(clean_weight=0.0)}, weights=weights).selects
    assert not OneOf(strategies={"a": hidden, "b": InputMixup(1.0)}, weights=weights).selects


def test_what_is_no_sentence_is_refused() -> None:
    images = torch.rand(2, 3, 4, 4)
    with pytest.raises(ValueError, match="SSMix mixes sentences, token ids"):
        planned(SSMix(), Context(images=images, saliency=torch.rand(2, 4, 4)))
    for share in (0, 1.1):
        with pytest.raises(ValueError, match=re.escape(f"share must be in (0, 1], got {share}")):
            SSMix(share=share)
    with pytest.raises(ValueError, match="ends must be an integer >= 0, got -1"):
        SSMix(ends=-1)
