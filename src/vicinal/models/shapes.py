"""Check the arguments of a network, and that its inputs fit it, before any data is read."""

from __future__ import annotations

from bisect import bisect_left

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vicinal.errors import first_line, written
from vicinal.utils.image_size import ImageSize, shortest, sides

PROBED_SIZES = (16, 32, 64, 128, 256, 512)


def at_least(name: str, value: int, smallest: int, network: str = "") -> None:
    """Raise ValueError if the argument of a network is smaller."""
    if value < smallest:
        where = f" for {network}" if network else ""
        raise ValueError(f"{name} must be at least {smallest}{where}, got {value}")


def multiple_of(image_size: ImageSize, step: int, network: str) -> None:
    """Raise ValueError if height or width is no multiple of ``step``."""
    if any(side % step for side in sides(image_size)):
        each = "" if isinstance(shortest(image_size), int) else " in height and width"
        raise ValueError(f"image_size must be a multiple of {step}{each} for {network}, got {written(image_size)}")


def is_probability(name: str, value: float) -> None:
    """Raise ValueError if the argument of a network is not in [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be a probability in [0, 1), got {value}")


def check(model: nn.Module, inputs: Tensor, output: tuple[int, ...] | None) -> None:
    """Refuse a network that cannot turn inputs (2, ...) into outputs (2, *output), or of any kind if that is None.

    Nothing is computed: only shapes go through the network, on the meta device, in the mode it is in (a new network is
    in training mode). The network may be on any device. It stays as it is, with its running statistics, and so do
    random numbers. A network whose forward needs values, which shapes lack, is let through.

    Raises:
        ValueError: on ``image_size``, with the smallest size that fits, or on ``model``, if its outputs are others.
    """
    name = type(model).__name__
    try:
        result = _forward(model, inputs)
    except Exception as error:
        reason = first_line(error)
        if "meta" in reason.lower():
            return
        if inputs.dim() != 4:
            raise ValueError(f"model does not fit inputs of {tuple(inputs.shape[1:])}: {reason}") from error
        smallest = _smallest(model, inputs)
        allowed = f"must be at least {smallest} for {name}" if smallest else f"does not fit {name}: {reason}"
        raise ValueError(f"image_size {allowed}, got {written(shortest(inputs.shape[2:]))}") from error
    if output is None:
        return
    found = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
    if found != (2, *output):
        what, kind = ("logits", "images") if inputs.dim() == 4 and len(output) == 1 else ("outputs", "samples")
        raise ValueError(f"model must return {what} {(2, *output)} for 2 {kind}, not {found}")


def refuses_one(model: nn.Module, inputs: Tensor) -> str:
    """Return why a network that :func:`check` lets through cannot be trained on the input (1, ...); "" if it can.

    With one image of one pixel, batch norm has a single value per channel and cannot normalise it.
    """
    try:
        _forward(model, inputs)
    except ValueError as error:  # anything else has to do with values, which shapes do not have
        return first_line(error)
    return ""


def grown(image_size: ImageSize, size: int) -> tuple[int, int]:
    """Return height and width of which each is at least ``size``: the sizes among which one that fits is looked for."""
    height, width = sides(image_size)
    return max(height, size), max(width, size)


@torch.no_grad()
def _forward(model: nn.Module, inputs: Tensor) -> object:
    state = [*model.named_parameters(), *model.named_buffers()]
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in state}
    return functional_call(model, shapes, (inputs,))


def _smallest(model: nn.Module, images: Tensor) -> int | None:
    """Return the smallest size that goes through if shorter sides of these images are made as long; None if none."""
    image_size = min(images.shape[2:])

    def goes_through(size: int) -> bool:
        try:
            _forward(model, images.new_empty(*images.shape[:2], *grown(images.shape[2:], size)))
        except Exception:
            return False
        return True

    enough = next((size for size in PROBED_SIZES if size > image_size and goes_through(size)), None)
    return enough and bisect_left(range(enough), True, lo=image_size + 1, key=goes_through)
