"""Images that are fitted into a frame, against torchvision's transforms of PIL images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from vicinal.data.decoding import fitted

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
