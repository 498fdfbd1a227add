"""Transforms of the partner before it is mixed in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from vicinal.mixing.moving import on_device


@dataclass(frozen=True)
class Transform(ABC):
    """Change what is taken from the partner, and where it must be from the sample itself."""

    compiles: ClassVar[bool] = True
    """Whether all its numbers are in tensors: see :attr:`MixPlan.compiles`."""

    def own(self, x: Tensor, other: Tensor) -> Tensor:
        """Return the samples, (B, ...), as they are mixed."""
        return x

    @abstractmethod
    def __call__(self, x: Tensor, other: Tensor) -> Tensor:
        """Return what is mixed in, (B, ...), from the samples and their partners, (B, ...); neither is changed."""

    def to(self, device: torch.device) -> Self:
        """Return the same transform on another device; the copies do not wait for it."""
        return on_device(self, device)


class Blank(Transform):
    """Zeros."""

    def __call__(self, x: Tensor, other: Tensor) -> Tensor:
        return torch.zeros_like(other)
