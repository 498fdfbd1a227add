"""Masks drawn as fields over the image: Fourier noise, grids, Gaussian bumps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vicinal.mixing.context import Context
from vicinal.mixing.counted import CountedMixup
from vicinal.mixing.layouts import IMAGES
from vicinal.mixing.masks import Mask
from vicinal.mixing.mixup import Mixup
from vicinal.mixing.plan import MixPlan


@dataclass(frozen=True)
class HardMask(Mask):
    """Each pixel is the sample's own or its partner's.

    own: bool (B, 1, H, W), or (1, 1, H, W) for the whole batch.
    """

    hard = True
    own: Tensor

    def mix(self, x: Tensor, other: Tensor) -> Tensor:
        return torch.where(self.own, x, other)

    def own_share(self, shape: Sequence[int]) -> Tensor:
        return self.own.flatten(1).double().mean(dim=1).float()


@dataclass(frozen=True)
class SoftMask(Mask):
    """Each pixel is a weighted mean.

    own: float32 (B, 1, H, W), or (1, 1, H, W) for the whole batch, in [0, 1].
    """

    own: Tensor

    def mix(self, x: Tensor, other: Tensor) -> Tensor:
        own = self.own.to(torch.promote_types(x.dtype, torch.float32))
        return torch.lerp(other.to(own.dtype), x.to(own.dtype), own).to(x.dtype)

    def own_share(self, shape: Sequence[int]) -> Tensor:
        return self.own.flatten(1).mean(dim=1)


@dataclass(frozen=True, kw_only=True)
class FMix(Mixup):
    """FMix (Harris et al., arXiv 2002.12047; ecs-vlc/FMix ``fmix.py``): a mask cut from low-frequency noise.

    The round(lambda H W) largest values of a Gaussian field with amplitudes 1 / frequency^decay are the sample's own.
    The reference takes real and imaginary parts from two rows of its draw, so its masks have at most one cycle along
    the width; here both directions are alike.

    Attributes:
        decay: > 0, how fast the amplitudes fall. The paper: 3.
    """

    mixes = IMAGES
    decay: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.decay < math.inf:
            raise ValueError(f"decay must be a finite number > 0, got {self.decay}")

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        height, width = shape[-2:]
        field = fourier_field(len(lam), height, width, self.decay, generator).flatten(1)
        size = height * width
        rank = field.argsort(dim=1, descending=True).argsort(dim=1)  # 0 is the largest
        own = rank < (lam * size).round()[:, None]
        return MixPlan(lam, partner, mask=HardMask(own.view(len(lam), 1, height, width)))


def fourier_field(count: int, height: int, width: int, decay: float, generator: torch.Generator) -> Tensor:
    """Return Gaussian noise (count, height, width) whose amplitudes fall with the frequency to the power ``decay``."""
    y, x = torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)
    frequency = (x**2 + y**2).sqrt().clamp(min=1 / max(height, width))
    if not (divisors := frequency**decay).min() >= torch.finfo(frequency.dtype).tiny:
        raise ValueError(
            f"decay must be smaller for {height} x {width} places, some amplitudes are infinite, got {decay}"
        )
    noise = torch.randn(count, height, width, 2, generator=generator)
    field: Tensor = torch.fft.ifft2(torch.view_as_complex(noise) / divisors).real
    return field


@dataclass(frozen=True, kw_only=True)
class GridMix(Mixup):
    """GridMix (Baek et al., Pattern Recognition 109, 2021) without its second, local loss: a grid of random cells.

    Each of ``cells`` x ``cells`` cells is the sample's own with a probability of lambda.

    Attributes:
        cells: >= 1, per side; at most one per pixel.
    """

    mixes = IMAGES
    cells: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cells < 1:
            raise ValueError(f"cells must be >= 1, got {self.cells}")

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        cells = min(self.cells, max(shape[-2:]))
        own = torch.rand(len(lam), cells, cells, generator=generator) < lam[:, None, None]
        rows, columns = (torch.arange(side) * cells // side for side in shape[-2:])
        return MixPlan(lam, partner, mask=HardMask(own[:, rows[:, None], columns][:, None]))


@dataclass(frozen=True, kw_only=True)
class SmoothMix(CountedMixup):
    """SmoothMix (Lee et al., CVPR Workshops 2020): a Gaussian bump of the sample in its partner.

    m = exp(-d^2 / 2 sigma^2) around a uniform centre, with sigma uniform in [sigma_low, sigma_high] of the shorter
    side. The target has the weight that is seen, the mean of m. Lambda is not drawn.

    Attributes:
        sigma_low: > 0, share of the shorter side. The paper: 0.25.
        sigma_high: >= sigma_low. The paper: 0.5.
    """

    mixes = IMAGES
    sigma_low: float = 0.25
    sigma_high: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.sigma_low < math.inf:
            raise ValueError(f"sigma_low must be a finite number > 0, got {self.sigma_low}")
        if not self.sigma_low <= self.sigma_high < math.inf:
            raise ValueError(f"sigma_high must be a finite number >= sigma_low, got {self.sigma_high}")

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        rows, (height, width) = len(lam), shape[-2:]
        y = torch.randint(height, (rows, 1), generator=generator)
        x = torch.randint(width, (rows, 1), generator=generator)
        scale = torch.rand(rows, generator=generator)
        sigma = min(height, width) * (self.sigma_low + (self.sigma_high - self.sigma_low) * scale)
        squared = (torch.arange(height) - y).square()[:, :, None] + (torch.arange(width) - x).square()[:, None]
        bump = torch.exp(-squared / (2 * sigma.square())[:, None, None])
        bump = torch.where(lam[:, None, None] < 1, bump, 1.0)  # where nothing is to be mixed
        return MixPlan(lam, partner, mask=SoftMask(bump.float()[:, None]))
