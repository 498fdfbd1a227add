"""Any classification network of torchvision, untrained, for any number of channels and classes."""

from __future__ import annotations

from difflib import get_close_matches
from itertools import count
from typing import Any

import torch
from torch import nn

from vicinal.errors import written
from vicinal.models.meta import built
from vicinal.utils.image_size import ImageSize, shortest

SQUARES = ("vit_", "maxvit_")  # networks that are built for one size, of squares alone


def torchvision_model(channels: int, image_size: ImageSize, classes: int, *, name: str) -> nn.Module:
    """Make a network of ``torchvision.models`` without pretrained weights and without auxiliary heads.

    The name is one of ``torchvision.models.list_models(module=torchvision.models)``; most of these are drawn for images
    of 224 pixels. With other than 3 channels the first convolution is a new one, with PyTorch's default initialisation;
    all else is initialised as torchvision does. On the meta device (``with torch.device("meta")``) it takes no memory.
    An image that is too small for a purely convolutional network is found by ``vicinal.models.check``.

    Raises:
        ValueError: there is no such network, or it cannot be built for images of this size (ViT and MaxViT, which take
            squares alone).
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        close = get_close_matches(name, known, n=3, cutoff=0.5) or ["resnet18", "vit_b_16"]
        allowed = f"a classification model of torchvision.models, such as {' or '.join(close)}"
        raise ValueError(f"name must be {allowed}, got {name}")
    side = shortest(image_size)
    if name.startswith(SQUARES) and not isinstance(side, int):
        raise ValueError(f"image_size must be one number for {name}, which takes squares alone, got {written(side)}")
    try:
        model = _build(name, side, classes)
    except (AssertionError, ValueError):  # raised by networks that are built for one size; all others take any here
        assert isinstance(side, int)
        size = _next_size(name, side, classes)
        raise ValueError(f"image_size does not fit {name}, the next size that does is {size}, got {side}") from None
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    if first.in_channels != channels:
        first.in_channels = channels
        first.weight = nn.Parameter(first.weight.new_empty(first.out_channels, channels, *first.kernel_size))
        first.reset_parameters()
    return model  # type: ignore[no-any-return]


def _build(name: str, image_size: ImageSize, classes: int) -> Any:
    from torchvision.models import get_model

    options: dict[str, Any] = {"weights": None, "num_classes": classes}
    if name.startswith("vit_"):
        options["image_size"] = image_size
    elif name.startswith("maxvit_"):
        options["input_size"] = (image_size, image_size)
    elif name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}  # torchvision warns without the second
    return built(lambda: get_model(name, **options))


def _next_size(name: str, image_size: int, classes: int) -> int:
    with torch.device("meta"):
        for size in count(image_size + 1):
            try:
                _build(name, size, classes)
            except (AssertionError, ValueError):
                continue
            return size
    raise AssertionError("unreachable: every family has infinitely many sizes")
