"""Batches that one compiled loop makes and mixes, against those that are made and then mixed."""

from collections.abc import Iterator

import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor import metrics

from vicinal.data import CropFlip, Loader, Pending, Samples, plain
from vicinal.mixing import CutMix, InputMixup, Strategy

CPU = torch.device("cpu")
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
SIZE, BATCH = 30, 8
STRATEGIES: dict[str, Strategy] = {
    "scalar": InputMixup(1.0),
    "scalars": InputMixup(1.0, per_sample=True),
    "box": CutMix(1.0),
    "boxes": CutMix(1.0, per_sample=True),
}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def loader(augmentation: CropFlip, **options: object) -> Loader:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (SIZE, 3, 8, 8), dtype=torch.uint8, generator=generator)
    samples = Samples(images, torch.arange(SIZE))
    return Loader(samples, BATCH, MEAN, STD, device=CPU, augmentation=augmentation, **options)


def generators() -> tuple[torch.Generator, torch.Generator]:
    return torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)


@pytest.mark.slow
@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize(
    ("augmentation", "options"),
    [
        (CropFlip(2, True), {"channels_last": True}),
        (CropFlip(2, False), {"channels_last": False}),
        (CropFlip(2, True, reflect=True), {"channels_last": True}),
        (CropFlip(0, True, rotate=True), {"channels_last": True, "stream": True}),
    ],
    ids=["crop and flip, channels last", "crop", "reflected", "flip and turn, streamed"],
)
def test_mixed_batches_are_made_by_one_kernel(name: str, augmentation: CropFlip, options: dict[str, bool]) -> None:
    """For all draws of two epochs; the rest of an epoch is made and mixed as ever."""
    eager, compiled = loader(augmentation, **options), loader(augmentation, compile=True, **options)
    generator = torch.Generator().manual_seed(2)
    metrics.reset()
    seen = 0
    for _ in range(2):
        pairs = zip(eager.epoch(*generators()), compiled.pending(*generators()), strict=True)
        for (images, labels), (batch, same_labels) in pairs:
            assert torch.equal(labels, same_labels)
            assert batch.shape == images.shape
            if not isinstance(batch, Pending):
                assert len(labels) == SIZE % BATCH
                torch.testing.assert_close(batch, images, rtol=0, atol=1e-6)
                continue
            plan = STRATEGIES[name].sample(batch.shape, generator)
            mask = plan.pixelwise
            assert mask is not None
            mixed = batch.mixed(plan.partner, mask)
            assert mixed.stride() == images.stride()
            torch.testing.assert_close(mixed, plan.mix(images), rtol=0, atol=1e-6)
            seen += 1
    assert seen == 2 * (SIZE // BATCH)
    assert counters["stats"]["unique_graphs"] == 1
    assert metrics.generated_kernel_count == 1
    assert not counters["graph_break"]


@pytest.mark.slow
def test_a_batch_can_be_made_plain_and_then_mixed() -> None:
    eager, compiled = (loader(CropFlip(2, True), compile=on) for on in (False, True))
    (images, _), (batch, _) = next(eager.epoch(*generators())), next(compiled.pending(*generators()))
    plan = STRATEGIES["boxes"].sample(images.shape, torch.Generator().manual_seed(2))
    assert plan.pixelwise is not None
    assert isinstance(batch, Pending)
    for _ in range(2):
        torch.testing.assert_close(plain(batch), images, rtol=0, atol=1e-6)
        torch.testing.assert_close(batch.mixed(plan.partner, plan.pixelwise), plan.mix(images), rtol=0, atol=1e-6)
    assert counters["stats"]["unique_graphs"] == 2


def test_what_is_not_compiled_is_made_at_once() -> None:
    for options in ({}, {"stream": True}):
        for batch, _ in loader(CropFlip(2, True), **options).pending(*generators()):
            assert isinstance(batch, torch.Tensor)
