"""Log-mel spectrograms of sound."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

WINDOW_SECONDS = 0.032
HOP_SECONDS = 0.010
LOWEST = 20.0  # Hz, lower edge of the first filter
FLOOR = 1e-6  # added to the power before the logarithm


class LogMel(nn.Module):
    """Clips (B, 1, T) in [-1, 1] to log-mel spectrograms (B, 1, mels, frames), low frequencies first.

    log(W |STFT|^2 + 1e-6) with the triangles W of :func:`mel_filters`, from 20 Hz to half the rate. Windows of 32 ms
    (Hann, periodic), one every 10 ms, the first around the first sample, with zeros outside the clip: frames = 1 +
    T // hop. In float32, whatever the precision of the network.

    Args:
        rate: samples per second.
        mels: filters. Raises ValueError: there are so many that one lies between two frequencies of the transform.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, rate: int, mels: int = 40) -> None:
        super().__init__()
        self.size, self.hop = round(WINDOW_SECONDS * rate), max(1, round(HOP_SECONDS * rate))
        if rate <= 2 * LOWEST:
            raise ValueError(f"rate must be above {2 * LOWEST:g} for a spectrogram, got {rate}")
        filters = mel_filters(rate, self.size, mels)
        if not (filters.sum(axis=1) > 0).all():
            raise ValueError(f"mels must be smaller at {rate} samples per second: one of them is empty, got {mels}")
        self.register_buffer("window", torch.hann_window(self.size), persistent=False)
        self.register_buffer("filters", torch.tensor(filters, dtype=torch.float32), persistent=False)

    def forward(self, clips: Tensor) -> Tensor:
        kind = "cpu" if clips.is_meta else clips.device.type  # autocast knows no meta device
        with torch.autocast(kind, enabled=False):
            padded = F.pad(clips.squeeze(1).float(), (self.size // 2, self.size // 2))
            spectrum = torch.stft(padded, self.size, self.hop, window=self.window, center=False, return_complex=True)
            power = spectrum.real.square() + spectrum.imag.square()
            return torch.log(self.filters @ power + FLOOR)[:, None]


def mel_filters(rate: int, size: int, mels: int) -> NDArray[np.float64]:
    """Return triangles of height 1 (mels, size // 2 + 1), evenly spaced in HTK's mel = 2595 log10(1 + f / 700)."""
    lowest, highest = (2595 * np.log10(1 + end / 700) for end in (LOWEST, rate / 2))
    corners = 700 * (10 ** (np.linspace(lowest, highest, mels + 2) / 2595) - 1)
    frequency = np.arange(size // 2 + 1) * rate / size
    rising = (frequency - corners[:-2, None]) / np.diff(corners)[:-1, None]
    falling = (corners[2:, None] - frequency) / np.diff(corners)[1:, None]
    triangles: NDArray[np.float64] = np.clip(np.minimum(rising, falling), 0, None)
    return triangles
