"""Batches against torchvision's transforms in a DataLoader; order, draws and resuming."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.utils import counters
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

from vicinal import build
from vicinal.data import CropFlip, Loader, Samples
from vicinal.data.policies import POLICIES, Policy
from vicinal.data.sampling import SAMPLERS, shuffle
from vicinal.data.store import fits

CPU = torch.device("cpu")
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def numbered(size: int, channels: int = 3, side: int = 8) -> Samples:
    """Random images whose labels are their indices, so that a batch tells who is in it."""
    generator = torch.Generator().manual_seed(size)
    images = torch.randint(0, 256, (size, channels, side, side), dtype=torch.uint8, generator=generator)
    return Samples(images, torch.arange(size))


def kept(batches: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """All batches, each copied before the next one overwrites it."""
    return [(images.clone(), labels) for images, labels in batches]


def loader(size: int, batch_size: int, augmentation: CropFlip | None = None, **options: object) -> Loader:
    return Loader(numbered(size), batch_size, MEAN, STD, device=CPU, augmentation=augmentation, **options)


def generators(seed: int = 0) -> tuple[torch.Generator, torch.Generator]:
    return torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_batches_equal_torchvisions(device, channels_last):
    data = numbered(50)
    ours = Loader(data, 16, MEAN, STD, device=torch.device(device), channels_last=channels_last)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    samples = [
        (transform(to_pil_image(image)), int(label)) for image, label in zip(data.inputs, data.targets, strict=True)
    ]
    order, augmentation = generators()
    permutation = torch.randperm(50, generator=torch.Generator().manual_seed(0)).tolist()
    for sampler, batches in ((range(50), ours.batches()), (permutation, ours.epoch(order, augmentation))):
        theirs = DataLoader(samples, batch_size=16, sampler=sampler)
        for (images, labels), (expected, expected_labels) in zip(batches, theirs, strict=True):
            assert images.dtype == torch.float32
            assert images.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
            torch.testing.assert_close(images.cpu(), expected, rtol=0, atol=1e-6)
            assert torch.equal(labels.cpu(), expected_labels)


@settings(deadline=None)
@given(size=st.integers(1, 70), batch_size=st.integers(1, 20), seed=st.integers(0, 1000))
def test_an_epoch_has_every_image_once(size, batch_size, seed):
    ours = loader(size, batch_size)
    batches = [labels for _, labels in ours.epoch(*generators(seed))]
    lonely = size > 1 and batch_size > 1 and size % batch_size == 1
    assert len(ours) == len(batches)
    assert all(len(labels) == batch_size for labels in batches[:-1])
    seen = torch.cat(batches)
    assert len(seen) == len(seen.unique()) == size - lonely
    assert batch_size == 1 or size == 1 or min(map(len, batches)) > 1
    assert torch.cat([labels for _, labels in ours.batches()]).tolist() == list(range(size))


@settings(deadline=None, max_examples=30)
@given(
    size=st.integers(1, 40),
    batch_size=st.integers(1, 9),
    flip=st.booleans(),
    sampler=st.sampled_from([*SAMPLERS.values()]),
    data=st.data(),
)
def test_an_epoch_resumed_inside_goes_on_bit_for_bit(size, batch_size, flip, sampler, data):
    ours = loader(size, batch_size, CropFlip(2, flip), sampler=sampler)
    done = data.draw(st.integers(0, len(ours)))
    whole, resumed = generators(), generators()
    expected = kept(ours.epoch(*whole))[done:]
    got = kept(ours.epoch(*resumed, skip=done))
    assert len(got) == len(expected)
    assert all(torch.equal(a, b) for x, y in zip(got, expected, strict=True) for a, b in zip(x, y, strict=True))
    assert all(torch.equal(a.get_state(), b.get_state()) for a, b in zip(whole, resumed, strict=True))


@settings(deadline=None, max_examples=20)
@given(
    size=st.integers(2, 40),
    batch_size=st.integers(2, 9),
    sampler=st.sampled_from([*SAMPLERS.values()]),
    stream=st.booleans(),
    shards=st.sampled_from([1, 2]),
)
def test_by_turns_an_image_has_another_side_than_in_the_epoch_before(size, batch_size, sampler, stream, shards):
    """Whoever makes the batches, and wherever the epoch begins; the windows are those without a flip."""
    size, batch_size = size * shards, batch_size * shards
    mirrored = torch.arange(size) % 3 == 0
    options = {"sampler": sampler, "stream": stream, "shards": shards, "own": range(shards)}
    ours = loader(size, batch_size, CropFlip(2, True), mirrored=mirrored, **options)
    plain = loader(size, batch_size, CropFlip(2, False), **options)
    for number in (1, 2, 3):
        made = kept(ours.epoch(*generators(number), number=number))
        cropped = kept(plain.epoch(*generators(number), number=number))
        for (images, labels), (before, same_labels) in zip(made, cropped, strict=True):
            assert torch.equal(labels, same_labels)
            sides = mirrored[labels] if number in (1, 3) else ~mirrored[labels]
            assert torch.equal(images, torch.where(sides.view(-1, 1, 1, 1), before.flip(-1), before))
        rest = kept(ours.epoch(*generators(number), skip=1, number=number))
        assert len(rest) == len(made) - shards
        assert all(torch.equal(a, b) for (a, _), (b, _) in zip(rest, made[shards:], strict=True))


def test_a_run_mirrors_half_of_its_images_by_its_seed_and_the_others_in_the_next_epoch(compose):
    words = ("dataset.augment=true", "dataset.flip=alternating", "dataset.crop_padding=0")
    halves = []
    for seed in (0, 0, 1):
        experiment = compose(*words, f"seed={seed}")
        data = build.load_data(experiment)
        data = replace(data, train=data.train._replace(targets=torch.arange(len(data.train.targets))))  # places
        made = build.make_loaders(experiment, data).train
        plain = build.make_loaders(compose(*words, "dataset.flip=false"), data).train
        turned = []
        for number in (1, 2):
            epochs = kept(made.epoch(*generators(), number=number)), kept(plain.epoch(*generators()))
            images, before = (torch.cat([images for images, _ in epoch]) for epoch in epochs)
            places = torch.cat([labels for _, labels in epochs[0]])
            turned.append((images != before).flatten(1).any(1)[places.argsort()])
        symmetric = (before == before.flip(-1)).flatten(1).all(1)[places.argsort()]
        assert torch.equal(turned[0] ^ turned[1], ~symmetric)
        halves.append(turned[0])
    assert torch.equal(halves[0], halves[1])
    # binomial(1438, 1/2) has a standard deviation of 19
    assert abs(halves[0].sum() - len(halves[0]) / 2) < 5 * 19
    assert abs((halves[0] ^ halves[2]).sum() - len(halves[0]) / 2) < 5 * 19


@pytest.mark.parametrize("policy", [None, "trivialaugment"])
@pytest.mark.parametrize("stream", [False, True])
@settings(max_examples=10, deadline=None)
@given(shards=st.integers(2, 5), data=st.data())
def test_parts_of_batches_are_cut_from_the_same_batches(policy, stream, shards, data):
    """Whoever makes them: the samples, and their crops and flips, are drawn for the whole batch."""
    size, batch_size = data.draw(st.integers(2 * shards, 40)), data.draw(st.integers(2 * shards, 20))
    rest = size % batch_size
    kept_rest = 0 if rest < 2 * shards and rest < size else rest
    augmentation = CropFlip(2, flip=True)
    whole = Loader(
        numbered(size - rest + kept_rest), batch_size, MEAN, STD, device=CPU, augmentation=augmentation, stream=stream
    )
    options = {"augmentation": augmentation, "stream": stream, "shards": shards}
    options["policy"] = None if policy is None else Policy(policy)
    parts = []
    for own in (range(1), range(1, shards)):
        made = Loader(numbered(size - rest + kept_rest), batch_size, MEAN, STD, device=CPU, own=own, **options)
        assert len(made) == len(whole)
        parts.append(kept(made.epoch(*generators())))
    for step, (images, labels) in enumerate(kept(whole.epoch(*generators()))):
        assert made.size(step) == len(labels)
        mine = [parts[0][step], *parts[1][step * (shards - 1) : (step + 1) * (shards - 1)]]
        assert [len(part) for _, part in mine] == [len(part) for part in labels.tensor_split(shards)]
        assert torch.equal(torch.cat([part for _, part in mine]), labels)
        if policy is None:
            assert torch.equal(torch.cat([part for part, _ in mine]), images)


def test_a_last_batch_that_is_too_small_for_its_parts_is_left_out():
    for size, steps in ((20, 2), (21, 2), (25, 2), (26, 3), (29, 3)):
        made = loader(size, 10, shards=3, own=range(3))
        assert len(made) == steps
        assert sum(len(labels) for _, labels in made.epoch(*generators())) == (size if steps == 3 else 20)


def test_augmentation_changes_the_pixels_but_not_the_order():
    plain, augmented = (
        kept(loader(30, 8, augmentation).epoch(*generators())) for augmentation in (None, CropFlip(2, True))
    )
    assert [labels.tolist() for _, labels in plain] == [labels.tolist() for _, labels in augmented]
    assert not any(torch.equal(a, b) for (a, _), (b, _) in zip(plain, augmented, strict=True))


def test_an_epoch_takes_one_permutation_and_nothing_else():
    order, augmentation = generators()
    untouched = augmentation.get_state()
    list(loader(30, 8).epoch(order, augmentation))
    reference = torch.Generator().manual_seed(0)
    torch.randperm(30, generator=reference)
    assert torch.equal(order.get_state(), reference.get_state())
    assert torch.equal(augmentation.get_state(), untouched)


def test_global_randomness_is_left_alone():
    before = torch.get_rng_state()
    list(loader(30, 8, CropFlip(2, True)).epoch(*generators()))
    assert torch.equal(torch.get_rng_state(), before)


def test_augmented_batches_are_the_augmented_bytes_normalised():
    """Padding is black before it is normalised: (0 - mean) / std, not 0."""
    data = Samples(torch.full((64, 3, 4, 4), 255, dtype=torch.uint8), torch.arange(64))
    ours = Loader(data, 64, MEAN, STD, device=CPU, augmentation=CropFlip(4, False))
    ((images, _),) = ours.epoch(*generators())
    for channel, mean, std in zip(images.unbind(1), MEAN, STD, strict=True):
        values = channel.unique()
        torch.testing.assert_close(values, torch.tensor([-mean / std, (1 - mean) / std]), rtol=0, atol=1e-6)


def test_the_data_stays_as_it_was():
    data = numbered(20)
    before = data.inputs.clone()
    ours = Loader(data, 8, MEAN, STD, device=CPU, augmentation=CropFlip(1, True))
    for images, _ in (*ours.epoch(*generators()), *ours.batches()):
        images.zero_()
    assert torch.equal(data.inputs, before)


@settings(deadline=None, max_examples=40)
@given(
    size=st.integers(1, 60),
    batch_size=st.integers(1, 20),
    channels=st.sampled_from([1, 3]),
    channels_last=st.booleans(),
    stored_last=st.booleans(),
    chosen=st.booleans(),
    augmented=st.booleans(),
    sampler=st.sampled_from([*SAMPLERS.values()]),
)
def test_a_streamed_data_set_gives_the_bits_of_one_on_the_device(
    size, batch_size, channels, channels_last, stored_last, chosen, augmented, sampler
):
    data = numbered(size, channels)
    if stored_last:
        data = data._replace(inputs=data.inputs.contiguous(memory_format=torch.channels_last))
    if chosen:
        data = data.choose(torch.randperm(size)[: (size + 1) // 2].sort().values)
    mean, std = MEAN[:channels], STD[:channels]
    resident, streamed = (
        Loader(
            data,
            batch_size,
            mean,
            std,
            device=CPU,
            sampler=sampler,
            augmentation=CropFlip(2, True) if augmented else None,
            channels_last=channels_last,
            stream=stream,
        )
        for stream in (False, True)
    )
    for theirs, ours in ((resident.batches(), streamed.batches()), (resident.epoch(*generators()), None)):
        for (images, labels), (same, same_labels) in zip(theirs, ours or streamed.epoch(*generators()), strict=True):
            assert torch.equal(images, same)
            assert images.stride() == same.stride()
            assert torch.equal(labels, same_labels)
            plain = data.inputs[labels] if ours else None  # labels are places
            if plain is not None:
                pixels = (images * torch.tensor(std).view(1, -1, 1, 1) + torch.tensor(mean).view(1, -1, 1, 1)) * 255
                assert torch.equal(pixels.round().to(torch.uint8), plain)


def test_a_data_set_of_the_right_layout_is_used_where_it_lies():
    for last, layout in ((False, torch.contiguous_format), (True, torch.channels_last)):
        data = numbered(20)
        images = data.inputs.contiguous(memory_format=layout)
        ours = Loader(Samples(images, data.targets), 8, MEAN, STD, device=CPU, channels_last=last)
        assert ours.store.inputs.data_ptr() == images.data_ptr()


@pytest.mark.parametrize("stream", [False, True])
def test_a_part_of_another_layout_is_copied_alone(stream):
    """Not all that the tensor holds, once for each part of it."""
    data = numbered(60)
    part = Samples(data.inputs.contiguous(memory_format=torch.channels_last), data.targets).choose(torch.arange(40, 50))
    ours = Loader(part, 8, MEAN, STD, device=CPU, stream=stream)
    assert ours.store.inputs.untyped_storage().nbytes() == part.gathered().nbytes
    assert torch.equal(ours.store.inputs, part.gathered())


def test_half_of_a_gpus_free_memory_is_for_the_data(monkeypatch):
    data = numbered(60)
    size = data.inputs.nbytes
    for free, enough in ((2 * size, True), (2 * size - 2, False)):
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda device, free=free: (free, 10 * size))
        assert fits(data, torch.device("cuda")) is enough
        half = data.choose(torch.arange(30))  # of the same tensor, but only its own images would be moved
        assert fits(half, torch.device("cuda"))
    assert fits(data, CPU)


@pytest.mark.parametrize("policy", [Policy(name) for name in POLICIES], ids=POLICIES)
def test_a_policy_comes_after_the_crop_and_from_the_same_stream(policy):
    """Also where the epoch is resumed inside, streamed, or could be compiled."""
    order, augmentation = generators()
    chunks = torch.randperm(20, generator=order).split(8)
    crop, data, expected = CropFlip(2, True), numbered(20), []
    for chosen in chunks:
        cropped = crop.apply(data.inputs[chosen], crop.sample(len(chosen), augmentation))
        changed = policy.apply(cropped, policy.sample(augmentation))
        assert not torch.equal(changed, cropped)
        expected.append(changed)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (MEAN, STD))
    for options in ({}, {"stream": True, "channels_last": True}, {"compile": True}):
        for done in range(4):
            got = kept(loader(20, 8, crop, policy=policy, **options).epoch(*generators(), skip=done))
            assert [labels.tolist() for _, labels in got] == [chosen.tolist() for chosen in chunks[done:]]
            for (images, _), changed in zip(got, expected[done:], strict=True):
                assert torch.equal(((images * std + mean) * 255).round().to(torch.uint8), changed)


def test_an_abandoned_stream_leaves_no_thread():
    before = threading.active_count()
    batches = loader(60, 2, stream=True).epoch(*generators())
    next(batches)
    assert threading.active_count() == before + 1
    batches.close()
    assert threading.active_count() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("augmentation", "sampler"),
    [
        (None, shuffle),
        (CropFlip(2, True), shuffle),
        (CropFlip(3, False), SAMPLERS["class_balanced"]),
        (CropFlip(2, True, reflect=True), shuffle),
    ],
)
def test_compiled_batches_are_the_same(augmentation, sampler):
    """One graph for the whole batches of an epoch, for all draws, and none for anything else."""
    torch._dynamo.reset()
    counters.clear()
    options = {"sampler": sampler, "channels_last": True}
    plain, compiled = (loader(30, 8, augmentation, compile=on, **options) for on in (False, True))
    for _ in range(2):
        for (images, labels), (same, same_labels) in zip(
            plain.epoch(*generators()), compiled.epoch(*generators()), strict=True
        ):
            assert torch.equal(labels, same_labels)
            assert images.stride() == same.stride()
            torch.testing.assert_close(same, images, rtol=0, atol=1e-6)
        for (images, labels), (same, same_labels) in zip(plain.batches(), compiled.batches(), strict=True):
            assert torch.equal(labels, same_labels)
            assert torch.equal(images, same)
    assert counters["stats"]["unique_graphs"] == (augmentation is not None)
    assert not counters["graph_break"]


@pytest.mark.slow
def test_evaluations_leave_the_graphs_to_training():
    """All loaders of a run share what dynamo allows a function: here what it has for a run that mixes nothing."""
    torch._dynamo.reset()
    counters.clear()
    training = loader(30, 8, CropFlip(2, True), compile=True)
    with torch._dynamo.config.patch(recompile_limit=2, fail_on_recompile_limit_hit=True):
        for size in (20, 17, 11):
            with torch.inference_mode():
                batches = list(loader(size, 5, compile=True).batches())
            assert sum(len(labels) for _, labels in batches) == size
        for _ in training.epoch(*generators()):
            pass
        with torch.inference_mode():
            list(training.batches())
    assert counters["stats"]["unique_graphs"] == 1
