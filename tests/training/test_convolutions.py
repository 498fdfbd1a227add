"""Strided convolutions whose CPU kernels are wrong in torch 2.15."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from vicinal.training.convolutions import avoid_faults

TRAIN = Path(__file__).parents[2] / "train.py"


def test_a_narrow_network_trains_on_large_images(tmp_path: Path) -> None:
    """In a process of its own, which the kernel would take down; both layouts come to the same scores."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 18), ("test", 2)):
        for label, name in enumerate(("dark", "light")):
            (tmp_path / "tree" / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(128 * label, 128 * (label + 1), (128, 128, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "tree" / part / name / f"{i}.png")
    words = (
        f"dataset=imagefolder dataset.root={tmp_path}/tree dataset.image_size=128 dataset.val_size=4 "
        "model=preact_resnet18 model.width=4 trainer.epochs=2 trainer.batch_size=32 trainer.precision=fp32 "
        "trainer.threads=1 trainer.device=cpu wandb.mode=disabled trainer.channels_last=true,false -m"
    )
    done = subprocess.run(
        [sys.executable, str(TRAIN), *words.split()], cwd=tmp_path, capture_output=True, text=True, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results = [json.loads(file.read_text()) for file in (tmp_path / "outputs/runs").glob("*/result.json")]
    last, first = (result["test"]["last"]["nll"] for result in results)
    assert last == pytest.approx(first, rel=1e-3)


def steps(layer: nn.Module, images: Tensor, precision: str) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, gradient of all weights, gradient of the images, where free memory is full of large numbers."""
    for power in range(6, 21):
        torch.full((2**power,), 1e30)
    images = images.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        outputs = layer(images)
    pull = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(1)).to(outputs.dtype)
    outputs.backward(pull)
    weights = [part.grad.flatten() for part in layer.parameters() if part.grad is not None]
    assert images.grad is not None
    return outputs.detach(), torch.cat(weights), images.grad


def compare(layer: nn.Module, images: Tensor, precision: str, tolerance: float) -> nn.Module:
    """Our way against float64; returns the layer that goes it."""
    ours = copy.deepcopy(layer)
    avoid_faults(ours, precision)
    for layout in (torch.channels_last, torch.contiguous_format):
        exact = steps(copy.deepcopy(layer).double(), images.double(), "fp64")
        found = steps(
            copy.deepcopy(ours).to(memory_format=layout),  # type: ignore[call-overload]
            images.contiguous(memory_format=layout),
            precision,
        )
        for ours_is, right in zip(found, exact, strict=True):
            assert (ours_is.double() - right).norm() <= tolerance * right.norm()
    return ours


@pytest.mark.parametrize("stride", [2, (1, 2), (2, 1), 3])
@pytest.mark.parametrize("size", [7, 32])
def test_a_narrow_pointwise_layer_drops_pixels_first(stride: int | tuple[int, int], size: int) -> None:
    torch.manual_seed(0)
    layer, images = nn.Conv2d(4, 8, 1, stride), torch.randn(6, 4, size, size)
    for precision, tolerance in (("fp32", 1e-5), ("bf16", 1e-2)):
        ours = compare(layer, images, precision, tolerance)
        assert ours.stride == (1, 1)
        assert ours.state_dict().keys() == layer.state_dict().keys()


def test_a_block_of_torchvision() -> None:
    torch.manual_seed(0)
    shortcut = nn.Sequential(nn.Conv2d(8, 16, 1, 2, bias=False), nn.BatchNorm2d(16))
    compare(BasicBlock(8, 16, stride=2, downsample=shortcut), torch.randn(4, 8, 64, 64), "fp32", 1e-4)


@pytest.mark.parametrize(
    ("channels", "size", "kernel", "stride", "padding"),
    [
        (4, (1, 1), 3, 2, 1),  # torchvision's resnet18 on images of 8 pixels
        (48, (1, 1), 7, 2, 3),
        (48, (2, 2), 3, 3, 1),
        (48, (3, 3), 7, 4, 2),
        (48, (8, 1), 2, 2, 1),
        (48, (10, 2), 2, 2, 0),
        (16, (4, 4), 4, 4, 0),  # patches
    ],
)
def test_one_column_is_right_in_bf16(
    channels: int, size: tuple[int, int], kernel: int, stride: int, padding: int
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, 2 * channels, kernel, stride, padding)
    compare(layer, torch.randn(6, channels, *size), "bf16", 1e-2)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(16, 32, 1, 2),
        nn.Conv2d(8, 8, 1, 1),
        nn.Conv2d(8, 8, 3, 2, 1),
        nn.Conv2d(8, 8, 1, 2, groups=8),
        nn.Conv2d(8, 8, 1, 2, padding=1),
        nn.Conv2d(8, 8, 3, 2, padding=1, padding_mode="circular"),
        nn.Conv2d(8, 8, 3, padding="same"),
    ],
    ids=str,
)
def test_other_layers_keep_their_bits(layer: nn.Conv2d) -> None:
    torch.manual_seed(0)
    images = torch.randn(4, layer.in_channels, 9, 9)
    for precision in ("fp32", "bf16"):
        ours = copy.deepcopy(layer)
        avoid_faults(ours, precision)
        before, after = steps(copy.deepcopy(layer), images, precision), steps(ours, images, precision)
        assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
        assert (ours.stride, ours.padding) == (layer.stride, layer.padding)


def test_small_and_large_images_can_take_turns() -> None:
    layer = nn.Conv2d(4, 8, 3, 2, 1)
    ours = copy.deepcopy(layer)
    avoid_faults(ours, "bf16")
    for size in (9, 1, 9, 2):
        images = torch.randn(2, 4, size, size)
        torch.testing.assert_close(ours(images), layer(images), rtol=1e-5, atol=1e-6)


def test_images_too_small_for_a_kernel_are_still_refused() -> None:
    layer = nn.Conv2d(4, 8, 5, 2, 1)
    avoid_faults(layer, "bf16")
    with pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
        layer(torch.randn(2, 4, 2, 2))
