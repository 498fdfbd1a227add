"""Crops, flips and turns against torchvision's, an image at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as tv

from vicinal.data.augmentation import CropFlip, Draws


def one_at_a_time(images: torch.Tensor, draws: Draws, padding: int, mode: str = "constant") -> torch.Tensor:
    height, width = images.shape[-2:]
    out = []
    turns = draws.top * 0 if draws.turns is None else draws.turns
    for image, top, left, flip, turn in zip(images, *(draw.tolist() for draw in (*draws[:3], turns)), strict=True):
        crop = tv.crop(tv.pad(image, [padding] * 4, padding_mode=mode), top, left, height, width)
        flipped = tv.horizontal_flip(crop) if flip else crop
        out.append(tv.rotate(flipped, 90.0 * turn))
    return torch.stack(out)


@settings(deadline=None, max_examples=60)
@given(
    batch=st.integers(1, 9),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    padding=st.integers(0, 5),
    flip=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_equals_torchvision_bit_for_bit(batch, channels, height, width, padding, flip, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (batch, channels, height, width), dtype=torch.uint8, generator=generator)
    before = images.clone()
    augmentation = CropFlip(padding, flip)
    draws = augmentation.sample(batch, generator)
    out = augmentation.apply(images, draws)
    assert out.dtype == torch.uint8
    assert torch.equal(out, one_at_a_time(images, draws, padding))
    assert torch.equal(images, before)


@pytest.mark.gpu
def test_a_gpu_gives_the_bits_of_the_cpu_without_waiting_for_it():
    augmentation = CropFlip(4, True)
    images = torch.randint(0, 256, (128, 3, 32, 32), dtype=torch.uint8)
    draws = augmentation.sample(128, torch.Generator())
    there = images.to("cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = augmentation.apply(there, draws)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(out.cpu(), augmentation.apply(images, draws))


def test_every_window_and_side_is_equally_likely():
    count, padding = 36_000, 1
    top, left, flip, _ = CropFlip(padding, True).sample(count, torch.Generator().manual_seed(0))
    cells = torch.bincount((top * 3 + left) * 2 + flip, minlength=18)
    assert len(cells) == 18
    # binomial(36000, 1/18) has mean 2000 and standard deviation 43.5; five of them are a chance of 1 in 10^5
    assert (cells - 2000).abs().max() < 5 * 43.5


def test_without_flip_nothing_is_mirrored_and_the_windows_are_the_same():
    with_flip, without = (CropFlip(4, flip).sample(1000, torch.Generator().manual_seed(3)) for flip in (True, False))
    assert torch.equal(with_flip.top, without.top)
    assert torch.equal(with_flip.left, without.left)
    assert not without.flip.any()


def test_without_padding_images_stay_where_they_are():
    images = torch.arange(2 * 16, dtype=torch.uint8).view(2, 1, 4, 4)
    augmentation = CropFlip(0, False)
    assert torch.equal(augmentation.apply(images, augmentation.sample(2, torch.Generator())), images)


@settings(deadline=None, max_examples=60)
@given(
    batch=st.integers(1, 9),
    channels=st.sampled_from([1, 3, 4]),
    height=st.integers(1, 12),
    width=st.integers(1, 12) | st.none(),  # as high
    padding=st.integers(0, 5),
    flip=st.booleans(),
    last=st.booleans(),
    rotate=st.booleans(),
    reflect=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_the_fast_way_is_the_plain_one(batch, channels, height, width, padding, flip, last, rotate, reflect, seed):
    """In both layouts, with memory that larger batches have used before, and pixel by pixel from the whole data set."""
    width = height if width is None else width
    generator = torch.Generator().manual_seed(seed)
    layout = torch.channels_last if last else torch.contiguous_format
    data = torch.randint(1, 256, (20, channels, height, width), dtype=torch.uint8, generator=generator)
    data = data.contiguous(memory_format=layout)
    reflect = reflect and padding < min(height, width)
    augmentation = CropFlip(padding, flip, rotate and height == width, reflect)
    canvas = augmentation.canvas(data, 10)
    augmentation.apply(data[:10], augmentation.sample(10, generator), canvas)
    rows, draws = torch.randperm(20, generator=generator)[:batch], augmentation.sample(batch, generator)
    images = data[rows].contiguous(memory_format=layout)
    expected = one_at_a_time(images, draws, padding, "reflect" if reflect else "constant")
    assert torch.equal(augmentation.apply(images, draws, canvas), expected)
    assert torch.equal(augmentation.gather(data, rows, draws), expected)


def test_turns_are_drawn_last_and_each_as_often():
    with_turns, without = (
        CropFlip(4, True, turn).sample(4000, torch.Generator().manual_seed(3)) for turn in (True, False)
    )
    assert all(map(torch.equal, with_turns[:3], without[:3]))
    assert without.turns is None
    counts = torch.bincount(with_turns.turns)
    assert len(counts) == 4
    assert (counts - 1000).abs().max() < 5 * 27.4  # standard deviations of binomial(4000, 1/4)
