"""The law of lambda: what Beta(alpha, alpha) says, and what a strategy makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from vicinal.launch.grid import Job
from vicinal.mixing.strategies import BetaMixup

Numbers = NDArray[np.float64]

ALPHAS = (0.2, 0.4, 1.0, 2.0)
DRAWS = 50_000
BINS = 20


@dataclass(frozen=True)
class Effective:
    """What some strategies, alike in this, really do with one alpha.

    Attributes:
        names: of the strategies.
        density: (BINS,), of equal bins of [0, 1]; its mean is 1.
        partner: E[1 - lambda], the mean weight of the partner.
        unmixed: share of draws with lambda exactly 1, in which the partner has no weight.
    """

    names: tuple[str, ...]
    density: Numbers
    partner: float
    unmixed: float


@dataclass(frozen=True)
class Law:
    alpha: float
    effective: tuple[Effective, ...]


def nominal(alpha: float, x: Numbers) -> Numbers:
    """Density of Beta(alpha, alpha) at x in (0, 1)."""
    from scipy.stats import beta

    density: Numbers = beta.pdf(x, alpha, alpha)
    return density


def laws(jobs: Sequence[Job], alphas: Sequence[float] = ALPHAS, draws: int = DRAWS) -> list[Law]:
    """A law an alpha for the strategies of the jobs, of the same draws; strategies with equal lambdas are one."""
    asked: dict[str, BetaMixup] = {}
    for job in jobs:
        if isinstance(job.experiment.strategy, BetaMixup):
            asked.setdefault(job.experiment.choices["mixup"], job.experiment.strategy)
    size = jobs[0].experiment.dataset.values["image_size"]
    return [Law(alpha, tuple(_effective(asked, alpha, (draws, 1, size, size)))) for alpha in alphas]


def _effective(asked: dict[str, BetaMixup], alpha: float, shape: tuple[int, ...]) -> list[Effective]:
    groups: list[tuple[list[str], torch.Tensor]] = []
    for name, strategy in asked.items():
        # One lambda per sample has the law of one per batch, and is drawn a thousand times as fast.
        many = replace(strategy, alpha=alpha, per_sample=True)
        lam = many.sample(shape, torch.Generator().manual_seed(0)).lam
        alike = next((names for names, known in groups if torch.equal(known, lam)), None)
        if alike is None:
            groups.append(([name], lam))
        else:
            alike.append(name)
    return [_summary(tuple(names), lam.double().numpy()) for names, lam in groups]


def _summary(names: tuple[str, ...], lam: Numbers) -> Effective:
    density, _ = np.histogram(lam, bins=BINS, range=(0, 1), density=True)
    return Effective(names, density, float(1 - lam.mean()), float((lam == 1).mean()))
