"""Mixing a batch: our strategies against torchvision's, timm's and kornia's, each in its fastest form.

All draw lambda from Beta(1, 1), the one law that all of them have. torchvision and timm return soft targets, so ours
are made too; kornia returns both labels and lambda, so ours are those of the plan. Ours leave the batch as it is and
write to memory that is used again, as the training has them; timm mixes in place, on a batch of its own, and one box a
batch is compared with ours in place too; torchvision and kornia can only return new memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.suite.bench import Bar, Bench, peer, present, same_work
from benchmarks.suite.synthetic import CLASSES
from benchmarks.suite.timing import Case
from vicinal.mixing import CutMix, InputMixup, ManifoldMixup, MixPlan, NoMix, Strategy

Mixer = Callable[[Tensor, Tensor], Any]
"""Takes images (B, C, H, W) and labels (B,), and returns the mixed images and the mixed labels."""

SHAPES = ((128, 3, 32, 32), (64, 3, 224, 224))
LAYERS = ("layer1", "layer2")


@dataclass(frozen=True)
class Contest:
    """One of our strategies and those it is compared with, by name: mixers of (number of classes)."""

    name: str
    ours: Callable[[], Strategy]
    box: bool
    peers: Mapping[str, Callable[[int], Mixer]]


def per_batch() -> list[Contest]:
    """Return mixers with one lambda or box per batch; and no mixing, which timm has as well."""
    mixup = {"torchvision MixUp": partial(torchvision, "MixUp"), "timm Mixup": partial(timm, "batch")}
    cutmix = {"torchvision CutMix": partial(torchvision, "CutMix"), "timm CutMix": partial(timm, "batch", box=True)}
    return [
        Contest("none", NoMix, False, {"timm Mixup, prob 0": partial(timm, "batch", prob=0.0)}),
        Contest("input", lambda: InputMixup(1.0), False, mixup),
        Contest("manifold", lambda: ManifoldMixup(1.0, LAYERS), False, mixup),
        Contest("cutmix", lambda: CutMix(1.0), True, cutmix),
    ]


def per_sample() -> list[Contest]:
    """Return mixers with one lambda or box per sample."""
    mixup = {"timm elem": partial(timm, "elem"), "kornia RandomMixUpV2": partial(kornia, "RandomMixUpV2")}
    cutmix = {
        "timm elem": partial(timm, "elem", box=True),
        "kornia RandomCutMixV2": partial(kornia, "RandomCutMixV2", use_correct_lambda=True),
    }
    return [
        Contest("input", lambda: InputMixup(1.0, per_sample=True), False, mixup),
        Contest("manifold", lambda: ManifoldMixup(1.0, LAYERS, per_sample=True), False, mixup),
        Contest("cutmix", lambda: CutMix(1.0, per_sample=True), True, cutmix),
    ]


def measure(bench: Bench) -> None:
    """Decide, mix the images and prepare the labels of one batch."""
    check(bench.device)
    for shape in SHAPES[:1] if bench.quick else SHAPES:
        for layout in (torch.contiguous_format, torch.channels_last):
            for threads in sorted({1, bench.threads}):
                compare(bench, shape, layout, threads)


def compare(bench: Bench, shape: tuple[int, ...], layout: torch.memory_format, threads: int) -> None:
    """All strategies on batches (B, C, H, W) of one shape and memory format."""
    for contest in per_batch():
        _compare(bench, contest, shape, layout, threads, sampled=False)
    for contest in per_sample():
        _compare(bench, contest, shape, layout, threads, sampled=True)


def _compare(
    bench: Bench, contest: Contest, shape: tuple[int, ...], layout: torch.memory_format, threads: int, *, sampled: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (shape[0],), generator=generator).to(bench.device)
    images = torch.randn(shape, generator=generator).to(bench.device, memory_format=layout)
    peers, missing = present({name: partial(make, CLASSES) for name, make in contest.peers.items()})
    ours = {
        "soft": our_mixer(contest.ours()),
        "pair": our_mixer(contest.ours(), soft=False),
        "in place": our_mixer(contest.ours(), in_place=True),
    }

    def rival(name: str) -> str:
        if name.startswith("kornia"):
            return "pair"
        return "in place" if name.startswith("timm") and contest.box and not sampled else "soft"

    needed = sorted({rival(name) for name in peers})
    cases = [Case(f"ours, {kind}", partial(ours[kind], images.clone(), labels), threads) for kind in needed]
    # A batch of its own for each: timm changes it.
    cases += [Case(name, partial(mixer, images.clone(), labels), threads) for name, mixer in peers.items()]
    size = "x".join(map(str, shape))
    form = "channels_last" if layout == torch.channels_last else "contiguous"
    title = f"{contest.name}, per {'sample' if sampled else 'batch'}, {size}, {form}"
    for name, reason in missing.items():
        bench.skip(title, name, reason, _bar(name, shape, sampled))
    if not peers:
        return
    timings = bench.time(f"{title}, {threads} threads", cases, rounds=15, least=0.02)
    for name in peers:
        ratio = timings.ratio(name, f"ours, {rival(name)}")
        bench.row(title, name, ratio, bar=_bar(name, shape, sampled), threads=threads)


def _bar(peer: str, shape: tuple[int, ...], sampled: bool) -> Bar:
    if not sampled or shape != SHAPES[0]:
        return Bar(1)
    return Bar(7 if peer.startswith("timm") else 4)


def our_mixer(
    strategy: Strategy, classes: int = CLASSES, *, soft: bool = True, in_place: bool = False, seed: int = 0
) -> Mixer:
    """Decide, mix, and make soft targets; or, not ``soft``, both labels and their weight. For batches of one shape."""
    generator = torch.Generator().manual_seed(seed)
    space: list[Tensor] = []

    def mix(images: Tensor, labels: Tensor) -> Any:
        if not space:
            space.append(images if in_place else torch.empty_like(images))
        plan = strategy.sample(images.shape, generator).to(images.device)
        mixed = plan.mix(images, space[0])
        return mixed, (plan.targets(labels, classes) if soft else (labels, labels[plan.partner], plan.lam))

    return mix


def torchvision(kind: str, classes: int) -> Mixer:
    """``MixUp`` or ``CutMix`` of ``torchvision.transforms.v2``."""
    mixer: Mixer = getattr(peer("torchvision.transforms.v2"), kind)(alpha=1.0, num_classes=classes)
    return mixer


def timm(mode: str, classes: int, *, box: bool = False, prob: float = 1.0) -> Mixer:
    """Timm's ``Mixup``, without its label smoothing, which the others do not have."""
    alphas = {"mixup_alpha": 0.0, "cutmix_alpha": 1.0} if box else {"mixup_alpha": 1.0, "cutmix_alpha": 0.0}
    mixer: Mixer = peer("timm.data").Mixup(**alphas, mode=mode, prob=prob, label_smoothing=0.0, num_classes=classes)
    return mixer


