"""Strategies for sound: bands of spectrograms, and mixing by loudness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vicinal.mixing.context import Context, need
from vicinal.mixing.counted import CountedMixup
from vicinal.mixing.fields import HardMask
from vicinal.mixing.label_rules import LabelRule
from vicinal.mixing.laws import Law
from vicinal.mixing.layouts import CLIPS, SPECTROGRAMS
from vicinal.mixing.masks import Mask
from vicinal.mixing.mixup import Mixup
from vicinal.mixing.partners import PartnerRule
from vicinal.mixing.plan import MixPlan

WINDOW_SECONDS = 0.1
"""Of a level. The loudest window counts."""
LEAST_LEVEL = -80.0
"""In dB relative to a sine of full scale: silence is no softer."""


@dataclass(frozen=True, kw_only=True)
class SpecMix(CountedMixup):
    """SpecMix (Kim et al., arXiv 2108.03020): bands of frequencies and of frames are the partner's.

    The number of bands of each kind is uniform in 0, 1, ..., ``bands``; each has the width share x side, and starts
    anywhere, so that bands may overlap. The target has the area that is seen. Lambda is not drawn. Written from the
    paper's abstract: the laws of number and width are ours.

    Attributes:
        bands: >= 1, most of each kind. The paper: 3.
        share: of the side that a band has, in (0, 1).
    """

    mixes = SPECTROGRAMS
    bands: int = 3
    share: float = 0.15

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bands < 1:
            raise ValueError(f"bands must be >= 1, got {self.bands}")
        if not 0 < self.share < 1:
            raise ValueError(f"share must be in (0, 1), got {self.share}")

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        in_rows, in_columns = (self._in_bands(len(lam), side, generator) for side in shape[2:])
        own = ~(in_rows[:, :, None] | in_columns[:, None, :])
        own |= (lam == 1)[:, None, None]  # where nothing is to be mixed
        return MixPlan(lam, partner, mask=HardMask(own[:, None]))

    def _in_bands(self, rows: int, side: int, generator: torch.Generator) -> Tensor:
        """Return which places along a side are the partner's, bool (rows, side)."""
        width = min(max(round(self.share * side), 1), side)
        number = torch.randint(self.bands + 1, (rows, 1), generator=generator)
        first = torch.randint(side - width + 1, (rows, self.bands, 1), generator=generator)
        place = torch.arange(side)
        inside = (first <= place) & (place < first + width)
        return (inside & (torch.arange(self.bands) < number)[:, :, None]).any(dim=1)


@dataclass(frozen=True)
class LoudnessMask(Mask):
    """Weights p and 1 - p, divided by sqrt(p^2 + (1 - p)^2): two sounds of one energy mix to a sound of that energy.

    share: p, (B,) float32.
    """

    share: Tensor

    def mix(self, x: Tensor, other: Tensor) -> Tensor:
        p = self.share.to(torch.promote_types(x.dtype, torch.float32)).view(-1, *[1] * (x.dim() - 1))
        mixed = torch.lerp(other.to(p.dtype), x.to(p.dtype), p)
        return (mixed / (p.square() + (1 - p).square()).sqrt()).to(x.dtype)

    def own_share(self, shape: Sequence[int]) -> Tensor:
        return self.share


@dataclass(frozen=True, kw_only=True)
class BetweenClass(Mixup):
    """Between-class learning (Tokozume et al., arXiv 1711.10282): as loud as the target says.

    The target has weights r and 1 - r with r ~ U(0, 1), of two classes; the clips p and 1 - p, where p is such that
    the levels differ by what r says: p = 1 / (1 + 10^((G1 - G2) / 20) (1 - r) / r). A clip that is its own partner, as
    where its batch has no other class, stays as it is.

    Attributes:
        rate: samples of sound per second, >= 1.
    """

    mixes = CLIPS
    looks = frozenset({"images"})
    rate: int | None = None
    law: str | Law = "uniform"
    partner: str | PartnerRule = "other_class"
    labels: str | LabelRule = "drawn"
    per_sample: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rate is not None and self.rate < 1:
            raise ValueError(f"rate must be >= 1, got {self.rate}")

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        if self.rate is None:
            raise ValueError("rate must be the samples of sound per second, got None")
        level = levels(need(context.images, "images").detach(), self.rate).cpu()
        share = own_weight(lam, level, level[partner])
        share = torch.where(partner == torch.arange(shape[0]), 1.0, share)  # two of one sound would be louder
        return MixPlan(lam, partner, mask=LoudnessMask(share.float().expand(shape[0])))


def own_weight(r: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """Return p, (B,) float64, for shares r of the target and levels in dB.

    >>> own_weight(torch.tensor([0.5]), torch.tensor([0.0]), torch.tensor([-20.0]))  # ten times the amplitude
    tensor([0.0909], dtype=torch.float64)
    """
    louder = 10 ** ((own.double() - other.double()) / 20)
    return r / (r + louder * (1 - r))


def levels(clips: Tensor, rate: int) -> Tensor:
    """Return the A-weighted level of the loudest window of each clip (B, 1, T), (B,) in dB re a sine of full scale.

    Windows of 0.1 s (Hann), each beginning half a window after the last; zeros follow the clip. Raises ValueError: they
    are no clips.
    """
    if clips.dim() != 3 or clips.shape[1] != 1:
        raise ValueError(f"levels are of clips of sound (1, T), not of inputs {tuple(clips.shape[1:])}")
    size = 2 * max(1, round(rate * WINDOW_SECONDS / 2))
    window = torch.hann_window(size, device=clips.device)
    framed = F.pad(clips[:, 0].float(), (0, size)).unfold(1, size, size // 2)
    spectrum = torch.fft.rfft(framed * window)
    power = spectrum.real.square() + spectrum.imag.square()
    weight = a_weighting(torch.fft.rfftfreq(size, 1 / rate, dtype=torch.float64)).float().to(clips.device)
    sine = (window.sum() / 2).square() * 1.5  # of full scale: the window spreads it over three frequencies
    loudest = (power @ weight).amax(dim=1) / sine
    level: Tensor = 10 * loudest.clamp(min=10 ** (LEAST_LEVEL / 10)).log10()
    return level


def a_weighting(frequency: Tensor) -> Tensor:
    """Return the factor of the power at frequencies in Hz, by IEC 61672-1, 0 dB at 1 kHz."""
    f = frequency.square()
    amplitude = 12194**2 * f**2 / ((f + 20.6**2) * ((f + 107.7**2) * (f + 737.9**2)).sqrt() * (f + 12194**2))
    return amplitude.square() * 10**0.2  # 2.00 dB
