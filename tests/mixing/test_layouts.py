"""Strategies and shapes: what fits is mixed place by place, and all else is refused in words."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from vicinal.mixing import CutMix, InputMixup, Mixup
from vicinal.mixing.attention import TransMix
from vicinal.mixing.context import Context
from vicinal.mixing.features import ExchangeMoments, MoEx
from vicinal.mixing.fields import FMix, GridMix, SmoothMix
from vicinal.mixing.layouts import channels_first
from vicinal.mixing.object_pasting import ClassMix, InstancePaste
from vicinal.mixing.pasting import Cutout, RandomErasing, ResizeMix, Ricap
from vicinal.mixing.saliency import PuzzleMix, SaliencyMix
from vicinal.mixing.sound import BetweenClass, SpecMix
from vicinal.mixing.zeta import ZetaMixup

SHAPES = {
    "rows": (4, 10),
    "sequences": (4, 1, 64),
    "features of sequences": (4, 8, 64),
    "images": (4, 3, 16, 16),
    "volumes": (4, 1, 6, 6, 6),
}
ALL = set(SHAPES)
PLACED = ALL - {"rows"}
STRATEGIES: list[tuple[Mixup, set[str]]] = [
    (InputMixup(1.0), ALL),
    (InputMixup(1.0, members=3), ALL),
    (ZetaMixup(), ALL),
    (CutMix(1.0), PLACED),
    (CutMix(1.0, per_sample=True), PLACED),
    (FMix(1.0), {"images"}),
    (GridMix(1.0), {"images"}),
    (SmoothMix(), {"images"}),
    (ResizeMix(), {"images"}),
    (Cutout(size=3), {"images"}),
    (RandomErasing(), {"images"}),
    (Ricap(1.0), {"images"}),
    (SaliencyMix(1.0), {"images"}),
    (PuzzleMix(1.0), {"images"}),
    (TransMix(1.0), {"images"}),
    (SpecMix(), {"images"}),
    (ClassMix(), {"images"}),
    (InstancePaste(), {"images"}),
    (BetweenClass(rate=640), {"sequences"}),
]
CASES = [(strategy, name, name in fitting) for strategy, fitting in STRATEGIES for name in SHAPES]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def context_of(strategy: Mixup, inputs: torch.Tensor) -> Context:
    maps = isinstance(strategy, (ClassMix, InstancePaste))
    labels = torch.randint(3, (4, *inputs.shape[-2:])).byte() if maps else torch.arange(4) % 2
    return Context(images=inputs, saliency=inputs.flatten(2).abs().mean(1).view(4, *inputs.shape[2:]), labels=labels)


@pytest.mark.parametrize(
    ("strategy", "name", "fits"), CASES, ids=lambda value: value if isinstance(value, str) else type(value).__name__
)
def test_what_fits_is_mixed_and_all_else_is_refused_in_words(strategy: Mixup, name: str, fits: bool) -> None:
    inputs = torch.rand(SHAPES[name], generator=seeded())
    context = Context(images=inputs, labels=torch.arange(4)) if name == "rows" else context_of(strategy, inputs)
    if fits:
        plan = strategy.sample(inputs.shape, seeded(), context)
        assert plan.mix(inputs).shape == inputs.shape
        return
    if name == "features of sequences" and isinstance(strategy, BetweenClass):
        with pytest.raises(ValueError, match=r"clips of sound \(1, T\), not of inputs \(8, 64\)$"):
            strategy.sample(inputs.shape, seeded(), context)
        return
    with pytest.raises(ValueError, match=rf"\(B, {', '.join(map(str, inputs.shape[1:]))}\)(, got input)?$") as refused:
        strategy.sample(inputs.shape, seeded(), context)
    assert type(strategy).__name__ in str(refused.value)


@pytest.mark.parametrize(
    ("strategy", "name", "text"),
    [
        (PuzzleMix(1.0), "rows", "PuzzleMix mixes images (B, C, H, W), and these inputs are rows (B, 10)"),
        (CutMix(1.0), "rows", "CutMix mixes images, clips and the like (B, C, ...), and these inputs are rows (B, 10)"),
        (
            FMix(1.0),
            "sequences",
            "depth must be where images (B, C, H, W) are, for FMix, and these inputs are sequences (B, 1, 64), "
            "got input",
        ),
        (
            SaliencyMix(1.0),
            "sequences",
            "SaliencyMix mixes images (B, C, H, W), and these inputs are sequences (B, 1, 64)",
        ),
        (
            BetweenClass(),
            "images",
            "BetweenClass mixes clips of sound (B, 1, T), and these inputs are images (B, 3, 16, 16)",
        ),
        (BetweenClass(), "sequences", "rate must be the samples of sound per second, got None"),
    ],
)
def test_the_words(strategy: Mixup, name: str, text: str) -> None:
    inputs = torch.rand(SHAPES[name])
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the whole text is compared
        strategy.sample(inputs.shape, seeded(), Context(images=inputs, saliency=inputs, labels=torch.arange(4) % 2))
    assert str(refused.value) == text


@pytest.mark.parametrize("strategy", [CutMix(1.0), FMix(1.0), Ricap(1.0), GridMix(1.0), ResizeMix(), Cutout()])
@pytest.mark.parametrize("inputs", [(4, 12), (4, 3, 16, 16)], ids=["sentences", "images"])
def test_numbers_of_a_vector_are_no_places(strategy: Mixup, inputs: tuple[int, ...]) -> None:
    """The output of an embedding is (B, L, width), and that of a vision transformer (B, patches, width)."""
    deep = replace(strategy, depth="embedding")
    name = r"images.*, for " + type(strategy).__name__
    with pytest.raises(ValueError, match=rf"^depth must be where {name}, and embedding returns vectors \(B, 12, 10\)"):
        deep.sample(inputs, seeded(), Context(shapes={"embedding": (12, 10)}))
    with pytest.raises(ValueError, match=rf"^depth must be where {name}, and embedding returns \(B, 10\), got embed"):
        deep.sample(inputs, seeded(), Context(shapes={"embedding": (10,)}))


def test_a_block_of_clips_is_cut_in_time() -> None:
    plan = CutMix(1.0, depth="block1", law="constant").sample(
        (4, 1, 640), seeded(2), Context(shapes={"block1": (10, 32)})
    )
    features = torch.rand(4, 10, 32)
    changed = (plan.mix(features) != features)[plan.partner != torch.arange(4)]
    assert changed.any()
    assert torch.equal(changed, changed[:, :1].expand_as(changed))  # all channels at a time
    assert plan.lam[0].item() == pytest.approx(1 - changed[0, 0].double().mean().item())


@pytest.mark.parametrize(
    ("shape", "inputs", "first"),
    [
        ((2, 12, 10), (2, 7), False),
        ((2, 12, 10), (2, 3, 8, 8), False),
        ((2, 12, 10), (2, 1, 64), True),
        ((2, 8, 4, 4), (2, 3, 8, 8), True),
        ((2, 4, 4, 4), (2, 3, 8, 8), True),
        ((2, 4, 4, 96), (2, 3, 8, 8), False),
        ((2, 4, 2, 96), (2, 3, 16, 8), True),  # as far as shapes tell
        ((2, 16, 32, 32), (2, 1, 64, 128), True),  # a spectrogram, with a stride in time
        ((2, 16, 16, 8), (2, 1, 64, 128), True),
        ((2, 16, 8, 4), (2, 1, 64, 64), True),
        ((2, 512, 1, 1), (2, 3, 32, 32), True),
        ((2, 1, 1, 512), (2, 3, 32, 32), False),
        ((2, 8, 4, 4, 4), (2, 3, 8, 8, 8), True),
        ((2, 16, 40, 10), (2, 1, 800), True),  # of clips, as spectrograms
        ((2, 5), (2, 7), True),
    ],
)
def test_where_channels_are(shape: tuple[int, ...], inputs: tuple[int, ...], first: bool) -> None:
    assert channels_first(shape, inputs) is first


@pytest.mark.parametrize("name", ["features.1", "layer1"])
def test_masks_are_drawn_for_places_and_channels(name: str) -> None:
    """The first is Swin's, whose channels are last."""
    deep, context = FMix(1.0, depth=name), Context(shapes={"features.1": (8, 8, 96), "layer1": (96, 8, 8)})
    if name == "layer1":
        assert deep.sample((4, 3, 32, 32), seeded(), context).size == (96, 8, 8)
        return
    with pytest.raises(ValueError, match=r"^depth must be where images.* features.1 returns vectors \(B, 8, 8, 96\)"):
        deep.sample((4, 3, 32, 32), seeded(), context)


@pytest.mark.parametrize("inputs", [(4, 12), (4, 3, 8, 8)], ids=["sentences", "images"])
def test_moments_of_vectors_are_of_each_vector(inputs: tuple[int, ...]) -> None:
    """Against torch's layer norm of each word."""
    plan = MoEx(layers=["embedding"]).sample(inputs, seeded(1))
    x = torch.randn(4, 12, 10, dtype=torch.float64, generator=seeded(2))
    other = x[plan.partner]
    moments = torch.stack([other.var(dim=2, correction=0).add(ExchangeMoments.epsilon).sqrt(), other.mean(dim=2)])
    std, mean = moments[..., None]
    torch.testing.assert_close(plan.mix(x), F.layer_norm(x, (10,)) * std + mean)


def test_moments_of_sequences_are_of_each_moment_in_time() -> None:
    plan = MoEx(layers=["block1"]).sample((4, 1, 64), seeded(1))
    x = torch.randn(4, 10, 12, dtype=torch.float64, generator=seeded(2))
    for mixed, other in itertools.islice(zip(plan.mix(x), x[plan.partner], strict=True), 4):
        torch.testing.assert_close(mixed.mean(dim=0), other.mean(dim=0))
