"""Boxes against a plain-Python derivation of the reference, and pasting them pixel by pixel."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vicinal.mixing.masks import Boxes

SIDE = st.integers(1, 40)
SEED = st.integers(0, 2**32)
# Not any float: where side * sqrt(1 - lam) is an integer but for the last bit, two square roots need not agree.
LAM = st.integers(0, 10_000).map(lambda k: k / 10_000)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def reference_span(side: int, centre: int, lam: float) -> tuple[int, int]:
    """One axis of ``rand_bbox`` (clovaai/CutMix-PyTorch): clip(c -/+ int(side * sqrt(1 - lam)) // 2, 0, side)."""
    half = int(side * math.sqrt(1.0 - lam)) // 2
    return min(max(centre - half, 0), side), min(max(centre + half, 0), side)


def boxes_of(*sides: tuple[int, int, int, int]) -> Boxes:
    return Boxes(torch.tensor(sides).T.tolist(), (6, 5))


@given(lams=st.lists(LAM, min_size=1, max_size=6), height=SIDE, width=SIDE, seed=SEED)
def test_boxes_are_the_references(lams: list[float], height: int, width: int, seed: int) -> None:
    boxes = Boxes.sample(torch.tensor(lams, dtype=torch.float64), (height, width), seeded(seed))
    replay = seeded(seed)
    centres_y = torch.randint(height, (len(lams),), generator=replay).tolist()
    centres_x = torch.randint(width, (len(lams),), generator=replay).tolist()
    rows = [reference_span(height, centre, lam) for centre, lam in zip(centres_y, lams, strict=True)]
    columns = [reference_span(width, centre, lam) for centre, lam in zip(centres_x, lams, strict=True)]
    assert list(zip(*boxes.sides[:2], strict=True)) == rows
    assert list(zip(*boxes.sides[2:], strict=True)) == columns
    assert boxes.areas == [(b - t) * (r - le) for (t, b), (le, r) in zip(rows, columns, strict=True)]


@given(lam=LAM, centre=st.integers(0, 31), seed=SEED)
def test_a_whole_box_has_even_sides_and_no_more_than_its_area(lam: float, centre: int, seed: int) -> None:
    boxes = Boxes.sample(torch.tensor([lam], dtype=torch.float64), (32, 32), seeded(seed))
    assert 0 <= boxes.areas[0] <= (1 - lam) * 32 * 32 + 1e-9
    (top,), (bottom,) = boxes.sides[:2]
    if top > 0 and bottom < 32:
        assert bottom - top == 2 * (int(32 * math.sqrt(1 - lam)) // 2)


@given(lams=st.lists(LAM, min_size=1, max_size=3), height=SIDE, width=SIDE, seed=SEED)
def test_odd_sides_are_those_of_the_area(lams: list[float], height: int, width: int, seed: int) -> None:
    """timm's rule: half a side, rounded down, before the centre, and the rest of it from there on."""
    boxes = Boxes.sample(torch.tensor(lams, dtype=torch.float64), (height, width), seeded(seed), odd_sides=True)
    replay = seeded(seed)
    for side, first, end in ((height, *boxes.sides[:2]), (width, *boxes.sides[2:])):
        for lam, centre, low, high in zip(
            lams, torch.randint(side, (len(lams),), generator=replay), first, end, strict=True
        ):
            length = int(side * math.sqrt(1 - lam))
            pixels = [
                pixel for pixel in range(centre - length // 2, centre - length // 2 + length) if 0 <= pixel < side
            ]
            assert list(range(low, high)) == pixels


def test_centres_are_uniform_over_all_pixels() -> None:
    count, side = 40_000, 5
    lam = torch.full((count,), 1 - (2 / side) ** 2 - 1e-9, dtype=torch.float64)  # half a side is one pixel
    boxes = Boxes.sample(lam, (side, side), seeded(0))
    # Centres 0..4 give rows [0, 1), [0, 2), [1, 3), [2, 4), [3, 5).
    top, bottom, left, right = torch.tensor(boxes.sides)
    centre_y = torch.where(bottom == 1, 0, top + 1)
    centre_x = torch.where(right == 1, 0, left + 1)
    counts = torch.bincount(centre_y * side + centre_x, minlength=side * side)
    expected = count / side**2
    assert float(((counts - expected) ** 2 / expected).sum()) < 51.2  # chi-squared, 24 degrees of freedom, .1 %


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (7, 1)])
def test_on_a_line_of_pixels_every_box_is_empty(height: int, width: int) -> None:
    boxes = Boxes.sample(torch.zeros(50, dtype=torch.float64), (height, width), seeded(0))
    assert boxes.areas == [0] * 50


@given(
    box=st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 5), st.integers(0, 5)),
    batch=st.integers(1, 3),
    shared=st.booleans(),
)
def test_mixing_is_pasting_pixel_by_pixel(box: tuple[int, int, int, int], batch: int, shared: bool) -> None:
    top, bottom, left, right = box
    boxes = boxes_of(*[box] * (1 if shared else batch))
    x = torch.arange(batch * 2 * 6 * 5, dtype=torch.float32).view(batch, 2, 6, 5)
    mixed = boxes.mix(x, -x - 1)
    for row in range(6):
        for column in range(5):
            pasted = top <= row < bottom and left <= column < right
            expected = (-x - 1 if pasted else x)[:, :, row, column]
            assert torch.equal(mixed[:, :, row, column], expected)


