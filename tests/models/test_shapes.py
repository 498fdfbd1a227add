"""Refusing a network and images that don't fit: exact lines, no computation, no trace left behind."""

from __future__ import annotations

import re
import time
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from vicinal.models import check
from vicinal.models.preact_resnet import PreActResNet
from vicinal.models.torchvision_zoo import torchvision_model
from vicinal.models.wide_resnet import WideResNet
from vicinal.utils.image_size import ImageSize, sides

NAMES = {"vgg11": "VGG", "alexnet": "AlexNet"}


def meta_images(channels: int, size: ImageSize) -> torch.Tensor:
    return torch.empty(2, channels, *sides(size), device="meta")


def refusal_of(name: str, image_size: ImageSize) -> str | None:
    try:
        with torch.device("meta"):
            model = torchvision_model(1, image_size, 10, name=name)
        check(model, meta_images(1, image_size), (10,))
    except ValueError as refusal:
        return str(refusal)
    return None


@pytest.mark.parametrize(
    ("name", "image_size", "smallest", "allowed"),
    [
        ("alexnet", 32, 63, "must be at least 63 for AlexNet"),
        ("vgg11", 28, 32, "must be at least 32 for VGG"),
        ("inception_v3", 32, 75, "must be at least 75 for Inception3"),  # the minimum that Keras documents
        ("vit_b_16", 28, 32, "does not fit vit_b_16, the next size that does is 32"),
        ("vit_b_32", 8, 32, "does not fit vit_b_32, the next size that does is 32"),
        ("maxvit_t", 32, 221, "does not fit maxvit_t, the next size that does is 221"),
    ],
)
def test_an_image_too_small_for_torchvision(name, image_size, smallest, allowed):
    assert refusal_of(name, image_size) == f"image_size {allowed}, got {image_size}"
    assert refusal_of(name, smallest - 1) is not None
    assert refusal_of(name, smallest) is None


@pytest.mark.parametrize("image_size", [8, 16, 21, 32])
@pytest.mark.parametrize("name", ["squeezenet1_0", "shufflenet_v2_x0_5", "mobilenet_v3_small", "googlenet", "resnet18"])
def test_the_check_says_what_a_real_forward_does(name, image_size):
    torch.manual_seed(0)
    model = torchvision_model(1, image_size, 10, name=name)
    try:
        works = model(torch.randn(2, 1, image_size, image_size)).shape == (2, 10)
    except RuntimeError:
        works = False
    assert (refusal_of(name, image_size) is None) == works


def test_the_check_leaves_a_real_network_and_the_random_numbers_as_they_are():
    model = nn.Sequential(PreActResNet(3, 8, 10, width=4, final_norm=True), nn.Dropout(0.5)).train()
    model[0].layer2.eval()
    modes = [module.training for module in model.modules()]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    check(model, meta_images(3, 8), (10,))
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_check_does_not_compute():
    with torch.device("meta"):
        model = WideResNet(3, 2048, 10)  # a real forward would be some 90 Tflop
    start = time.perf_counter()
    check(model, meta_images(3, 2048), (10,))
    assert time.perf_counter() - start < 5


class Lambda(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function
        self.layer = nn.Linear(64, 10)

    def forward(self, images):
        return self.function(self.layer, images)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda layer, x: layer(x.flatten(1))[:, :7], "must return logits (2, 10) for 2 images, not (2, 7)"),
        (lambda layer, x: (layer(x.flatten(1)), None), "must return logits (2, 10) for 2 images, not tuple"),
        (lambda layer, x: layer(x.flatten(1))[:1], "must return logits (2, 10) for 2 images, not (1, 10)"),
    ],
)
def test_what_are_no_logits_is_refused(function, message):
    with pytest.raises(ValueError, match=f"^model {re.escape(message)}$"):
        check(Lambda(function), meta_images(1, 8), (10,))


def test_a_size_that_cannot_be_helped_by_a_larger_one_gets_the_reason():
    with pytest.raises(ValueError, match=r"^image_size does not fit Lambda: .*, got 9$") as refusal:
        check(Lambda(lambda layer, x: layer(x.flatten(1))), meta_images(1, 9), (10,))
    assert "64" in str(refusal.value)  # the rest are torch's words
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "function",
    [
        lambda layer, x: layer(x.flatten(1)) if x.sum() > 0 else layer(-x.flatten(1)),
        lambda layer, x: layer(x.flatten(1)) * x.mean().item(),
        lambda layer, x: layer(x.flatten(1)) + len(x.nonzero()),
        lambda layer, x: layer(x.flatten(1) + torch.zeros(64, device="cpu")),
    ],
    ids=["branch", "item", "nonzero", "constant"],
)
def test_a_forward_that_needs_values_is_let_through(function):
    assert check(Lambda(function), meta_images(1, 8), (10,)) is None


@pytest.mark.parametrize(
    ("name", "size", "smallest"),
    [("vgg11", (20, 64), 32), ("vgg11", (64, 20), 32), ("alexnet", (40, 200), 63), ("alexnet", (30, 50), 63)],
)
def test_of_a_rectangle_the_smallest_side_is_named(name, size, smallest):
    """Sides that are as long already stay, and a real forward agrees."""
    assert (
        refusal_of(name, size) == f"image_size must be at least {smallest} for {NAMES[name]}, got [{size[0]},{size[1]}]"
    )
    torch.manual_seed(0)
    model = torchvision_model(1, size, 10, name=name).eval()
    for least, fits in ((smallest - 1, False), (smallest, True)):
        grown = tuple(max(side, least) for side in size)
        assert (refusal_of(name, grown) is None) == fits
        with nullcontext() if fits else pytest.raises(RuntimeError):
            assert model(torch.randn(1, 1, *grown)).shape == (1, 10)


@pytest.mark.parametrize("name", ["vit_b_16", "maxvit_t"])
def test_transformers_of_torchvision_take_squares_alone(name):
    line = f"image_size must be one number for {name}, which takes squares alone, got [224,448]"
    assert refusal_of(name, (224, 448)) == line
    assert refusal_of(name, (224, 224)) is None
    assert refusal_of("swin_t", (32, 64)) is None
