"""The ways of mixing that are for speed alone give the bits of the plain one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from vicinal.mixing import CutMix, InputMixup, MixPlan, Strategy
from vicinal.mixing import masks as masks_module
from vicinal.mixing.forward import MixHooks
from vicinal.mixing.gradients import is_permutation

DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16])
STRATEGIES = st.sampled_from(
    [InputMixup(1.0), InputMixup(1.0, per_sample=True), CutMix(1.0), CutMix(1.0, prob=0.8, per_sample=True)]
)
LAYOUTS = st.sampled_from(["contiguous", "channels_last", "gaps"])


@pytest.fixture(autouse=True)
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few numbers are mixed in several pieces."""
    monkeypatch.setattr(masks_module, "CACHED_FLOATS", 50)


def laid_out(x: Tensor, layout: str) -> Tensor:
    if layout == "gaps":
        return torch.stack([x, x], dim=-1)[..., 0]
    return x.contiguous(memory_format=torch.channels_last if layout == "channels_last" else torch.contiguous_format)


def plain(plan: MixPlan, x: Tensor) -> Tensor:
    return plan.applied_mask.mix(x, x[plan.partner]) if plan.active else x


@given(
    strategy=STRATEGIES,
    batch=st.integers(1, 7),
    channels=st.integers(1, 3),
    side=st.integers(1, 6),
    dtype=DTYPES,
    layout=LAYOUTS,
    room=LAYOUTS | st.sampled_from([None, "itself"]),
    seed=st.integers(0, 2**32),
)
def test_images(
    strategy: Strategy,
    batch: int,
    channels: int,
    side: int,
    dtype: torch.dtype,
    layout: str,
    room: str | None,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = laid_out(torch.randn(batch, channels, side, side + 1, generator=generator).to(dtype), layout)
    before = x.clone()
    plan = strategy.sample(x.shape, generator)
    expected = plain(plan, x)
    out = None if room is None else x if room == "itself" else laid_out(torch.full_like(x, torch.nan), room)
    mixed = plan.mix(x, out)
    assert torch.equal(mixed, expected)
    assert out is x or torch.equal(x, before)
    if plan.active and out is not None:
        assert mixed is out


@given(
    batch=st.integers(1, 7),
    sizes=st.lists(st.integers(1, 4), max_size=3),
    dtype=DTYPES,
    per_sample=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_hidden_features_and_their_gradients(
    batch: int, sizes: list[int], dtype: torch.dtype, per_sample: bool, seed: int
) -> None:
    """To the bit in float32 and float64; in bfloat16 that of float32, rounded once."""
    generator = torch.Generator().manual_seed(seed)
    plan = InputMixup(1.0, per_sample=per_sample).sample((batch,), generator)
    ours = torch.randn(batch, *sizes, generator=generator).to(dtype).requires_grad_()
    wide = torch.promote_types(dtype, torch.float32)
    theirs = ours.detach().to(wide).requires_grad_()
    gradient = torch.randn(batch, *sizes, generator=generator).to(dtype)
    mixed = plan.mix(ours)
    assert torch.equal(mixed, plain(plan, ours))
    mixed.backward(gradient)  # type: ignore[no-untyped-call]
    plain(plan, theirs).backward(gradient.to(wide))  # type: ignore[no-untyped-call]
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.equal(ours.grad, theirs.grad.to(dtype))


def test_partners_that_are_no_permutation_get_their_gradient_too() -> None:
    partner = torch.tensor([1, 1, 1])
    assert not is_permutation(partner)
    plan = MixPlan(torch.tensor([0.25, 0.5, 1.0]), partner)
    x = torch.arange(3.0).requires_grad_()
    plan.mix(x).backward(torch.tensor([1.0, 10.0, 100.0]))  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.tolist() == [0.25, 0.75 + 5.0 + 5.0 + 0.0, 100.0]


def test_mixed_images_of_a_model_are_written_over_and_a_wanted_gradient_is_kept() -> None:
    hooks = MixHooks(nn.Identity(), [])
    generator = torch.Generator().manual_seed(0)
    seen = []
    for size in (4, 4, 3, 4, 6):
        images = torch.randn(size, 1, 2, 2, generator=generator)
        plan = InputMixup(1.0).sample(images.shape, generator)
        mixed = hooks(images, plan)
        assert torch.equal(mixed, plain(plan, images))
        seen.append(mixed.data_ptr())
    assert len(set(seen[:4])) == 1
    images.requires_grad_()
    kept = hooks(images, plan)
    hooks(images.detach() + 1, plan)
    assert torch.equal(kept, plain(plan, images))
