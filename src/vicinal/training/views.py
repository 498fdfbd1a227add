"""Test-time augmentation: an image is classified by the mean of the logits of several views of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from vicinal.data import Images, Inputs
from vicinal.errors import ConfigError
from vicinal.tasks import Task

VIEWS = (1, 2, 6)
"""Numbers of views that there are: the image; its mirror image too; and both moved by one pixel along the diagonal."""


def check_views(views: int, inputs: Inputs, task: Task) -> None:
    """Raise ConfigError if inputs of this kind cannot be evaluated by so many views."""
    if views not in VIEWS:
        raise ConfigError("trainer.eval_views", views, f"must be one of {', '.join(map(str, VIEWS))}")
    if views > 1 and not (isinstance(inputs, Images) and task.has_classes):
        allowed = "must be 1: only images keep their target when they are mirrored, and only if it is a class"
        raise ConfigError("trainer.eval_views", views, allowed)
    if views > 2 and min(inputs.shape[1:]) < 2:
        raise ConfigError("trainer.eval_views", views, "must be 1 or 2: an image is moved by a pixel, and has but one")


def averaged(forward: Callable[[Tensor], Any], views: int) -> Callable[[Tensor], Any]:
    """Return the function of images (B, C, H, W) whose logits are the mean of those of `forward` over the views.

    Of six, the two that are not moved have half of the weight together, and the four that are moved, up and left or
    down and right with the border mirrored, the other half (arXiv 2404.00498, section 3.5).
    """
    if views == 1:
        return forward

    def both_sides(images: Tensor) -> Any:
        return (forward(images).float() + forward(images.flip(-1)).float()) / 2

    def all_places(images: Tensor) -> Any:
        padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
        moved = (padded[..., :-2, :-2], padded[..., 2:, 2:])
        return both_sides(images) / 2 + (both_sides(moved[0]) + both_sides(moved[1])) / 4

    return both_sides if views == 2 else all_places
