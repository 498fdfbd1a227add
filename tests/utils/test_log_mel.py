"""Log-mel spectrograms against a transform that is written out, and against librosa."""

import librosa
import numpy as np
import pytest
import torch

from vicinal.utils.log_mel import LogMel, mel_filters


def clips(rate: int, length: int) -> torch.Tensor:
    noise = torch.rand(3, 1, length, generator=torch.Generator().manual_seed(0)) - 0.5
    time = torch.arange(length) / rate
    noise[1] = 0.3 * torch.sin(2 * np.pi * 440 * time)
    noise[2, :, length // 3 :] = 0  # silence after the end
    return noise


@pytest.mark.parametrize(("rate", "length", "mels"), [(8000, 1000, 40), (16000, 1234, 64), (4000, 321, 20)])
def test_a_spectrogram_is_the_sum_written_out(rate: int, length: int, mels: int) -> None:
    size, hop = round(0.032 * rate), round(0.01 * rate)
    n, k = np.arange(size), np.arange(size // 2 + 1)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / size)
    wave = np.exp(-2j * np.pi * np.outer(k, n) / size)
    x = clips(rate, length)
    corners = 700 * (10 ** (np.linspace(*(2595 * np.log10(1 + np.array([20, rate / 2]) / 700)), mels + 2) / 2595) - 1)
    found = LogMel(rate, mels)(x)
    assert found.shape == (3, 1, mels, 1 + length // hop)
    power = np.empty(found[:, 0].shape)
    for index, clip in enumerate(x[:, 0].double().numpy()):
        around = np.concatenate([np.zeros(size // 2), clip, np.zeros(size // 2)])
        for frame in range(1 + length // hop):
            energy = np.abs(wave @ (hann * around[frame * hop : frame * hop + size])) ** 2
            for row in range(mels):
                # A triangle of height 1 by interpolation.
                weights = np.interp(k * rate / size, corners[row : row + 3], [0, 1, 0], left=0, right=0)
                power[index, row, frame] = weights @ energy
    check(found, power)


def check(found: torch.Tensor, power: np.ndarray) -> None:
    """Compare to five digits; where next to nothing is beside a loud tone, with what float32 has of it."""
    ours, expected = found[:, 0].double().numpy(), np.log(power + 1e-6)
    assert np.abs(ours - expected)[0].max() < 1e-5  # noise
    loudest = power.max(axis=1, keepdims=True)
    assert (np.abs(np.exp(ours) - power - 1e-6) <= 1e-5 * (power + 1e-6) + 1e-7 * loudest).all()


@pytest.mark.parametrize("rate", [8000, 16000, 22050])
def test_a_spectrogram_is_librosas(rate: int) -> None:
    size, hop = round(0.032 * rate), round(0.01 * rate)
    x = clips(rate, 3000)
    settings = {"n_fft": size, "hop_length": hop, "center": True, "pad_mode": "constant", "power": 2.0}
    mel = librosa.feature.melspectrogram(
        y=x[:, 0].double().numpy(), sr=rate, **settings, n_mels=40, fmin=20, htk=True, norm=None
    )
    check(LogMel(rate)(x), mel)
    filters = librosa.filters.mel(sr=rate, n_fft=size, n_mels=40, fmin=20, htk=True, norm=None, dtype=np.float64)
    assert np.allclose(mel_filters(rate, size, 40), filters, atol=1e-9)


def test_a_filter_between_two_frequencies_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^mels must be smaller at 8000 samples per second"):
        LogMel(8000, 128)
    with pytest.raises(ValueError, match=r"^rate must be above 40"):
        LogMel(40, 1)


def test_bf16_of_the_network_does_not_reach_the_spectrogram() -> None:
    x, spectrogram = clips(8000, 800), LogMel(8000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = spectrogram(x)
    assert torch.equal(found, spectrogram(x))


def test_gradients_reach_the_clip() -> None:
    x = clips(2000, 100)[:1].double().requires_grad_()
    spectrogram = LogMel(2000, 4)
    spectrogram(x).square().sum().backward()
    step, direction = 1e-3, torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).double()
    ends = [float(spectrogram(x.detach() + sign * step * direction).double().square().sum()) for sign in (1, -1)]
    assert x.grad is not None
    assert float((x.grad * direction).sum()) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-2)
