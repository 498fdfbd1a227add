"""WAV files as clips of one rate and length."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PCM, EXTENSIBLE = 1, 0xFFFE
PCM_IN_EXTENSIBLE = bytes.fromhex("0100000000001000800000aa00389b71")
"""The identifier of PCM in the longer form of a header (KSDATAFORMAT_SUBTYPE_PCM)."""
BITS = (8, 16, 24, 32)


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
        channels, own_rate, width, size, data = _samples(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"root: {path} must be a WAV file of PCM samples that can be read ({error})") from error
    if own_rate != rate:
        raise ValueError(f"rate must be {own_rate}, as in {path}; a clip is not resampled, got {rate}")
    count, there = (length // (channels * width) for length in (size, len(data)))
    if not count or there < count:
        of = f" of {count}" if count else ""
        raise ValueError(f"root: {path} must have all of its samples, and has {there}{of}")
    parts = np.frombuffer(data, np.uint8, count * channels * width).reshape(-1, width)
    if width == 1:  # unsigned
        samples = (parts[:, 0].astype(np.int16) - 128) << 8
    else:
        samples = np.ascontiguousarray(parts[:, -2:]).view("<i2")[:, 0].astype(np.int16, copy=False)
    clip: NDArray[np.int16] = samples.reshape(-1, channels).mean(axis=1).round().astype(np.int16)
    return clip


def _samples(content: bytes) -> tuple[int, int, int, int, bytes]:
    """Return channels, rate, bytes of a sample, bytes of all samples as the header tells, and those that are there.

    The header is read here: ``wave`` of Python 3.11 does not know the longer form, which most programs write for 24
    bits, and neither it nor SciPy refuses samples of other bits than it says. Raises ValueError: it is of no such file.
    """
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise ValueError("it does not start with RIFF and WAVE")
    form, place = b"", 12
    while len(content) >= place + 8:
        name, size = struct.unpack_from("<4sI", content, place)
        chunk, place = content[place + 8 : place + 8 + size], place + 8 + size + size % 2
        if name == b"fmt ":
            form = chunk
        elif name == b"data":
            break
    else:
        raise ValueError("it ends before its samples")
    if len(form) < 16:
        raise ValueError("it has no format before its samples")
    kind, channels, rate, _, align, bits = struct.unpack_from("<HHIIHH", form)
    if kind != PCM and not (kind == EXTENSIBLE and form[24:40] == PCM_IN_EXTENSIBLE):
        raise ValueError(f"unknown format: {kind}")
    if bits not in BITS or not channels or align != channels * bits // 8:
        told = f"{channels} channels of {bits} bits in {align} bytes"
        raise ValueError(f"samples have 8, 16, 24 or 32 bits, and its header tells of {told}")
    return channels, rate, bits // 8, size, chunk
