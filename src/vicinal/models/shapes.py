"""Check the arguments of a network, and that its images fit it, before any data is read."""

from __future__ import annotations

from bisect import bisect_left

import torch
from torch import nn
from torch.func import functional_call

PROBED_SIZES = (16, 32, 64, 128, 256, 512)


def at_least(name: str, value: int, smallest: int, network: str = "") -> None:
    """Raise ValueError if the argument of a network is smaller."""
    if value < smallest:
        where = f" for {network}" if network else ""
        raise ValueError(f"{name} must be at least {smallest}{where}, got {value}")


def is_probability(name: str, value: float) -> None:
    """Raise ValueError if the argument of a network is not in [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be a probability in [0, 1), got {value}")


def check(model: nn.Module, channels: int, image_size: int, classes: int) -> None:
    """Refuse a network that cannot turn images (2, channels, image_size, image_size) into logits (2, classes).

    Nothing is computed: only shapes go through the network, on the meta device, in the mode it is in (a new network is
    in training mode). The network may be on any device. It stays as it is, with its running statistics, and so do
    random numbers. A network whose forward needs values, which shapes lack, is let through.

    Raises:
        ValueError: on ``image_size``, with the smallest size that fits, or on ``model``, if it does not return logits.
    """
    name = type(model).__name__
    try:
        output = _forward(model, channels, image_size)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        if "meta" in reason.lower():
            return
        smallest = _smallest(model, channels, image_size)
        allowed = f"must be at least {smallest} for {name}" if smallest else f"does not fit {name}: {reason}"
        raise ValueError(f"image_size {allowed}, got {image_size}") from error
    result = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if result != (2, classes):
        raise ValueError(f"model must return logits (2, {classes}) for 2 images, not {result}")


def refuses_one(model: nn.Module, channels: int, image_size: int) -> str:
    """Return why a network that :func:`check` lets through cannot be trained on one image at a time; "" if it can.

    With one image of one pixel, batch norm has a single value per channel and cannot normalise it.
    """
    try:
        _forward(model, channels, image_size, batch=1)
    except ValueError as error:  # anything else has to do with values, which shapes do not have
        return str(error).partition("\n")[0]
    return ""


@torch.no_grad()
def _forward(model: nn.Module, channels: int, image_size: int, batch: int = 2) -> object:
    state = [*model.named_parameters(), *model.named_buffers()]
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in state}
    images = torch.empty(batch, channels, image_size, image_size, device="meta")
    return functional_call(model, shapes, (images,))


def _smallest(model: nn.Module, channels: int, image_size: int) -> int | None:
    """Return the smallest size above this one that goes through, if there is any."""

    def goes_through(size: int) -> bool:
        try:
            _forward(model, channels, size)
        except Exception:
            return False
        return True

    enough = next((size for size in PROBED_SIZES if size > image_size and goes_through(size)), None)
    return enough and bisect_left(range(enough), True, lo=image_size + 1, key=goes_through)
