"""Images of an epoch: how often each class and each image is in it, and that runs get the sampler they ask for."""

from collections.abc import Callable

import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from vicinal import build
from vicinal.data.sampling import class_balanced
from vicinal.experiment import Experiment


@given(labels=st.lists(st.integers(0, 5), min_size=1, max_size=40), size=st.integers(1, 60), seed=st.integers(0, 99))
def test_each_class_is_drawn_as_often_to_within_one(labels: list[int], size: int, seed: int) -> None:
    given_labels = torch.tensor(labels)
    places = class_balanced(given_labels, size, torch.Generator().manual_seed(seed))
    assert len(places) == size
    counts = given_labels[places].bincount(minlength=6)[given_labels.unique()]
    assert counts.max() - counts.min() <= 1


def test_each_image_of_a_class_and_each_order_of_classes_is_equally_likely() -> None:
    labels = torch.tensor([2, 0, 2, 2, 0])  # no image of class 1
    generator = torch.Generator().manual_seed(0)
    places = torch.stack([class_balanced(labels, 3, generator) for _ in range(12_000)])
    of_class = torch.bincount(places.flatten(), minlength=5)
    assert chisquare(of_class.numpy(), (36_000 / torch.tensor([6, 4, 6, 6, 4])).numpy()).pvalue > 0.01
    orders = torch.bincount((labels[places] // 2 * torch.tensor([1, 2, 4])).sum(1), minlength=8)
    assert orders[0] == orders[7] == 0
    assert chisquare(orders[1:7].numpy()).pvalue > 0.01


def test_golden_places() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    assert class_balanced(labels, 8, torch.Generator().manual_seed(1)).tolist() == [5, 3, 3, 4, 5, 5, 1, 0]


def test_a_run_trains_on_each_class_as_often_and_evaluates_each_image_once(
    compose: Callable[..., Experiment],
) -> None:
    experiment = compose("dataset.imbalance=step", "dataset.imbalance_ratio=20", "dataset.sampler=class_balanced")
    data = build.load_data(experiment)
    loaders = build.make_loaders(experiment, data)
    epoch = loaders.train.epoch(torch.Generator(), torch.Generator())
    drawn = torch.cat([labels for _, labels in epoch]).bincount(minlength=10)
    assert drawn.sum() == len(data.train.targets)
    assert drawn.max() - drawn.min() <= 1
    assert loaders.clean is not None
    for part in (loaders.clean, loaders.test):
        assert torch.equal(torch.cat([labels for _, labels in part.batches()]), part.targets)
