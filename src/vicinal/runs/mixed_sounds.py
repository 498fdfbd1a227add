"""``mixed.wav``: the mixed clips of a run one after the other, each as long as the others."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import TYPE_CHECKING

from vicinal.runs.files import DamagedError
from vicinal.runs.files import read as read_file
from vicinal.runs.files import write as write_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def encode(sounds: NDArray[np.int16], rate: int) -> bytes:
    """Return a WAV file of clips, (n, T) or (T,)."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as stream:
        stream.setparams((1, 2, rate, 0, "NONE", ""))
        stream.writeframes(sounds.astype("<i2").tobytes())
    return buffer.getvalue()


def write(file: Path, sounds: NDArray[np.int16], rate: int) -> None:
    """Write clips (n, T) in samples per second."""
    write_file(file, encode(sounds, rate))


def read(file: Path, count: int) -> tuple[NDArray[np.int16], int]:
    """Return ``count`` clips, (n, T), and their rate. Raises as ``read_json`` does."""
    import numpy as np

    try:
        with wave.open(io.BytesIO(read_file(file))) as stream:
            rate, samples = stream.getframerate(), np.frombuffer(stream.readframes(stream.getnframes()), "<i2")
    except (EOFError, wave.Error) as error:
        raise DamagedError(file, str(error) or "it ends too early") from error
    if not count or not samples.size or samples.size % count:
        raise DamagedError(file, f"it is not {count} clips of one length")
    return samples.reshape(count, -1), rate