def kornia(kind: str, classes: int, **settings: Any) -> Mixer:
    """One of kornia's, which return (label, other label, weight of the other) in the place of targets."""
    mixer = getattr(peer("kornia.augmentation"), kind)(p=1.0, data_keys=["input", "class"], **settings)
    return lambda images, labels: tuple(mixer(images, labels))


def check(device: torch.device) -> None:
    """Check that every mixer gives what its own lambdas, partners and boxes say, of the images' shape and type.

    Raises:
        UnequalWorkError: one does not.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(16, 3, 32, 32, generator=generator).to(device)
    labels = torch.arange(16, device=device)
    for contest in [*per_batch(), *per_sample()]:
        peers, _ = present({name: partial(make, 16) for name, make in contest.peers.items()})
        for name, mixer in {
            "ours": our_mixer(contest.ours(), 16),
            "ours, in place": our_mixer(contest.ours(), 16, in_place=True),
            **peers,
        }.items():
            mixed, made = mixer(images.clone(), labels)
            plan = _understood(name, made)
            same_work(mixed.shape == images.shape and mixed.dtype == images.dtype, f"{name}: another shape or type")
            if contest.box:
                _check_boxes(name, images.cpu(), mixed.cpu(), plan)
            else:
                same_work(torch.allclose(plan.mix(images.cpu()), mixed.cpu(), atol=1e-5), f"{name}: mixed otherwise")


def _understood(name: str, made: Tensor) -> MixPlan:
    """Return lambda and partner of each sample, read from the mixed labels 0 to B - 1 of as many classes."""
    made = made.cpu()
    if name.startswith("kornia"):
        _, other, weight = made.view(-1, 3).unbind(1)
        lam = weight if "Cut" in name else 1 - weight
        return MixPlan(lam, other.long())
    same_work(made.shape == (16, 16) and torch.allclose(made.sum(1), torch.ones(16)), f"{name}: not soft targets")
    lam = made.diagonal()
    others = made - torch.diag(lam)
    partner = torch.where(others.amax(1) > 0, others.argmax(1), torch.arange(16))
    return MixPlan(lam, partner)


def _check_boxes(name: str, images: Tensor, mixed: Tensor, plan: MixPlan) -> None:
    """Check that each pixel is the sample's or its partner's, and that lambda is the share of its own."""
    other = images[plan.partner]
    own = (mixed == images).all(1)
    same_work(bool((own | (mixed == other).all(1)).all()), f"{name}: pixels of neither image")
    share = own.float().mean((1, 2))
    alone = plan.partner == torch.arange(len(images))
    same_work(torch.allclose(share[~alone], plan.lam[~alone], atol=1e-4), f"{name}: lambda is not the share of pixels")
