"""ClassMix and pasted instances: which pixels are taken, by hand and by count."""

from collections import Counter

import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor

from vicinal.mixing.context import Context
from vicinal.mixing.fields import HardMask
from vicinal.mixing.object_pasting import ClassMix, InstancePaste, connected_parts

SHAPE = (4, 1, 8, 8)
PARTNER = torch.tensor([3, 2, 1, 0])


def blocks(*labels: int) -> Tensor:
    """A map (8, 8) of four squares of one class each."""
    return torch.tensor(labels).view(2, 2).repeat_interleave(4, 0).repeat_interleave(4, 1)


def own(strategy: ClassMix | InstancePaste, maps: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Own pixels, (B, H, W), and the weights of the labels."""
    plan = strategy.sample((len(maps), 1, *maps.shape[-2:]), torch.Generator().manual_seed(seed), Context(labels=maps))
    assert plan.partner.tolist() == list(range(len(maps)))[::-1]
    assert isinstance(plan.mask, HardMask)
    return plan.mask.own[:, 0], plan.lam


def test_of_two_classes_the_objects_are_pasted() -> None:
    maps = torch.stack([blocks(0, 1, 0, 255), blocks(0, 0, 0, 0), blocks(1, 1, 1, 1), blocks(1, 1, 0, 0)])
    kept, lam = own(ClassMix(partner="flip"), maps)
    assert torch.equal(kept[0], maps[3] != 1)
    assert kept[1].all()  # one class alone: half of it, rounded down, is none
    assert kept[2].all()  # no objects
    assert torch.equal(kept[3], maps[0] != 1)
    assert lam.tolist() == [0.5, 1, 1, 0.75]


def test_half_of_the_classes_are_pasted_each_as_often() -> None:
    """As the reference chooses: ``np.random.choice(n, (n - n % 2) / 2, replace=False)`` of the n classes of a map."""
    maps = torch.stack([blocks(0, 1, 2, 3)] * 2)
    strategy, seen = ClassMix(partner="flip", background=-1), Counter[tuple[int, ...]]()
    for seed in range(150):
        kept, _ = own(strategy, maps, seed)
        seen.update(tuple(maps[1][~kept[i]].unique().tolist()) for i in range(2))
    assert set(seen) == {(a, b) for a in range(4) for b in range(a + 1, 4)}
    assert all(binomtest(count, 300, 1 / 6).pvalue > 1e-4 for count in seen.values())
    with_background = Counter(
        tuple(maps[1][~own(ClassMix(partner="flip"), maps, seed)[0][0]].unique().tolist()) for seed in range(30)
    )
    assert set(with_background) == {(1, 2), (1, 3), (2, 3)}


def test_instances_are_pasted_whole_and_half_of_the_time() -> None:
    numbers = torch.arange(64).view(8, 8) % 5
    targets = torch.stack([torch.stack([(numbers > 0).long(), numbers])] * 2)
    counts: Counter[int] = Counter()
    for seed in range(200):
        kept, lam = own(InstancePaste(partner="flip"), targets, seed)
        for i in range(2):
            pasted = numbers[~kept[i]].unique()
            assert torch.equal(~kept[i], torch.isin(numbers, pasted))
            counts.update(pasted.tolist())
        assert torch.equal(lam, kept.flatten(1).double().mean(1).float())
    assert set(counts) == {1, 2, 3, 4}
    assert all(binomtest(count, 400, 0.5).pvalue > 1e-4 for count in counts.values())
    assert not own(InstancePaste(partner="flip", share=1.0), targets)[0][:, numbers > 0].any()


def test_without_instances_connected_parts_of_a_class_are_taken() -> None:
    classes = torch.tensor([[1, 1, 0, 2], [0, 1, 2, 2], [1, 0, 255, 1], [1, 1, 0, 1]])
    parts = connected_parts(classes, background=0)
    assert parts.tolist() == [[1, 1, 0, 4], [0, 1, 4, 4], [2, 0, 0, 3], [2, 2, 0, 3]]
    assert connected_parts(torch.zeros(4, 4), background=-1).unique().tolist() == [1]
    kept, _ = own(InstancePaste(partner="flip", share=1.0), torch.stack([classes, classes]))
    assert torch.equal(kept[0], parts == 0)


def test_samples_that_are_not_mixed_stay_whole() -> None:
    maps = torch.stack([blocks(0, 1, 1, 1)] * 400)
    kept, lam = own(ClassMix(partner="flip", prob=0.5), maps)
    assert torch.equal(kept.flatten(1).all(1), lam == 1)
    assert binomtest(int((lam == 1).sum()), 400, 0.5).pvalue > 1e-4
    assert set(lam.tolist()) == {0.25, 1.0}


def test_labels_that_are_no_maps_are_refused() -> None:
    generator = torch.Generator()
    for labels in (torch.zeros(4, dtype=torch.int64), torch.zeros(4, 4, 8, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"^mixup needs maps of classes, 8 x 8 \(dataset.task=segmentation\), got"):
            ClassMix().sample(SHAPE, generator, Context(labels=labels))
    with pytest.raises(ValueError, match=r"^share must be in \(0, 1\], got 0"):
        InstancePaste(share=0)
    with pytest.raises(ValueError, match=r"^background must be a class, or -1 for none, got 255"):
        ClassMix(background=255)
