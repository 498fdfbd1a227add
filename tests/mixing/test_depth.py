"""Strategies at a named depth: their masks are drawn for what is there, and their labels are the masks' shares."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from vicinal.mixing import CutMix, InputMixup, ManifoldMixup, MixPlan, Mixup, mixed_forward
from vicinal.mixing.context import Context
from vicinal.mixing.fields import FMix, GridMix, HardMask, SmoothMix
from vicinal.mixing.forward import shapes_of
from vicinal.mixing.masks import Boxes
from vicinal.mixing.object_pasting import ClassMix
from vicinal.mixing.one_of import OneOf
from vicinal.mixing.pasting import ResizeMix
from vicinal.mixing.saliency import PuzzleMix, SaliencyMix
from vicinal.mixing.sound import BetweenClass, SpecMix
from vicinal.mixing.text import SSMix
from vicinal.mixing.unimix import UniMix
from vicinal.models.speech import SpeechCNN
from vicinal.tasks import CLASSIFICATION
from vicinal.training.batch_context import BatchContext

CLIPS = (6, 1, 1600)
MASKED = (CutMix(alpha=1.0), FMix(alpha=1.0), GridMix(alpha=1.0), SmoothMix(), ResizeMix(), SpecMix())


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def network() -> SpeechCNN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SpeechCNN(8000, 1600, 3, mels=8, widths=(4, 4))


@pytest.fixture(scope="module")
def clips() -> Tensor:
    return torch.rand(CLIPS, generator=seeded(1)) - 0.5


@pytest.fixture(scope="module")
def context(network: SpeechCNN, clips: Tensor) -> Context:
    return Context(shapes=shapes_of(network, clips[:1], network.blocks))


def test_the_shapes_are_those_of_the_blocks_and_nothing_changes(network: SpeechCNN, clips: Tensor) -> None:
    network.train()
    network.block2.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    shapes = shapes_of(network, clips[:1], network.blocks)
    assert shapes == {"logmel": (1, 8, 21), "block1": (4, 4, 10), "block2": (4, 2, 5)}
    assert shapes == shapes_of(network.to("cpu"), clips[:3], network.blocks)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert (network.block1.training, network.block2.training) == (True, False)
    assert not any(module._forward_hooks for module in network.modules())
    network.train()


@pytest.mark.parametrize("per_sample", [False, True])
def test_cutmix_of_a_spectrogram_is_that_of_one_computed_outside(
    network: SpeechCNN, clips: Tensor, context: Context, per_sample: bool
) -> None:
    strategy = CutMix(alpha=1.0, depth="logmel", per_sample=per_sample)
    for seed in range(5):
        plan = strategy.sample(clips.shape, seeded(seed), context)
        outside = CutMix(alpha=1.0, per_sample=per_sample).sample((6, 1, 8, 21), seeded(seed))
        assert isinstance(plan.mask, Boxes)
        assert isinstance(outside.mask, Boxes)
        assert plan.mask.sides == outside.mask.sides
        assert torch.equal(plan.lam, outside.lam)
        spectrogram = network.logmel(clips)  # in training mode: by the statistics of the batch, which is not mixed
        cuts: list[Tensor] = []
        rest = torch.nn.Sequential(network.block1, network.block2, network.head)
        for own, (other, top, bottom, left, right) in enumerate(
            zip(plan.partner.tolist(), *(side * (1 if per_sample else 6) for side in plan.mask.sides), strict=True)
        ):
            cut = spectrogram[own].clone()
            cut[:, top:bottom, left:right] = spectrogram[other, :, top:bottom, left:right]
            assert float(plan.lam[own]) == pytest.approx(1 - (bottom - top) * (right - left) / (8 * 21), abs=1e-6)
            cuts.append(cut)
        assert torch.allclose(mixed_forward(network, clips, plan), rest(torch.stack(cuts)), atol=1e-6)


@pytest.mark.parametrize("strategy", MASKED, ids=lambda strategy: type(strategy).__name__)
@pytest.mark.parametrize("depth", ["logmel", "block1"])
def test_the_label_has_the_share_of_the_mask(strategy: Mixup, depth: str, clips: Tensor, context: Context) -> None:
    """Counted by mixing a white batch with a black one, where the mask is."""
    deep, size = replace(strategy, depth=depth), (6, *(context.shapes or {})[depth])
    for seed in range(5):
        plan = deep.sample(clips.shape, seeded(seed), context)
        assert (plan.layer, plan.size) == (depth, size[1:])
        white = plan.applied_mask.mix(torch.ones(size), torch.zeros(size))
        share = white.double().mean(dim=(1, 2, 3)).float()
        assert torch.allclose(plan.lam, share, atol=1e-6)
        assert torch.allclose(plan.own_share(clips.shape).expand(6), share, atol=1e-6)
        assert torch.equal(plan.own_part(clips), white)


def test_labels_as_drawn_do_not_hide_the_share(clips: Tensor, context: Context) -> None:
    plan = CutMix(alpha=1.0, depth="logmel", labels="drawn").sample(clips.shape, seeded(3), context)
    area = CutMix(alpha=1.0, depth="logmel").sample(clips.shape, seeded(3), context)
    assert plan.lam[0] != area.lam[0]
    assert torch.equal(plan.own_share(clips.shape).expand(6), area.lam)


def test_input_mixup_at_a_block_is_manifold_mixup_there(clips: Tensor, context: Context) -> None:
    for seed in range(4):
        deep = InputMixup(alpha=1.0, depth="block1").sample(clips.shape, seeded(seed), context)
        manifold = ManifoldMixup(alpha=1.0, layers=["block1"]).sample(clips.shape, seeded(seed))
        assert torch.equal(deep.lam, manifold.lam)
        assert torch.equal(deep.partner, manifold.partner)
        assert (deep.layer, deep.mask) == (manifold.layer, manifold.mask) == ("block1", None)


def test_depths_of_a_choice_are_known_to_it(clips: Tensor, context: Context) -> None:
    parts = {"wave": CutMix(alpha=1.0), "deep": CutMix(alpha=1.0, depth="logmel")}
    either = OneOf(strategies=parts, weights={"wave": 0.5, "deep": 0.5})
    assert either.depths == ["input", "logmel"]
    assert either.needs == {"shapes"}
    generator = seeded()
    plans = [either.sample(clips.shape, generator, context) for _ in range(20)]
    assert {plan.layer for plan in plans} == {None, "logmel"}
    assert all(isinstance(plan.mask, Boxes) and len(plan.mask.size) == (2 if plan.layer else 1) for plan in plans)


def test_the_training_tells_the_shapes(network: SpeechCNN, clips: Tensor) -> None:
    settings, hardware = (
        SimpleNamespace(epochs=2),
        SimpleNamespace(autocast=lambda: torch.autocast("cpu", enabled=False)),
    )
    strategy, objective = CutMix(alpha=1.0, depth="block1"), SimpleNamespace(task=CLASSIFICATION)
    learner: Any = SimpleNamespace(
        strategy=strategy, objective=objective, settings=settings, hardware=hardware, model=network
    )
    made = BatchContext(learner, torch.ones(3), steps=4)(clips, torch.zeros(6), 1, 0)
    assert made.shapes == {"block1": (4, 4, 10)}
    assert made.images is None


def test_what_cannot_mix_there_is_refused(clips: Tensor) -> None:
    for wrong in (
        lambda: PuzzleMix(alpha=1.0, depth="logmel"),
        lambda: SaliencyMix(alpha=1.0, depth="logmel"),
        lambda: BetweenClass(rate=8000, depth="logmel"),
        lambda: SSMix(depth="embedding"),
        lambda: ManifoldMixup(alpha=1.0, layers=["logmel"], depth="logmel"),
        lambda: CutMix(alpha=1.0, depth=""),
        lambda: SpecMix().sample(clips.shape, seeded()),
    ):
        with pytest.raises(ValueError, match=r"^depth must be"):
            wrong()
    with pytest.raises(ValueError, match=r"^context\.shapes is needed"):
        CutMix(alpha=1.0, depth="logmel").sample(clips.shape, seeded())


@pytest.mark.parametrize(
    ("strategy", "facts"),
    [
        (CutMix(alpha=1.0), set()),
        (SaliencyMix(alpha=1.0), {"images"}),
        (PuzzleMix(alpha=1.0), {"saliency"}),
        (BetweenClass(rate=8000), {"images", "labels"}),  # the partner is of another class
        (SSMix(), {"images", "saliency"}),
        (ClassMix(), {"labels"}),
        (UniMix(alpha=1.0), {"labels", "counts"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_inputs_are_of_no_use_at_a_block_and_labels_are(strategy: Mixup, facts: set[str]) -> None:
    assert strategy.needs == facts
    assert replace(strategy, window=(0.5, 1.0)).needs == facts | {"progress"}
    if facts & {"images", "saliency"}:
        with pytest.raises(ValueError, match=rf"^depth must be input for {type(strategy).__name__}, got block1"):
            replace(strategy, depth="block1")
    else:
        assert replace(strategy, depth="block1").needs == facts | {"shapes"}


def test_where_the_size_is_not_known_the_share_is_lambda() -> None:
    own = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    plan = MixPlan(torch.tensor([0.3, 0.4]), torch.tensor([1, 0]), "block1", HardMask(own))
    assert plan.own_share((2, 1, 8)).tolist() == plan.lam.tolist()
    assert replace(plan, size=(1, 4, 4)).own_share((2, 1, 8)).tolist() == [1, 1]
