"""Stratified cuts: shares, independence, order, and what is refused."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from vicinal.data import Samples, Source, split
from vicinal.data.contents import warn_once
from vicinal.data.splits import stratified


def source(counts: list[int]) -> Source:
    """Classes of the given sizes, shuffled; the one pixel of an image is its index."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    test = Samples(images[:1], labels[:1])
    return Source(Samples(images, labels), test, tuple(map(str, range(len(counts)))))


def indices(images: Samples) -> list[int]:
    return images.gathered().flatten().tolist()


@settings(deadline=None)
@given(counts=st.lists(st.integers(2, 40), min_size=2, max_size=6), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_cuts_are_stratified_disjoint_and_in_order(counts, seed, data):
    whole = source(counts)
    total, classes = sum(counts), len(counts)
    val_size = data.draw(st.integers(classes, total - classes))
    train, val, test = split(whole, val_size=val_size, train_size=None, seed=seed)
    assert val is not None
    assert len(indices(val)) == val_size
    assert sorted(indices(train) + indices(val)) == list(range(total))
    assert test is whole.test
    for part in (train, val):
        assert indices(part) == sorted(indices(part))
        assert torch.equal(part.targets, whole.train.targets[indices(part)])
        assert part.inputs is whole.train.inputs  # nothing is copied
        share = torch.tensor(counts) * len(part.targets) / total
        assert (part.targets.bincount(minlength=classes) - share).abs().max() < 1


@settings(deadline=None, max_examples=300)
@given(
    counts=st.lists(st.integers(2, 60), min_size=1, max_size=30)
    | st.builds(lambda k, n: [n] * k, st.integers(1, 200), st.integers(2, 9)),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_a_cut_is_scikit_learns_to_the_last_index(counts, seed, data):
    """Equal counts, and so ties that are broken by lot, among them; labels need not begin at 0 or follow each other."""
    labels = source(counts).train.targets * 3 + 2
    total, classes = sum(counts), len(counts)
    size = data.draw(st.integers(classes, total - classes))
    rest, chosen = train_test_split(range(total), test_size=size, stratify=labels.numpy(), random_state=seed)
    ours = stratified(labels, size, seed)
    assert [part.tolist() for part in ours] == [sorted(rest), sorted(chosen)]
    assert {part.dtype for part in ours} == {torch.int64}


@settings(deadline=None)
@given(counts=st.lists(st.integers(8, 40), min_size=2, max_size=6), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_a_subset_is_stratified_and_leaves_the_validation_split_alone(counts, seed, data):
    whole = source(counts)
    classes = len(counts)
    val_size = data.draw(st.integers(classes, sum(counts) // 2))
    everything, expected, _ = split(whole, val_size=val_size, train_size=None, seed=seed)
    left = len(everything.targets)
    train_size = data.draw(st.integers(classes, left - classes) | st.just(left))
    train, val, _ = split(whole, val_size=val_size, train_size=train_size, seed=seed)
    assert expected is not None
    assert val is not None
    assert indices(val) == indices(expected)
    assert len(indices(train)) == train_size
    assert set(indices(train)) <= set(indices(everything))
    assert indices(train) == sorted(indices(train))
    share = everything.targets.bincount(minlength=classes) * train_size / left
    assert (train.targets.bincount(minlength=classes) - share).abs().max() < 1


def test_the_seed_and_nothing_else_decides():
    whole = source([50, 50])
    cuts = []
    for seed, world in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(world)
        cuts.append(indices(split(whole, val_size=20, train_size=30, seed=seed)[0]))
    assert cuts[0] == cuts[1] != cuts[2]


def test_without_a_cut_the_official_parts_are_used():
    whole = source([5, 5])
    assert split(whole, val_size=0, train_size=None, seed=0) == (whole.train, None, whole.test)


@pytest.mark.parametrize(
    ("counts", "sizes", "line"),
    [
        (
            [50, 50],
            {"val_size": 99},
            "val_size must be 0 or from 2 to 98: there are 100 images of 2 classes to choose from, got 99",
        ),
        (
            [50, 50],
            {"val_size": 1},
            "val_size must be 0 or from 2 to 98: there are 100 images of 2 classes to choose from, got 1",
        ),
        (
            [50, 50],
            {"val_size": 20, "train_size": 81},
            "train_size must be null, 80 or from 2 to 78: there are 80 images of 2 classes to choose from, got 81",
        ),
        (
            [50, 50],
            {"train_size": 0},
            "train_size must be null, 100 or from 2 to 98: there are 100 images of 2 classes to choose from, got 0",
        ),
        ([50, 1], {"val_size": 10}, "val_size must be 0: a class with one image cannot be cut in two: 1, got 10"),
        (
            [50, 1],
            {"train_size": 10},
            "train_size must be null, 51: a class with one image cannot be cut in two: 1, got 10",
        ),
    ],
)
def test_impossible_cuts_are_refused_in_one_line(counts, sizes, line):
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        split(source(counts), **({"val_size": 0, "train_size": None, "seed": 0} | sizes))


def test_a_class_that_is_not_trained_on_is_said(caplog):
    warn_once.cache_clear()
    train, _, _ = split(source([100, 2]), val_size=0, train_size=2, seed=0)
    assert train.targets.bincount().tolist() == [2]
    line = "train_size=2 leaves no image of 1 of the 2 classes, such as 1, to train on"
    assert [record.getMessage() for record in caplog.records] == [line]
