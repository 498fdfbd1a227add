"""The ways of mixing that are for speed alone give the bits of the plain one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._functorch.aot_autograd import aot_module_simplified

from vicinal.mixing import CutMix, InputMixup, ManifoldMixup, MixPlan, Strategy
from vicinal.mixing import masks as masks_module
from vicinal.mixing.context import Context
from vicinal.mixing.fields import HardMask
from vicinal.mixing.forward import MixHooks
from vicinal.mixing.gradients import ChooseFunction, inverse

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
    assert inverse(partner) is None
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


PARTNERS = st.integers(1, 9).flatmap(lambda batch: st.permutations(range(batch)))


@given(partner=PARTNERS, dtype=DTYPES, mask=st.sampled_from(["lambda", "one box", "boxes", "field"]))
def test_partners_that_are_chosen_once_have_the_gradient_of_an_index(
    partner: list[int], dtype: torch.dtype, mask: str
) -> None:
    """Under every mask, to the bit, as inside a network on a GPU."""
    chosen, generator = torch.tensor(partner), torch.Generator().manual_seed(len(partner))
    whose = inverse(chosen)
    assert whose is not None
    assert chosen[whose].tolist() == [*range(len(partner))]
    lam = torch.rand(len(partner), generator=generator)
    weights = {
        "lambda": masks_module.ScalarMask(lam),
        "one box": masks_module.Boxes([[0], [2], [1], [3]], (4, 3)),
        "boxes": masks_module.Boxes.sample(lam.double(), (4, 3), generator),
        "field": HardMask(torch.rand(len(partner), 1, 4, 3, generator=generator) < 0.5),
    }[mask]
    x = torch.randn(len(partner), 2, 4, 3, generator=generator).to(dtype)
    gradient = torch.randn(x.shape, generator=generator).to(dtype)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    mixed = weights.mix(ours, ChooseFunction.apply(ours, chosen, whose))
    expected = weights.mix(theirs, theirs[chosen])
    assert torch.equal(mixed, expected)
    mixed.backward(gradient)  # type: ignore[no-untyped-call]
    expected.backward(gradient)  # type: ignore[no-untyped-call]
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("per_sample", [False, True])
def test_mixed_features_have_a_gradient_whose_gradient_is_right(per_sample: bool) -> None:
    """As a penalty of gradients needs it."""
    plan = ManifoldMixup(1.0, ["block"], per_sample=per_sample).sample((4, 3), torch.Generator().manual_seed(1))
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: plan.mix(x) ** 3, x)
    assert torch.autograd.gradgradcheck(lambda x: plan.mix(x) ** 3, x)


def test_chosen_partners_have_a_gradient_whose_gradient_is_right() -> None:
    partner = torch.tensor([2, 0, 3, 1])
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    whose = inverse(partner)
    assert torch.autograd.gradcheck(lambda x: ChooseFunction.apply(x, partner, whose) ** 2, x)
    assert torch.autograd.gradgradcheck(lambda x: ChooseFunction.apply(x, partner, whose) ** 2, x)


def test_a_strategy_looks_at_its_partners_where_a_block_is_mixed() -> None:
    generator = torch.Generator().manual_seed(0)
    inside = ManifoldMixup(1.0, ["block"]).sample((6, 2), generator)
    assert inside.whose is not None
    assert inside.partner[inside.whose].tolist() == [*range(6)]
    assert InputMixup(1.0).sample((6, 2), generator).whose is None
    again = ManifoldMixup(1.0, ["block"], partner="class_balanced")  # with replacement
    context = Context(labels=torch.tensor([0, 1, 1, 1, 1, 1]), counts=torch.tensor([1, 10**6]))
    assert again.sample((6, 2), generator, context).whose is None


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("per_sample", [True, False])
def test_compiled_gradients_add_nothing_up_where_each_is_a_partner_once(known: bool, per_sample: bool) -> None:
    """One graph, the bits of eager float32, and in it no ``index_put``, which is atomic additions on a GPU."""
    graphs: list[str] = []

    def backend(module: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        def note(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., Any]:
            graphs.append(graph.code)
            return make_boxed_func(graph.forward)

        return aot_module_simplified(module, inputs, fw_compiler=note, bw_compiler=note)  # type: ignore[no-any-return]

    torch._dynamo.reset()
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    forward = torch.compile(network, backend=backend, fullgraph=True, dynamic=False)
    strategy, generator = ManifoldMixup(1.0, ["1"], per_sample=per_sample), torch.Generator().manual_seed(0)
    with MixHooks(network, ["1"]) as hooks:
        for _ in range(3):
            x = torch.randn(5, 3, generator=generator)
            plan = strategy.sample(x.shape, generator)
            gradients = []
            for call, one in ((forward, plan if known else replace(plan, whose=None)), (network, plan)):
                network.zero_grad()
                hooks(x, one, call).square().sum().backward()  # type: ignore[no-untyped-call]
                gradients.append([weight.grad for weight in network.parameters()])
            for ours, theirs in zip(*gradients, strict=True):
                assert ours is not None
                assert theirs is not None
                assert torch.equal(ours, theirs)
    assert len(graphs) == 2  # forward and backward, once
    assert ("index_put" in graphs[1]) is not known
    torch._dynamo.reset()
