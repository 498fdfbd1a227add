"""The network for clips: its blocks, its size, and the normalisation of the spectrogram."""

import pytest
import torch

from vicinal.models import block_names
from vicinal.models.speech import SpeechCNN
from vicinal.utils.log_mel import LogMel


def test_the_blocks_have_the_shapes_of_the_recipe() -> None:
    network = SpeechCNN(8000, 8000, 10)
    assert block_names(network) == ("logmel", "block1", "block2", "block3")
    x, shapes = torch.zeros(2, 1, 8000), []
    for name in block_names(network):
        x = getattr(network, name)(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(1, 40, 101), (16, 20, 50), (32, 10, 25), (64, 5, 12)]
    assert network(torch.zeros(2, 1, 8000)).shape == (2, 10)
    convolutions = 9 * (1 * 16 + 16 * 32 + 32 * 64)
    norms = 2 * (16 + 32 + 64)
    assert sum(weight.numel() for weight in network.parameters()) == convolutions + norms + 64 * 10 + 10
    assert not any("filters" in name or "window" in name for name in network.state_dict())


def test_the_spectrogram_is_normalised_by_one_mean_and_deviation() -> None:
    network, x = SpeechCNN(8000, 800, 3), torch.rand(16, 1, 800, generator=torch.Generator().manual_seed(0)) - 0.5
    found, spectrogram = network.logmel(x), LogMel(8000)(x)
    mean, std = spectrogram.mean(), spectrogram.std(correction=0)
    assert torch.allclose(found, (spectrogram - mean) / (std.square() + 1e-5).sqrt(), atol=1e-5)
    for _ in range(200):  # the running ones are those of all batches
        network.logmel(x)
    network.eval()
    assert torch.allclose(network.logmel(x), found, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"length": 559}, "length must be at least 560 for SpeechCNN, got 559"),
        ({"mels": 7}, "mels must be at least 8 for SpeechCNN, got 7"),
        ({"widths": []}, "widths must be a list of integers >= 1, at least one, got []"),
        ({"widths": [4, 0]}, "widths must be a list of integers >= 1, at least one, got [4, 0]"),
        ({"mels": 128}, "mels must be smaller at 8000 samples per second: one of them is empty, got 128"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=" ") as error:
        SpeechCNN(**{"rate": 8000, "length": 8000, "classes": 10, **arguments})  # type: ignore[arg-type]
    assert str(error.value) == line


def test_the_shortest_clip_goes_through() -> None:
    assert SpeechCNN(8000, 560, 10)(torch.zeros(2, 1, 560)).shape == (2, 10)
