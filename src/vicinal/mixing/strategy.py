"""A strategy: what decides how a batch is mixed."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vicinal.mixing.context import NOTHING, Context
from vicinal.mixing.plan import MixPlan

INPUT = "input"
"""The name of the depth before the first block."""


WEIGHTS = ("lam", "1-lam")
"""Weights of a loss that are another for each sample."""


def check_weights(mixed: float | str, clean: float | str) -> None:
    """Refuse weights of the loss that are none. Raises ValueError."""
    if not (mixed in WEIGHTS if isinstance(mixed, str) else 0 < mixed < math.inf):
        raise ValueError(f"mixed_weight must be a finite number > 0, lam or 1-lam, got {mixed}")
    if not (clean in WEIGHTS if isinstance(clean, str) else 0 <= clean < math.inf):
        raise ValueError(f"clean_weight must be a finite number >= 0, lam or 1-lam, got {clean}")


class Strategy(ABC):
    """Decide what is mixed in a batch."""

    mixed_weight: float | str = 1.0
    clean_weight: float | str = 0.0
    """Weights of the loss on the mixed batch and of that on the same batch, unmixed: numbers, "lam" or "1-lam"."""
    together: bool = False
    """Whether both are one pass of the model."""

    @property
    def depths(self) -> Sequence[str]:
        """Places where this strategy mixes: "input" or names of blocks; empty if nowhere."""
        return (INPUT,)

    @property
    def reads(self) -> Sequence[str]:
        """Blocks whose output its plans look at; see :meth:`MixPlan.settled`."""
        return ()

    @property
    def selects(self) -> bool:
        """Whether it blends nothing at the input, so that inputs can be token ids, (B, L) int64."""
        return INPUT not in self.depths

    @property
    def needs(self) -> frozenset[str]:
        """Facts of the :class:`Context` that :meth:`sample` looks at; without any, a shape is enough."""
        return frozenset()

    @property
    def sized(self) -> Sequence[str]:
        """Blocks of which :meth:`sample` is told the shape of an output, if it needs shapes."""
        return [depth for depth in self.depths if depth != INPUT] if "shapes" in self.needs else []

    def law_of_lambda(self, bins: int, context: Context = NOTHING) -> list[float] | None:
        """Return the probability that lambda is drawn from each of ``bins`` equal parts of [0, 1]; None if not known.

        Samples that are not mixed have a lambda of exactly 1, which belongs to the last. A plan may change it further.
        """
        return None

    @abstractmethod
    def sample(self, shape: Sequence[int], generator: torch.Generator, context: Context = NOTHING) -> MixPlan:
        """Return the plan of one batch.

        Args:
            shape: of the batch of inputs, (B, C, ...). Any B >= 1.
            generator: a CPU generator that nothing else draws from. Decisions are made on the host, so that the plan
                (which block? mixed at all?) is known without waiting for a device; ``plan.to`` moves it.
            context: the facts that :attr:`needs` names.
        """


@dataclass(frozen=True)
class NoMix(Strategy):
    """Empirical risk minimisation: every sample is itself. Draws nothing."""

    @property
    def depths(self) -> Sequence[str]:
        return ()

    def sample(self, shape: Sequence[int], generator: torch.Generator, context: Context = NOTHING) -> MixPlan:
        return MixPlan(lam=torch.ones(shape[0]), partner=torch.arange(shape[0]), active=False)
