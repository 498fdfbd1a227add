"""Images that are decoded, and fitted into a frame, against torchvision's transforms of PIL images."""

import io
import random
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from vicinal.data import decoding
from vicinal.data.decoding import decode, fitted
from vicinal.data.kept_images import Keeping

side = st.integers(1, 40)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@settings(max_examples=200)
@given(width=side, height=side, rows=side, columns=side, more=st.integers(0, 9), nearest=st.booleans())
def test_the_centre_of_the_smallest_image_that_covers_the_frame(
    width: int, height: int, rows: int, columns: int, more: int, nearest: bool
) -> None:
    """One side is that of the frame, and the other one, by the image's aspect, is no smaller than the frame's."""
    image, shorter = noise(width, height), min(rows, columns) + more
    frame = [shorter * rows // min(rows, columns), shorter * columns // min(rows, columns)]
    by_height = [frame[0], int(frame[0] * width / height)]
    by_width = [int(frame[1] * height / width), frame[1]]
    [size] = [each for each in (by_height, by_width) if each[0] >= frame[0] and each[1] >= frame[1]][:1]
    mode, theirs = (Image.Resampling.NEAREST, 0) if nearest else (Image.Resampling.BILINEAR, 2)
    expected = tv.center_crop(tv.resize(image, size, interpolation=theirs), [rows, columns])
    found = fitted(image, [rows, columns], mode, shorter)
    assert found.size == (columns, rows)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("resize", [None, 20])
@pytest.mark.parametrize("size", [(31, 47), (64, 20), (5, 90), (16, 16)])
def test_the_shorter_side_of_an_image_fills_a_square(size: tuple[int, int], resize: int | None) -> None:
    image = noise(*size)
    expected = tv.center_crop(tv.resize(image, [resize or 16]), [16, 16])
    for frame in (16, [16, 16]):
        assert fitted(image, frame, Image.Resampling.BILINEAR, resize).tobytes() == expected.tobytes()


# torchcodec


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def both(content: bytes, channels: int = 3, turn: bool = True) -> list[Any]:
    """What the two decoders return: mode, size and pixels, or the message of their error."""
    found = []
    for decoder in decoding.DECODERS:
        try:
            image, deep = decode(io.BytesIO(content), channels, turn, decoder)
        except Exception as error:  # PIL raises a dozen types on damaged files
            found.append(re.sub("0x[0-9a-f]+", "", str(error)))  # the address of the stream
        else:
            found.append((image.mode, image.size, deep, image.tobytes()))
    return found


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modes that torchcodec was asked for."""
    decoders = pytest.importorskip("torchcodec.decoders")
    modes, decode_jpeg = [], decoders.decode_jpeg

    def counted(source: Any, *, mode: str) -> Any:
        modes.append(mode)
        return decode_jpeg(source, mode=mode)

    monkeypatch.setattr(decoders, "decode_jpeg", counted)
    return modes


@settings(max_examples=150, deadline=None)
@given(
    width=side,
    height=side,
    grey=st.booleans(),
    quality=st.integers(1, 100),
    subsampling=st.integers(0, 2),
    progressive=st.booleans(),
    restart=st.integers(0, 3),
    channels=st.sampled_from([1, 3]),
)
def test_torchcodec_has_the_pixels_of_pillow(
    width: int,
    height: int,
    grey: bool,
    quality: int,
    subsampling: int,
    progressive: bool,
    restart: int,
    channels: int,
) -> None:
    pytest.importorskip("torchcodec")
    options: dict[str, Any] = {"quality": quality, "progressive": progressive, "restart_marker_blocks": restart}
    if not grey:
        options["subsampling"] = subsampling
    pillow, torchcodec = both(encoded(noise(width, height).convert("L" if grey else "RGB"), **options), channels)
    assert pillow == torchcodec


def test_torchcodec_takes_plain_jpegs_alone(taken: list[str], tmp_path: Path) -> None:
    image = noise(21, 34)
    kept = (encoded(image, exif=turned(orientation)) for orientation in (1, 3, 6))
    others = [encoded(image, "PNG"), encoded(image.convert("CMYK")), *kept]
    assert [len({*both(content), *both(content, 3, turn=False)}) for content in others] == [1, 1, 1, 2, 2]
    assert [len(set(both(content, 3, turn))) for content in others for turn in (False, True)] == [1] * 10
    assert not taken
    plain = [encoded(image), encoded(image.convert("L")), encoded(image, keep_rgb=True), encoded(image, comment="a")]
    assert [len(set(both(content))) for content in plain] == [1] * 4
    assert taken == ["RGB", "GRAY", "RGB", "RGB"]
    (tmp_path / "é 1.jpg").write_bytes(plain[0])
    found, _ = decode(tmp_path / "é 1.jpg", 3, decoder="torchcodec")
    assert found.tobytes() == Image.open(io.BytesIO(plain[0])).tobytes()


def test_a_damaged_jpeg_is_what_it_is_to_pillow(taken: list[str]) -> None:
    """Cut off anywhere, or with random bytes: the same pixels, or refused by the same line."""
    content, draw = encoded(noise(40, 30), quality=60), random.Random(0)
    cut = [content[: draw.randrange(len(content))] for _ in range(60)]
    changed = []
    for _ in range(200):
        damaged = bytearray(content)
        for _ in range(draw.choice((1, 3, 20))):
            damaged[draw.randrange(2, len(damaged))] = draw.randrange(256)
        changed.append(bytes(damaged))
    results = [both(each) for each in (*cut, *changed)]
    assert all(pillow == torchcodec for pillow, torchcodec in results)
    refused = [isinstance(pillow, str) for pillow, _ in results]
    assert all(refused[:60])
    assert 5 < sum(refused[60:]) < 195
    assert len(taken) > 100


def test_torchcodec_that_cannot_be_imported_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    monkeypatch.delitem(sys.modules, "torchcodec.decoders", raising=False)
    with pytest.raises(ValueError, match=r"^decoder=torchcodec needs torchcodec, which cannot be imported \(.*\): pip"):
        Keeping.of(8, 3, decoder="torchcodec")


def test_pixels_that_do_not_change_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise(8, 9)

    def copied(*_: Any, **__: Any) -> None:
        raise AssertionError

    contents = [encoded(image, "PNG"), encoded(image.convert("L"), "PNG")]
    monkeypatch.setattr(Image.Image, "copy", copied)
    monkeypatch.setattr(Image.Image, "convert", copied)
    for channels, content in zip((3, 1), contents, strict=True):
        decode(io.BytesIO(content), channels)
    with pytest.raises(AssertionError):
        decode(io.BytesIO(contents[0]), 1)
