"""A small convolutional network on log-mel spectrograms, for clips of sound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from vicinal.models.shapes import at_least
from vicinal.utils.log_mel import LogMel


class SpeechCNN(nn.Sequential):
    """A normalised log-mel spectrogram, stages of a 3x3 convolution, batch norm, ReLU and max-pool, and their mean.

    The first block, ``logmel``, returns the spectrogram (B, 1, mels, frames): strategies that mix there mix
    spectrograms. It is normalised by the running mean and deviation of all of it, a batch norm without weights.

    Args:
        rate, length, classes: of every network for sound, in samples per second and samples.
        mels: rows of the spectrogram, at least 2 per stage, to the power of the stages.
        widths: channels of each stage.
    """

    def __init__(
        self, rate: int, length: int, classes: int, *, mels: int = 40, widths: Sequence[int] = (16, 32, 64)
    ) -> None:
        if not widths or min(widths) < 1:
            raise ValueError(f"widths must be a list of integers >= 1, at least one, got {list(widths)}")
        spectrogram = LogMel(rate, mels)
        least = 2 ** len(widths)  # what the pools leave one of
        at_least("mels", mels, least, "SpeechCNN")
        at_least("length", length, (least - 1) * spectrogram.hop, "SpeechCNN")
        stages = [_stage(before, width) for before, width in zip((1, *widths), widths, strict=False)]
        self.blocks = ("logmel", *(f"block{number}" for number in range(1, len(stages) + 1)))
        super().__init__(
            OrderedDict(
                logmel=nn.Sequential(spectrogram, nn.BatchNorm2d(1, affine=False)),
                **dict(zip(self.blocks[1:], stages, strict=True)),
                head=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes)),
            )
        )


def _stage(before: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)
    )
