"""Bands of spectrograms by a closed form, and loudness by the table of the standard and by sines."""

from __future__ import annotations

import math
from itertools import groupby

import pytest
import torch
from scipy import stats
from torch import Tensor

from vicinal.mixing.context import Context
from vicinal.mixing.fields import HardMask
from vicinal.mixing.sound import BetweenClass, SpecMix, a_weighting, levels

RATE = 16000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sine(frequency: float, amplitude: float, seconds: float = 0.5) -> Tensor:
    time = torch.arange(int(RATE * seconds), dtype=torch.float64) / RATE
    return (amplitude * torch.sin(2 * math.pi * frequency * time)).float()[None]


def test_a_mask_is_whole_bands_and_its_share_is_the_label() -> None:
    strategy, generator = SpecMix(bands=2, share=0.2, per_sample=True), seeded()
    plan = strategy.sample((400, 1, 20, 30), generator)
    assert isinstance(plan.mask, HardMask)
    for own, lam in zip(plan.mask.own[:, 0], plan.lam.tolist(), strict=True):
        rows, columns = own.any(dim=1), own.any(dim=0)
        assert torch.equal(own, rows[:, None] & columns)
        assert lam == pytest.approx(float(own.double().mean()), abs=1e-6)
        for side, width in ((rows, 4), (columns, 6)):
            runs = [len(list(group)) for is_own, group in groupby(side.tolist()) if not is_own]
            assert len(runs) <= 2
            assert all(width <= run <= 2 * width for run in runs)


def test_the_mean_share_is_that_of_the_law() -> None:
    """A place is free of n bands with probability (1 - p)^n, for p the share of starts that cover it."""

    def free(side: int, width: int, bands: int) -> float:
        starts = side - width + 1
        covered = [sum(start <= place < start + width for start in range(starts)) / starts for place in range(side)]
        return sum((1 - p) ** n for p in covered for n in range(bands + 1)) / (bands + 1) / side

    plan = SpecMix(per_sample=True).sample((4000, 1, 40, 101), seeded())
    expected = free(40, 6, 3) * free(101, 15, 3)
    error = float(plan.lam.std()) / math.sqrt(4000)
    assert abs(float(plan.lam.mean()) - expected) < 4 * error
    assert 0.4 < expected < 0.7


def test_a_weighting_is_the_table_of_iec_61672() -> None:
    table = [-39.4, -26.2, -16.1, -8.6, -3.2, 0, 1.2, 1.0, -1.1]  # in dB, from 31.5 Hz to 8 kHz
    exact = 1000 * 10 ** (0.3 * torch.arange(-5, 4, dtype=torch.float64))  # of these nominal frequencies
    assert (10 * a_weighting(exact).log10()).tolist() == pytest.approx(table, abs=0.06)


@pytest.mark.parametrize(("frequency", "weight"), [(1000, 0.0), (125, -16.1), (4000, 1.0)])
def test_the_level_of_a_sine_is_its_amplitude(frequency: float, weight: float) -> None:
    found = levels(torch.stack([sine(frequency, 1.0), sine(frequency, 0.1)]), RATE)
    assert found.tolist() == pytest.approx([weight, weight - 20], abs=0.2)
    assert levels(torch.zeros(1, 1, 800), RATE).tolist() == [-80]


def test_the_loudest_part_counts_and_padding_does_not() -> None:
    short, long = torch.zeros(1, 1, RATE), torch.zeros(1, 1, RATE)
    short[0, :, :4000], long[0] = sine(1000, 0.3)[:, :4000], sine(1000, 0.3, 1.0)
    assert float(levels(short, RATE)) == pytest.approx(float(levels(long, RATE)), abs=0.05)


def test_clips_are_mixed_as_the_formula_says() -> None:
    clips = torch.rand(8, 1, 4000, generator=seeded(1)) - 0.5
    clips *= torch.tensor([1, 0.5, 0.1, 0.01, 1, 0.3, 0.02, 0.7]).view(-1, 1, 1)
    labels = torch.arange(8) % 4
    plan = BetweenClass(rate=8000).sample(clips.shape, seeded(2), Context(images=clips, labels=labels))
    level, mixed = levels(clips, 8000).tolist(), plan.mix(clips)
    for i, (j, r) in enumerate(zip(plan.partner.tolist(), plan.lam.tolist(), strict=True)):
        p = 1 / (1 + 10 ** ((level[i] - level[j]) / 20) * (1 - r) / r)
        expected = (p * clips[i] + (1 - p) * clips[j]) / math.sqrt(p**2 + (1 - p) ** 2)
        assert torch.allclose(mixed[i], expected, atol=1e-6)
        as_loud = level[i] + 20 * math.log10(p) - level[j] - 20 * math.log10(1 - p)
        assert as_loud == pytest.approx(20 * math.log10(r / (1 - r)), abs=1e-4)  # what the target says
        assert labels[i] != labels[j]


def test_the_label_weight_is_uniform_and_not_that_of_the_signal() -> None:
    clips = torch.rand(500, 1, 400, generator=seeded(1)) * torch.rand(500, 1, 1, generator=seeded(2))
    context = Context(images=clips, labels=torch.arange(500) % 5)
    plan = BetweenClass(rate=4000).sample(clips.shape, seeded(3), context)
    assert stats.kstest(plan.lam.numpy(), "uniform").pvalue > 0.01
    assert float((plan.lam - plan.own_share(clips.shape)).abs().max()) > 0.2


def test_two_sounds_of_one_energy_keep_it() -> None:
    clips = torch.stack([sine(500, 0.4), sine(1500, 0.4)])  # orthogonal
    context = Context(images=clips, labels=torch.tensor([0, 1]))
    for seed in range(5):
        mixed = BetweenClass(rate=RATE).sample(clips.shape, seeded(seed), context).mix(clips)
        assert mixed.square().mean(dim=(1, 2)).tolist() == pytest.approx([0.08, 0.08], rel=1e-3)


def test_silence_is_mixed_and_what_is_not_mixed_stays() -> None:
    clips = torch.stack([torch.zeros(1, 400), sine(500, 0.3)[:, :400]])
    context = Context(images=clips, labels=torch.tensor([0, 1]))
    mixed = BetweenClass(rate=RATE).sample(clips.shape, seeded(), context).mix(clips)
    assert mixed.isfinite().all()
    plan = BetweenClass(rate=RATE, prob=0.5).sample((2, 1, 400), seeded(1), context)
    still = plan.lam == 1
    assert torch.equal(plan.mix(clips)[still], clips[still])


@pytest.mark.parametrize("partner", ["other_class", "permutation"])
def test_a_clip_that_is_its_own_partner_is_as_loud_as_before(partner: str) -> None:
    """Alone in its batch, or in its class; two clips at half the amplitude are one, and not 1.41 times as loud."""
    clips = torch.cat([sine(500, 0.4)[None]] * 3)
    context = Context(images=clips, labels=torch.zeros(3, dtype=torch.int64))
    for seed in range(5):
        plan = BetweenClass(rate=RATE, partner=partner).sample(clips.shape, seeded(seed), context)
        itself = plan.partner == torch.arange(3)
        assert torch.equal(plan.mix(clips)[itself], clips[itself])
        assert plan.own_share(clips.shape)[itself].tolist() == [1.0] * int(itself.sum())
        assert partner == "permutation" or itself.all()


def test_images_have_no_level() -> None:
    images = torch.zeros(2, 3, 8, 8)
    with pytest.raises(ValueError, match="clips of sound"):
        BetweenClass(rate=RATE).sample(images.shape, seeded(), Context(images=images, labels=torch.tensor([0, 1])))
