"""What mixing and moving an image makes of its boxes, against masks of pixels that are drawn and searched."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from vicinal.data.augmentation import CropFlip, Draws
from vicinal.mixing import CutMix, InputMixup, MixPlan, Strategy
from vicinal.mixing.context import Context
from vicinal.mixing.fields import FMix, GridMix, HardMask, SmoothMix, SoftMask
from vicinal.mixing.masks import Boxes
from vicinal.mixing.pasting import CropsPlan, Cutout, RandomErasing, ResizeIntoBox, Ricap
from vicinal.mixing.saliency import PuzzleMix, SaliencyMix
from vicinal.mixing.several import blend
from vicinal.tasks.boxes import VISIBLE, mixed_boxes, moved_boxes

SIZE = 12
Box = tuple[int, int, int, int]


def interval(least: int = 1) -> st.SearchStrategy[tuple[int, int]]:
    return (
        st.tuples(st.integers(0, SIZE), st.integers(0, SIZE))
        .map(sorted)
        .filter(lambda pair: pair[1] - pair[0] >= least)
    )


def box(least: int = 1) -> st.SearchStrategy[Box]:
    return st.tuples(interval(least), interval(least)).map(
        lambda sides: (sides[0][0], sides[1][0], sides[0][1], sides[1][1])
    )


SETS = st.lists(st.lists(box(), min_size=0, max_size=3), min_size=2, max_size=3)


def targets_of(sets: list[list[Box]]) -> torch.Tensor:
    """Class numbers count the boxes, so that each can be found again."""
    targets = torch.zeros(len(sets), 4, 6)
    for image, boxes in enumerate(sets):
        for row, corners in enumerate(boxes):
            targets[image, row] = torch.tensor([10 * image + row, *corners, 1])
    return targets


def painted(corners: Box, height: int = SIZE, width: int = SIZE) -> np.ndarray:
    pixels = np.zeros((height, width), bool)
    x1, y1, x2, y2 = corners
    pixels[y1:y2, x1:x2] = True
    return pixels


def around(seen: np.ndarray) -> tuple[int, ...]:
    rows, columns = np.nonzero(seen.any(1))[0], np.nonzero(seen.any(0))[0]
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def found(mixed: torch.Tensor) -> list[set[tuple[float, ...]]]:
    assert torch.equal(mixed[mixed[..., 5] == 0], torch.zeros_like(mixed[mixed[..., 5] == 0]))
    return [{tuple(row) for row in rows.tolist() if row[5]} for rows in mixed]


@given(sets=SETS, regions=st.data())
def test_boxes_of_cutmix_are_those_around_the_pixels_that_are_seen(
    sets: list[list[Box]], regions: st.DataObject
) -> None:
    batch = len(sets)
    rows = regions.draw(st.sampled_from([1, batch]))
    pasted = regions.draw(st.lists(box(least=0), min_size=rows, max_size=rows))
    sides = [[corners[side] for corners in pasted] for side in (1, 3, 0, 2)]
    partner = torch.arange(batch).roll(1)
    plan = MixPlan(torch.full((batch,), 0.5), partner, mask=Boxes(sides, (SIZE, SIZE)))
    expected: list[set[tuple[float, ...]]] = []
    for image in range(batch):
        hidden = painted(pasted[image % rows])
        expected.append(set())
        for source, part in ((image, ~hidden), (int(partner[image]), hidden)):
            for row, corners in enumerate(sets[source]):
                own = painted(corners)
                seen = own & part
                if seen.any() and seen.sum() >= VISIBLE * own.sum():
                    expected[-1].add((10 * source + row, *around(seen), 1))
    assert found(mixed_boxes(plan, targets_of(sets), SIZE)) == expected
    assert found(mixed_boxes(plan.to(torch.device("cpu")), targets_of(sets), SIZE)) == expected


@given(sets=SETS, seed=st.integers(0, 2**32))
def test_boxes_of_a_mosaic_are_those_around_their_pixels_in_it(sets: list[list[Box]], seed: int) -> None:
    batch = len(sets)
    plan = Ricap(1.0).sample((batch, 1, SIZE, SIZE), torch.Generator().manual_seed(seed))
    assert isinstance(plan, CropsPlan)
    expected: list[set[tuple[float, ...]]] = [set() for _ in sets]
    targets = targets_of(sets)
    for source, boxes in enumerate(sets):
        for row, corners in enumerate(boxes):
            images = torch.zeros(batch, 1, SIZE, SIZE)
            images[source, 0] = torch.from_numpy(painted(corners)).float()
            for place in range(4):  # of the crops, one at a time
                only = torch.zeros_like(images)
                area = plan.regions(SIZE, SIZE)[place]
                only[(..., *area)] = plan.mix(images)[(..., *area)]
                for image in range(batch):
                    seen = only[image, 0].numpy() > 0
                    enough = seen.any() and seen.sum() >= VISIBLE * painted(corners).sum()
                    if plan.indices[image, place] == source and enough:
                        expected[image].add((10 * source + row, *around(seen), 1))
    assert found(mixed_boxes(plan, targets, SIZE)) == expected


@given(sets=SETS, draws=st.data(), padding=st.integers(0, 5))
def test_boxes_move_with_their_pixels(sets: list[list[Box]], draws: st.DataObject, padding: int) -> None:
    offsets = st.lists(st.integers(0, 2 * padding), min_size=len(sets), max_size=len(sets))
    flips = st.lists(st.booleans(), min_size=len(sets), max_size=len(sets))
    turns = st.lists(st.integers(0, 3), min_size=len(sets), max_size=len(sets))
    drawn = Draws(*(torch.tensor(draws.draw(part)) for part in (offsets, offsets, flips, turns)))
    augmentation = CropFlip(padding, flip=True, rotate=True)
    expected: list[set[tuple[float, ...]]] = [set() for _ in sets]
    for image, boxes in enumerate(sets):
        for row, corners in enumerate(boxes):
            pixels = torch.zeros(len(sets), 1, SIZE, SIZE)
            pixels[image, 0] = torch.from_numpy(painted(corners)).float()
            seen = augmentation.apply(pixels, drawn)[image, 0].numpy() > 0
            if seen.any() and seen.sum() >= VISIBLE * painted(corners).sum():
                expected[image].add((10 * image + row, *around(seen), 1))
    assert found(moved_boxes(targets_of(sets), augmentation, drawn, SIZE)) == expected


@given(sets=SETS, lam=st.floats(0, 1, width=32), weighted=st.booleans())
def test_a_blend_has_the_boxes_of_both_by_their_weights(sets: list[list[Box]], lam: float, weighted: bool) -> None:
    batch, targets = len(sets), targets_of(sets)
    partner = torch.tensor([1, 0, 2][:batch])  # the third is mixed with itself
    expected = []
    for image, other in enumerate(partner.tolist()):
        weights = {image: 1.0} if image == other else {image: lam, other: 1 - lam}
        expected.append(
            {
                (10 * source + row, *corners): pytest.approx(weight if weighted else 1.0)
                for source, weight in weights.items()
                for row, corners in enumerate(sets[source])
                if weight > 0
            }
        )
    plan = MixPlan(torch.full((batch,), lam), partner)
    for made in (plan, replace(plan, layer="stage2")):
        mixed = found(mixed_boxes(made, targets, SIZE, weighted))
        assert [{row[:5]: row[5] for row in rows} for rows in mixed] == expected
    assert mixed_boxes(replace(plan, active=False), targets, SIZE) is targets


def test_three_members_have_their_weights() -> None:
    sets = [[(0, 0, 2, 2)], [(1, 1, 3, 3)], [(2, 2, 4, 4)]]
    plan = blend(torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[1, 2], [2, 2], [0, 1]]))
    mixed = mixed_boxes(plan, targets_of(sets), SIZE)
    weights = [{row[0]: row[5] for row in rows} for rows in found(mixed)]
    assert weights == [
        {0: pytest.approx(0.5), 10: pytest.approx(0.3), 20: pytest.approx(0.2)},
        {10: pytest.approx(0.5), 20: pytest.approx(0.5)},
        {20: pytest.approx(0.5), 0: pytest.approx(0.3), 10: pytest.approx(0.2)},
    ]


@given(sets=SETS, seed=st.integers(0, 2**32), hard=st.booleans())
def test_under_any_mask_a_box_counts_by_what_is_seen_of_it(sets: list[list[Box]], seed: int, hard: bool) -> None:
    batch = len(sets)
    own = torch.rand(batch, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    mask = HardMask(own > 0.6) if hard else SoftMask(own)
    part = (own > 0.6).float() if hard else own
    partner = torch.arange(batch).roll(1)
    plan = MixPlan(torch.full((batch,), 0.5), partner, mask=mask)
    expected: list[dict[float, float]] = []
    for image in range(batch):
        expected.append({})
        for source, weights in ((image, part[image, 0]), (int(partner[image]), 1 - part[image, 0])):
            for row, corners in enumerate(sets[source]):
                share = float(weights[torch.from_numpy(painted(corners))].double().mean())
                assume(abs(share - VISIBLE) > 1e-5)
                if share >= VISIBLE:
                    expected[-1][10 * source + row] = pytest.approx(1.0 if hard else share, abs=1e-4)
    assert [{row[0]: row[5] for row in rows} for rows in found(mixed_boxes(plan, targets_of(sets), SIZE))] == expected


@pytest.mark.parametrize("place", [3.1, 3.9, 11.7])
def test_a_box_narrower_than_a_pixel_counts_by_the_pixels_that_it_is_in(place: float) -> None:
    targets = torch.tensor([[[0, place, 2, place + 0.25, 8, 1]], [[1, place, 2, place + 0.25, 8, 1]]])
    own = torch.zeros(2, 1, SIZE, SIZE, dtype=torch.bool)
    own[:, :, 5:] = True  # the lower half of the box
    for mask, weights in ((HardMask(own), {0: 1.0, 1: 1.0}), (SoftMask(own.float()), {0: 0.5, 1: 0.5})):
        plan = MixPlan(torch.full((2,), 0.5), torch.tensor([1, 0]), mask=mask)
        assert {row[0]: row[5] for row in found(mixed_boxes(plan, targets, SIZE))[0]} == weights
    above = MixPlan(torch.full((2,), 0.5), torch.tensor([1, 0]), mask=HardMask(own & (torch.arange(SIZE) > 99)))
    assert {row[0] for row in found(mixed_boxes(above, targets, SIZE))[0]} == {1}


def test_a_resized_partner_brings_its_boxes_along() -> None:
    boxes = Boxes([[2], [8], [3], [6]], (SIZE, SIZE))  # 6 rows from 2, 3 columns from 3
    plan = MixPlan(torch.tensor([0.5, 0.5]), torch.tensor([1, 0]), mask=boxes, transform=ResizeIntoBox(boxes))
    first, second = found(mixed_boxes(plan, targets_of([[(0, 0, 2, 2)], [(4, 4, 12, 8)]]), SIZE))
    assert first == {(0, 0, 0, 2, 2, 1), (10, 4, 4, 6, 6, 1)}
    assert second == {(10, 6, 4, 12, 8, 1), (0, 3, 2, 3.5, 3, 1)}


ERASING = [
    Cutout(size=6),
    RandomErasing(prob=1.0),
    CutMix(1.0, partner="blank"),
    CutMix(1.0, partner="blank", per_sample=True),
    FMix(1.0, partner="blank"),
    GridMix(1.0, partner="blank", per_sample=True),
]


@given(sets=SETS, seed=st.integers(0, 2**32), strategy=st.sampled_from(ERASING))
def test_boxes_that_are_erased_are_dropped(sets: list[list[Box]], seed: int, strategy: Strategy) -> None:
    """By the pixels that are left of each box, painted alone."""
    batch = len(sets)
    plan = strategy.sample((batch, 1, SIZE, SIZE), torch.Generator().manual_seed(seed))
    expected: list[set[tuple[float, ...]]] = [set() for _ in sets]
    for image, boxes in enumerate(sets):
        for row, corners in enumerate(boxes):
            own = painted(corners)
            seen = plan.mix(torch.from_numpy(own).float().expand(batch, 1, SIZE, SIZE))[image, 0].numpy() > 0
            if seen.sum() >= VISIBLE * own.sum():
                stays = around(seen) if isinstance(plan.mask, Boxes) else corners
                expected[image].add((10 * image + row, *stays, 1))
    assert found(mixed_boxes(plan, targets_of(sets), SIZE)) == expected


def test_what_is_under_a_cutout_is_gone() -> None:
    boxes = [(2, 2, 5, 5), (8, 8, 12, 12)]
    plan = Cutout(size=SIZE).sample((1, 1, SIZE, SIZE), torch.Generator().manual_seed(3))
    left = plan.mix(torch.ones(1, 1, SIZE, SIZE))[0, 0].numpy() > 0
    assert [bool(left[painted(corners)].any()) for corners in boxes] == [False, True]
    assert {row[0] for row in found(mixed_boxes(plan, targets_of([boxes]), SIZE))[0]} == {1}


def test_under_a_soft_mask_that_fades_to_nothing_a_box_has_the_weight_that_is_left() -> None:
    corners = (1, 1, 9, 9)
    plan = SmoothMix(partner="blank").sample((1, 1, SIZE, SIZE), torch.Generator().manual_seed(2))
    left = plan.mix(torch.ones(1, 1, SIZE, SIZE))[0, 0, 1:9, 1:9].mean()
    assert [row[5] for row in found(mixed_boxes(plan, targets_of([[corners]]), SIZE))[0]] == [
        pytest.approx(float(left))
    ]


PASTING = [
    InputMixup(1.0),
    CutMix(1.0),
    CutMix(1.0, per_sample=True),
    SaliencyMix(1.0),
    FMix(1.0),
    GridMix(1.0),
    SmoothMix(),
    PuzzleMix(1.0),
]


@pytest.mark.parametrize("strategy", PASTING, ids=lambda strategy: type(strategy).__name__)
@pytest.mark.parametrize("weighted", [True, False])
def test_a_sample_that_is_mixed_with_itself_has_its_boxes_once(strategy: Strategy, weighted: bool) -> None:
    """Alone in its batch, as with ``trainer.batch_size=1``."""
    boxes: list[Box] = [(0, 0, 6, 6), (3, 3, 9, 9), (11, 0, 12, 12)]
    images = torch.rand(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    context = Context(images=images, saliency=images[:, 0])
    for seed in range(5):
        plan = strategy.sample(images.shape, torch.Generator().manual_seed(seed), context)
        mixed = mixed_boxes(plan, targets_of([boxes]), SIZE, weighted)
        rows = [row for row in mixed[0].tolist() if row[5]]  # a list: twice would be two
        assert rows == [[number, *corners, 1] for number, corners in enumerate(boxes)]


def test_a_sample_in_a_box_of_itself_has_its_boxes_cut_and_shrunken() -> None:
    pasted = Boxes([[0], [6], [0], [6]], (SIZE, SIZE))
    plan = MixPlan(torch.ones(1), torch.zeros(1, dtype=torch.int64), mask=pasted, transform=ResizeIntoBox(pasted))
    rows = found(mixed_boxes(plan, targets_of([[(2, 2, 6, 6), (0, 4, 12, 12)]]), SIZE))[0]
    # The first is hidden; of the second, an L is left. Halved, they are in the box.
    assert rows == {(0, 1, 1, 3, 3, 1), (1, 0, 4, 12, 12, 1), (1, 0, 2, 6, 6, 1)}


@given(sets=SETS, seed=st.integers(0, 2**32))
def test_a_mosaic_in_the_network_weighs_boxes_by_the_share_of_their_image(sets: list[list[Box]], seed: int) -> None:
    """Its places are those of the block, and not pixels."""
    batch, context = len(sets), Context(shapes={"block1": (8, 4, 4)})
    plan = Ricap(1.0, depth="block1").sample((batch, 1, SIZE, SIZE), torch.Generator().manual_seed(seed), context)
    assert isinstance(plan, CropsPlan)
    white = torch.eye(batch).view(batch, batch, 1, 1).expand(-1, -1, 4, 4)  # a channel per sample
    shares = plan.mix(white.contiguous()).mean(dim=(2, 3)).tolist()
    expected = [
        {10 * source + row: pytest.approx(of[source]) for source in range(batch) if of[source] for row in range(4)}
        for of in shares
    ]
    there = lambda number: number % 10 < len(sets[number // 10])  # noqa: E731
    expected = [{number: of[number] for number in filter(there, of)} for of in expected]
    assert [{row[0]: row[5] for row in rows} for rows in found(mixed_boxes(plan, targets_of(sets), SIZE))] == expected
    assert not plan.cuts


# Rectangles

ROWS, COLUMNS = 8, 14
WIDE = st.tuples(
    st.integers(0, COLUMNS - 2), st.integers(0, ROWS - 2), st.integers(2, COLUMNS), st.integers(2, ROWS)
).map(lambda box: (box[0], box[1], min(box[0] + box[2], COLUMNS), min(box[1] + box[3], ROWS)))
WIDE_SETS = st.lists(st.lists(WIDE, min_size=0, max_size=3), min_size=2, max_size=3)


@given(sets=WIDE_SETS, seed=st.integers(0, 2**32), padding=st.integers(0, 4))
def test_boxes_move_with_the_pixels_of_a_rectangle(sets: list[list[Box]], seed: int, padding: int) -> None:
    augmentation = CropFlip(padding, flip=True)
    drawn = augmentation.sample(len(sets), torch.Generator().manual_seed(seed))
    expected: list[set[tuple[float, ...]]] = [set() for _ in sets]
    for image, boxes in enumerate(sets):
        for row, corners in enumerate(boxes):
            own = painted(corners, ROWS, COLUMNS)
            pixels = torch.zeros(len(sets), 1, ROWS, COLUMNS)
            pixels[image, 0] = torch.from_numpy(own).float()
            seen = augmentation.apply(pixels, drawn)[image, 0].numpy() > 0
            if seen.any() and seen.sum() >= VISIBLE * own.sum():
                expected[image].add((10 * image + row, *around(seen), 1))
    assert found(moved_boxes(targets_of(sets), augmentation, drawn, (ROWS, COLUMNS))) == expected


@given(sets=WIDE_SETS, seed=st.integers(0, 2**32))
def test_boxes_are_pasted_with_the_pixels_of_a_rectangle(sets: list[list[Box]], seed: int) -> None:
    """Of a box, of a mosaic and of a grid, whose boxes stay whole."""
    shape = (len(sets), 1, ROWS, COLUMNS)
    for strategy in (CutMix(1.0, per_sample=True), Ricap(1.0), GridMix(1.0, cells=3)):
        plan = strategy.sample(shape, torch.Generator().manual_seed(seed))
        parts = [torch.zeros(ROWS, COLUMNS, dtype=torch.bool)] * 2
        expected: list[set[tuple[float, ...]]] = [set() for _ in sets]
        for image in range(len(sets)):
            if isinstance(plan, CropsPlan):
                places = plan.regions(ROWS, COLUMNS)
                sources = [*zip(plan.indices[image].tolist(), places, plan.offsets, strict=True)]
            else:
                own = plan.own_part(torch.zeros(shape))[image, 0] > 0
                same = int(plan.partner[image]) == image
                parts = [own | same, ~own & (not same)]
                sources = [
                    (source, part, None) for source, part in zip((image, int(plan.partner[image])), parts, strict=True)
                ]
            for source, place, offset in sources:
                for row, corners in enumerate(sets[source]):
                    pixels = painted(corners, ROWS, COLUMNS)
                    seen = np.zeros_like(pixels)
                    if offset is None:
                        seen = pixels & place.numpy()
                    else:
                        (rows, columns), (top, left) = place, offset
                        high, wide = rows.stop - rows.start, columns.stop - columns.start
                        seen[rows, columns] = pixels[top : top + high, left : left + wide]
                    if seen.any() and seen.sum() >= VISIBLE * pixels.sum():
                        there = corners if isinstance(strategy, GridMix) else around(seen)
                        expected[image].add((10 * source + row, *there, 1))
        assert found(mixed_boxes(plan, targets_of(sets), (ROWS, COLUMNS))) == expected
