"""Where no strategy is better, no sweep may say that one is: the family-wise error after Holm's correction."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from vicinal.analysis.comparison import Cell
from vicinal.analysis.records import Run
from vicinal.analysis.summary import pair_table
from vicinal.mixing import CutMix, InputMixup, ManifoldMixup, NoMix, Strategy, mixed_forward

SWEEPS = 200
LEVEL = 0.05
TESTS = ("p t holm", "p wilcoxon holm")


def cells(scores: np.ndarray) -> list[Cell]:
    """``scores`` (strategies, seeds) of the last epoch as a sweep's cells."""
    found = []
    for index, row in enumerate(scores.tolist()):
        made = []
        for seed, acc1 in enumerate(row):
            test = {"last": {"acc1": acc1}}
            made.append(Run(Path(f"s{seed}"), f"{index}-s{seed}", str(index), seed, "", "completed", test=test))
        found.append(Cell(str(index), str(index), {"mixup": str(index)}, {}, {}, made))
    return found


def claims(sweeps: int, draw: Callable[[int], np.ndarray]) -> dict[str, float]:
    """Share of sweeps with at least one corrected p-value below the level, by test."""
    found = dict.fromkeys(TESTS, 0)
    for index in range(sweeps):
        own = cells(draw(index))
        pairs = pair_table(own, {cell.cell_id: own[0] for cell in own[1:]}, "test/last")
        for test in TESTS:
            found[test] += bool((pairs[test] < LEVEL).any())
    return {test: count / sweeps for test, count in found.items()}


def draw(index: int, seeds: int, effect: float = 0.0) -> np.ndarray:
    """Four strategies' accuracies on 360 images: what a seed does to all of them, and noise of each."""
    generator = np.random.default_rng([index, seeds])
    scores = generator.normal(0.9, 0.02, size=seeds) + generator.normal(0, 0.01, size=(4, seeds))
    scores[1] += effect
    return np.round(360 * scores) / 360


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [5, 8, 10])
def test_one_distribution_for_all_strategies(seeds: int) -> None:
    found = claims(SWEEPS, lambda index: draw(index, seeds))
    assert max(found.values()) <= 0.07, found


def test_an_effect_of_three_deviations_is_found() -> None:
    found = claims(20, lambda index: draw(index, 10, effect=0.03))
    assert min(found.values()) >= 0.95, found


DIGITS = load_digits()
STRATEGIES: list[Strategy] = [NoMix(), InputMixup(1.0), ManifoldMixup(2.0, layers=["input", "0"]), CutMix(1.0)]


def shuffled(index: int, seeds: int = 6) -> np.ndarray:
    """Accuracies of four strategies, really trained on digits whose labels are shuffled, and the test's too."""
    images = torch.tensor(DIGITS.images, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(DIGITS.target)[torch.randperm(len(images), generator=torch.Generator().manual_seed(index))]
    scores = np.empty((len(STRATEGIES), seeds))
    for row, strategy in enumerate(STRATEGIES):
        for seed in range(seeds):
            scores[row, seed] = train(strategy, images, labels, 1000 * index + seed)
    return scores


def train(strategy: Strategy, images: torch.Tensor, labels: torch.Tensor, seed: int) -> float:
    with torch.random.fork_rng(devices=[]):  # finding none takes as long as five steps
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    weights = list(model.parameters())
    order, mixing = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed)
    for batch in torch.randperm(1280, generator=order).split(128):
        plan = strategy.sample(images[batch].shape, mixing)
        loss = plan.loss(mixed_forward(model, images[batch], plan), labels[batch])
        with torch.no_grad():  # plain SGD; torch's own takes longer than the network
            for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight.sub_(gradient, alpha=0.5)
    with torch.no_grad():
        return float((model(images[1280:]).argmax(1) == labels[1280:]).double().mean())


@pytest.mark.slow
def test_trained_on_shuffled_labels() -> None:
    found = claims(SWEEPS, shuffled)
    assert max(found.values()) <= 0.07, found
