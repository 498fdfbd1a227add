"""WAV files of all widths against what SciPy wrote, and one line for each that cannot be used."""

from __future__ import annotations

import re
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from scipy.io import wavfile

from vicinal.data.wav import read_clips, read_wav

RATE = 8000


def noise(dtype: type, length: int = 300, channels: int = 1) -> NDArray[np.generic]:
    info = np.iinfo(dtype)
    values = np.random.default_rng(0).integers(info.min, info.max, (length, channels), dtype, endpoint=True)
    return values[:, 0] if channels == 1 else values


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32])
def test_the_highest_sixteen_bits_are_kept(tmp_path: Path, dtype: type) -> None:
    file, samples = tmp_path / "a.wav", noise(dtype)
    wavfile.write(file, RATE, samples)
    wide = samples.astype(np.float64)
    expected = {np.uint8: (wide - 128) * 256, np.int16: wide, np.int32: np.floor(wide / 65536)}[dtype]
    found = read_wav(str(file), RATE)
    assert found.dtype == np.int16
    assert np.array_equal(found, expected)


def test_24_bits_are_read_as_scipy_reads_them(tmp_path: Path) -> None:
    file, samples = tmp_path / "a.wav", noise(np.int32)
    with wave.open(str(file), "wb") as stream:
        stream.setparams((1, 3, RATE, 0, "NONE", ""))
        stream.writeframes(samples.astype("<i4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes())
    _, wide = wavfile.read(file)  # as 32 bits, of which the lowest 8 are zero
    assert np.array_equal(read_wav(str(file), RATE), np.floor(wide / 65536.0))


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_U8", 8), ("PCM_16", 16), ("PCM_24", 24), ("PCM_32", 32)])
def test_the_longer_header_is_read_as_the_short_one(tmp_path: Path, subtype: str, bits: int) -> None:
    """WAVE_FORMAT_EXTENSIBLE, as libsndfile writes it."""
    samples = noise(np.int32, channels=3)
    for form in ("WAV", "WAVEX"):
        soundfile.write(tmp_path / f"{form}.wav", samples, RATE, subtype, format=form)
    header = (tmp_path / "WAVEX.wav").read_bytes()
    place = header.index(b"fmt ")
    assert struct.unpack_from("<H", header, place + 8) == (0xFFFE,)
    assert struct.unpack_from("<H", header, place + 22) == (bits,)
    found = read_wav(str(tmp_path / "WAVEX.wav"), RATE)
    assert np.array_equal(found, read_wav(str(tmp_path / "WAV.wav"), RATE))
    mean = (samples.astype(np.float64) / 65536).mean(axis=1)
    assert np.abs(found - mean).max() <= (256 if bits == 8 else 1.5)


def with_format(file: Path, place: int, form: str, *values: object) -> None:
    """Write a file of 16 bits, and change its header at a place of the format."""
    wavfile.write(file, RATE, noise(np.int16))
    content = bytearray(file.read_bytes())
    struct.pack_into(form, content, content.index(b"fmt ") + 8 + place, *values)
    file.write_bytes(content)


@pytest.mark.parametrize("bits", [0, 1, 12, 20, 40, 64])
def test_bits_that_no_sample_has_are_refused(tmp_path: Path, bits: int) -> None:
    with_format(tmp_path / "a.wav", 14, "<H", bits)
    told = rf"\(samples have 8, 16, 24 or 32 bits, and its header tells of 1 channels of {bits} bits in 2 bytes\)"
    with pytest.raises(ValueError, match=rf"^root: .*a\.wav must be a WAV file .* {told}"):
        read_wav(str(tmp_path / "a.wav"), RATE)


@pytest.mark.parametrize(("place", "form", "value"), [(14, "<H", 8), (12, "<H", 4), (2, "<H", 0), (0, "<H", 0xFFFE)])
def test_a_header_that_contradicts_itself_is_refused(tmp_path: Path, place: int, form: str, value: int) -> None:
    with_format(tmp_path / "a.wav", place, form, value)
    with pytest.raises(ValueError, match=r"^root: .*a\.wav must be a WAV file of PCM samples that can be read \("):
        read_wav(str(tmp_path / "a.wav"), RATE)


def test_channels_are_averaged(tmp_path: Path) -> None:
    samples = noise(np.int16, channels=2)
    wavfile.write(tmp_path / "a.wav", RATE, samples)
    mean = samples.astype(np.float64).mean(axis=1)
    assert np.abs(read_wav(str(tmp_path / "a.wav"), RATE) - mean).max() <= 0.5


def test_clips_lose_their_end_or_get_zeros_after_it(tmp_path: Path) -> None:
    lengths = (1, 99, 100, 101, 250)
    for length in lengths:
        wavfile.write(tmp_path / f"{length}.wav", RATE, noise(np.int16, length))
    clips = read_clips([str(tmp_path / f"{length}.wav") for length in lengths], RATE, 100)
    assert (clips.shape, clips.dtype) == ((5, 1, 100), torch.int16)
    for clip, length in zip(clips[:, 0].numpy(), lengths, strict=True):
        assert np.array_equal(clip[:length], noise(np.int16, length)[:100])
        assert not clip[length:].any()


def test_what_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    def refused(name: str) -> str:
        with pytest.raises(ValueError, match=r"^(root|rate)") as error:
            read_wav(str(tmp_path / name), RATE)
        return str(error.value).replace(str(tmp_path), "T")

    wavfile.write(tmp_path / "fast.wav", 16000, noise(np.int16))
    assert refused("fast.wav") == "rate must be 16000, as in T/fast.wav; a clip is not resampled, got 8000"
    assert re.fullmatch(r"root: T/none\.wav must be a WAV file .* \(.*No such file.*\)", refused("none.wav"))
    (tmp_path / "text.wav").write_text("hello, hello, hello")
    assert "(it does not start with RIFF and WAVE)" in refused("text.wav")
    (tmp_path / "empty.wav").touch()
    assert refused("empty.wav").startswith("root: T/empty.wav must be a WAV file")
    wavfile.write(tmp_path / "float.wav", RATE, noise(np.int16).astype(np.float32))
    assert "(unknown format: 3)" in refused("float.wav")
    wavfile.write(tmp_path / "short.wav", RATE, noise(np.int16))
    whole = (tmp_path / "short.wav").read_bytes()
    (tmp_path / "short.wav").write_bytes(whole[:-200])
    assert refused("short.wav") == "root: T/short.wav must have all of its samples, and has 200 of 300"
    wavfile.write(tmp_path / "nothing.wav", RATE, noise(np.int16)[:0])
    assert refused("nothing.wav") == "root: T/nothing.wav must have all of its samples, and has 0"
    (tmp_path / "short.wav").write_bytes(whole[:30])
    assert "(it ends before its samples)" in refused("short.wav")
    (tmp_path / "folder.wav").mkdir()
    assert "Is a directory" in refused("folder.wav")
