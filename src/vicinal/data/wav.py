"""WAV files as clips of one rate and length."""

from __future__ import annotations

import wave
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def read_clips(paths: Sequence[str], rate: int, length: int) -> Tensor:
    """Return the clips, (N, 1, length) int16, each as :func:`read_wav` gives it, from its start.

    A longer one loses its end, and a shorter one has zeros after it.
    """
    clips = torch.zeros(len(paths), 1, length, dtype=torch.int16)
    for clip, path in zip(clips.numpy()[:, 0], paths, strict=True):
        samples = read_wav(path, rate)[:length]
        clip[: len(samples)] = samples
    return clips


def read_wav(path: str, rate: int) -> NDArray[np.int16]:
    """Return the samples of a file of PCM, int16 (T,): the highest 16 bits of each, and the mean of the channels.

    Raises ValueError: it cannot be read, is cut short or empty, or has another rate, which is never converted.
    """
    try:
        with wave.open(path) as file:
            channels, width, own_rate, count = file.getparams()[:4]
            data = file.readframes(count)
    except (OSError, EOFError, wave.Error) as error:
        reason = str(error) or "it ends too early"
        raise ValueError(f"root: {path} must be a WAV file of PCM samples that can be read ({reason})") from error
    if own_rate != rate:
        raise ValueError(f"rate must be {own_rate}, as in {path}; a clip is not resampled, got {rate}")
    if not count or len(data) != count * channels * width:
        have, of = len(data) // (channels * width), f" of {count}" if count else ""
        raise ValueError(f"root: {path} must have all of its samples, and has {have}{of}")
    parts = np.frombuffer(data, np.uint8).reshape(-1, width)
    if width == 1:  # unsigned
        samples = (parts[:, 0].astype(np.int16) - 128) << 8
    else:
        samples = np.ascontiguousarray(parts[:, -2:]).view("<i2")[:, 0].astype(np.int16, copy=False)
    clip: NDArray[np.int16] = samples.reshape(-1, channels).mean(axis=1).round().astype(np.int16)
    return clip
