"""Carrying a plan out inside a network: blocks are found by name, so any ``nn.Module`` will do, unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType

import torch
from torch import Tensor, nn

from vicinal.mixing.plan import MixPlan


def mixed_forward(model: nn.Module, images: Tensor, plan: MixPlan) -> Tensor:
    """``model(images)`` with the plan carried out at its depth: the input, or the output of the block it names.

    Args:
        model: any module; it is left as it was found.
        images: (B, C, H, W) floating point, normalised (mixup mixes after normalisation).
        plan: what ``strategy.sample`` decided for this batch.

    Returns:
        What the model returns, as a rule the logits (B, K). Gradients flow through both branches of the mix.

    Raises:
        ValueError: the model has no block of that name.
        RuntimeError: the block did not run exactly once, or its output is not one tensor.
    """
    layers = [] if plan.layer is None else [plan.layer]
    with MixPoints(model, layers) as points:
        logits = points(images, plan)
        if plan.active and points.mixed != len(layers):
            raise RuntimeError(f"block {plan.layer!r} ran {points.mixed} times in one forward pass; it must run once")
        return logits


class MixPoints:
    """The blocks of a model at which it can be mixed, for a model that is called many times.

    The hooks are placed once and read the plan of the moment: nothing about the model changes from batch to batch,
    which is what ``torch.compile`` needs in order not to compile again. Leave the ``with`` block, or call
    :meth:`remove`, and the model is as it was.
    """

    def __init__(self, model: nn.Module, layers: Iterable[str]) -> None:
        self.model = model
        self.mixed = 0
        """Blocks mixed in the last forward pass."""
        self._plan: MixPlan | None = None
        self._room: Tensor | None = None
        self._hooks = [
            _block(model, name).register_forward_hook(partial(self._mix, name)) for name in dict.fromkeys(layers)
        ]

    def __call__(self, images: Tensor, plan: MixPlan, forward: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """As :func:`mixed_forward`. Mixed images are written to memory of this object, again and again.

        Args:
            images: see there.
            plan: see there.
            forward: is called instead of the model, such as its compiled form.
        """
        self.mixed = 0
        # A plan that mixes no block looks like no plan at all: each kind that a hook can tell apart is a compilation.
        self._plan = plan if plan.active and plan.layer is not None else None
        try:
            mixed = plan.mix(images, self._space(images)) if plan.layer is None else images
            logits: Tensor = (forward or self.model)(mixed)
        finally:
            self._plan = None
        return logits

    def _space(self, images: Tensor) -> Tensor | None:
        """Memory like that of the images; none where they want a gradient, which would need them later.

        None on a GPU either, whose allocator hands the last batch's out again.
        """
        if images.requires_grad or images.device.type != "cpu":
            return None
        known = self._room
        if (
            known is None
            or len(known) < len(images)
            or (known.shape[1:], known.dtype, known.device) != (images.shape[1:], images.dtype, images.device)
            or known.stride() != images.stride()
        ):
            self._room = known = torch.empty_like(images)
        return known[: len(images)]

    def _mix(self, name: str, module: nn.Module, args: object, output: Tensor) -> Tensor | None:
        if self._plan is None or self._plan.layer != name:
            return None
        if not isinstance(output, Tensor):
            raise RuntimeError(
                f"block {name!r} returns {type(output).__name__}; only a block with one tensor can be mixed"
            )
        self.mixed += 1
        return self._plan.mix(output)

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def __enter__(self) -> MixPoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()


def _block(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        known = ", ".join(child for child, _ in model.named_modules() if child)
        raise ValueError(f"{type(model).__name__} has no block {name!r}; its blocks are {known}") from None
