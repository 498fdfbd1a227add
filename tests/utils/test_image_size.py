"""The two forms of the size of images."""

import pytest

from vicinal.utils.image_size import ImageSize, shortest, sides


@pytest.mark.parametrize(
    ("size", "pair", "short"),
    [(32, (32, 32), 32), ([32, 32], (32, 32), 32), ([192, 256], (192, 256), (192, 256)), ((9, 7), (9, 7), (9, 7))],
)
def test_both_forms(size: ImageSize, pair: tuple[int, int], short: ImageSize) -> None:
    assert sides(size) == pair
    assert shortest(size) == short
    assert hash(shortest(size)) is not None