def test_each_sample_has_its_own_box() -> None:
    boxes = boxes_of((0, 2, 0, 1), (1, 1, 0, 3), (2, 3, 1, 3))
    assert boxes.inside(3, 3).int().squeeze(1).tolist() == [
        [[1, 0, 0], [1, 0, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 0, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 0, 0], [0, 1, 1]],
    ]
    assert boxes.areas == [2, 0, 2]


@given(lam=LAM, height=SIDE, width=SIDE, seed=SEED)
def test_area_counts_the_pixels_inside(lam: float, height: int, width: int, seed: int) -> None:
    boxes = Boxes.sample(torch.full((4,), lam, dtype=torch.float64), (height, width), seeded(seed))
    inside = boxes.inside(height, width)
    assert boxes.areas == inside.sum(dim=(1, 2, 3)).tolist()
    assert torch.equal(boxes.own_share((4, 3, height, width)), (1 - inside.double().mean(dim=(1, 2, 3))).float())


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_what_lies_outside_the_box_does_not_come_through(poison: float) -> None:
    other = torch.full((1, 1, 4, 4), poison)
    other[..., 1:3, 1:3] = 5
    mixed: Tensor = boxes_of((1, 3, 1, 3)).mix(torch.ones(1, 1, 4, 4), other)
    assert mixed.flatten().tolist() == [1, 1, 1, 1, 1, 5, 5, 1, 1, 5, 5, 1, 1, 1, 1, 1]


def test_moving_to_another_device_moves_all_corners() -> None:
    boxes = boxes_of((0, 2, 0, 1), (1, 1, 0, 3))
    corners = boxes.to(torch.device("meta")).corners
    assert corners is not None
    assert (corners.device.type, corners.shape, corners.dtype) == ("meta", (4, 2), torch.int64)
    moved = boxes.to(torch.device("cpu")).corners
    assert moved is not None
    assert moved.tolist() == boxes.sides


@given(
    spans=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=3),
    shared=st.booleans(),
)
def test_a_span_of_a_sequence_is_a_box_in_an_image_of_one_row(spans: list[tuple[int, int]], shared: bool) -> None:
    batch, spans = len(spans), spans[:1] if shared else spans
    first, end = ([min(span) for span in spans], [max(span) for span in spans])
    row = [0] * len(spans), [1] * len(spans)
    line, image = Boxes([first, end], (9,)), Boxes([*row, first, end], (1, 9))
    x, partner = torch.arange(batch * 18.0).view(batch, 2, 9), torch.arange(batch).roll(1)
    expected = image.mix(x[:, :, None], x[partner][:, :, None])[:, :, 0]
    assert torch.equal(line.mix(x, x[partner]), expected)
    assert torch.equal(line.mix_out(x, partner, torch.empty_like(x)), expected)
    assert torch.equal(line.mix_out(x.clone(), partner, y := x.clone()), expected)
    assert torch.equal(y, expected)
    assert line.areas == image.areas
    assert torch.equal(line.own_share(x.shape), image.own_share((batch, 2, 1, 9)))


@given(lams=st.lists(LAM, min_size=1, max_size=4), size=st.lists(SIDE, min_size=1, max_size=3), seed=SEED)
def test_boxes_along_any_number_of_axes(lams: list[float], size: list[int], seed: int) -> None:
    """Each side is int(side * (1 - lam)^(1 / axes)), made even, around a uniform centre and clipped."""
    boxes = Boxes.sample(torch.tensor(lams, dtype=torch.float64), size, seeded(seed))
    replay = seeded(seed)
    for axis, side in enumerate(size):
        centres = torch.randint(side, (len(lams),), generator=replay).tolist()
        for row, (lam, centre) in enumerate(zip(lams, centres, strict=True)):
            half = side * (1 - lam) ** (1 / len(size)) / 2
            halves = {int(half - 1e-9), int(half + 1e-9)}  # a root of three need not agree in its last bit
            spans = [(max(centre - each, 0), min(centre + each, side)) for each in halves]
            assert (boxes.sides[2 * axis][row], boxes.sides[2 * axis + 1][row]) in spans
    inside = boxes.inside(*size)
    assert inside.shape == (len(lams), 1, *size)
    assert boxes.areas == inside.flatten(1).sum(dim=1).tolist()
    x = torch.randn(len(lams), 2, *size, generator=replay)
    partner = torch.arange(len(lams)).roll(1)
    expected = torch.where(inside, x[partner], x)
    assert torch.equal(boxes.mix_out(x, partner, torch.empty_like(x)), expected)
    assert torch.equal(boxes.mix(x, x[partner]), expected)


def test_boxes_fit_what_they_cut() -> None:
    image, clip = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 16)
    boxes = Boxes([[0], [2], [0], [2]], (4, 4))
    for cut in (lambda x: boxes.mix(x, x), lambda x: boxes.mix_out(x, torch.tensor([1, 0]), x.clone())):
        assert cut(image).shape == image.shape
        with pytest.raises(ValueError, match="boxes along 2 axes cannot cut inputs of"):
            cut(clip)
    with pytest.raises(ValueError, match="needs inputs with places"):
        Boxes.sample(torch.tensor([0.5]), (), seeded(0))
