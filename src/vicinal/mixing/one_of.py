"""A choice between strategies for each batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from vicinal.mixing.context import NOTHING, Context
from vicinal.mixing.plan import MixPlan
from vicinal.mixing.strategy import NoMix, Strategy, check_weights


@dataclass(frozen=True, kw_only=True)
class OneOf(Strategy):
    """One of several strategies per batch, drawn by weight; the rest of the probability mixes nothing.

    With two of weight 0.5 it is timm's switch between mixup and CutMix.

    Attributes:
        strategies: {name: strategy}, at least one.
        weights: {name: probability}, >= 0, of each; their sum is at most 1.
        mixed_weight, clean_weight, together: as of every strategy, for all of them.

    Raises:
        ValueError: a weight is missing or out of range, or one of the strategies has weights of the loss of its own.
    """

    strategies: Mapping[str, Strategy]
    weights: Mapping[str, float]
    mixed_weight: float | str = 1.0
    clean_weight: float | str = 0.0
    together: bool = False

    def __post_init__(self) -> None:
        check_weights(self.mixed_weight, self.clean_weight)
        if not self.strategies:
            raise ValueError("strategies must have at least one strategy, got {}")
        if not all(isinstance(strategy, Strategy) for strategy in self.strategies.values()):
            raise ValueError(f"strategies must have a _target_ each that is a strategy, got {self.strategies}")
        for name, strategy in self.strategies.items():
            for key in ("mixed_weight", "clean_weight", "together"):
                if (value := getattr(strategy, key)) != (plain := getattr(Strategy, key)):
                    own = f"{name} has {value}, not {plain}"
                    raise ValueError(f"strategies must leave {key} to mixup.{key}, for all of them; {own}")
        if self.strategies.keys() != self.weights.keys():
            raise ValueError(f"weights must be of {', '.join(self.strategies)}, got {', '.join(self.weights)}")
        if not all(weight >= 0 for weight in self.weights.values()) or math.fsum(self.weights.values()) > 1 + 1e-9:
            raise ValueError(f"weights must be >= 0 with a sum of at most 1, got {dict(self.weights)}")

    @property
    def depths(self) -> Sequence[str]:
        return list(dict.fromkeys(depth for strategy in self.strategies.values() for depth in strategy.depths))

    @property
    def reads(self) -> Sequence[str]:
        return [block for strategy in self.strategies.values() for block in strategy.reads]

    @property
    def selects(self) -> bool:
        return all(strategy.selects for strategy in self.strategies.values())

    @property
    def needs(self) -> frozenset[str]:
        return frozenset().union(*(strategy.needs for strategy in self.strategies.values()))

    @property
    def sized(self) -> Sequence[str]:
        return list(dict.fromkeys(block for strategy in self.strategies.values() for block in strategy.sized))

    def sample(self, shape: Sequence[int], generator: torch.Generator, context: Context = NOTHING) -> MixPlan:
        left = torch.rand((), dtype=torch.float64, generator=generator).item()
        for name, strategy in self.strategies.items():
            if left < self.weights[name]:
                return strategy.sample(shape, generator, context)
            left -= self.weights[name]
        return NoMix().sample(shape, generator)
