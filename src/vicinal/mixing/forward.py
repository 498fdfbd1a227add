"""Carry out a plan inside a network: blocks are found by name, so any ``nn.Module`` will do, unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor, nn

from vicinal.mixing.plan import MixPlan


def mixed_forward(model: nn.Module, images: Tensor, plan: MixPlan) -> Tensor:
    """Return ``model(images)`` with the plan carried out at its depth: the input, or the output of the block it names.

    Args:
        model: any module; it is left unchanged.
        images: (B, C, H, W) floating point, normalised (mixup mixes after normalisation).
        plan: of this batch, from ``strategy.sample``.

    Returns:
        The model's output, usually logits (B, K). Gradients flow through both branches of the mix.

    Raises:
        ValueError: the model has no block of that name.
        RuntimeError: the block did not run exactly once, or its output is not a tensor or a tuple of tensors.
    """
    layers = [] if plan.layer is None else [plan.layer]
    with MixHooks(model, [*layers, *([] if plan.reads is None else [plan.reads])]) as hooks:
        logits = hooks(images, plan)
        if plan.active and hooks.mixed != len(layers):
            raise RuntimeError(f"block {plan.layer!r} ran {hooks.mixed} times in one forward pass; it must run once")
        return logits


@torch.no_grad()
def shapes_of(model: nn.Module, inputs: Tensor, layers: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Return the shape of one sample in the output of each of these blocks, (C, ...), for inputs (1, ...).

    The model is called once as in evaluation, and is left as it was. Raises as :func:`mixed_forward` does.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, module: nn.Module, args: object, output: object) -> None:
        if not isinstance(output, Tensor):
            raise RuntimeError(_not_one_tensor(name, output))
        shapes[name] = tuple(output.shape[1:])

    modes = {module: module.training for module in model.modules()}
    hooks = [_block(model, name).register_forward_hook(partial(note, name)) for name in layers]
    try:
        model.eval()(inputs)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    return shapes


class MixHooks(AbstractContextManager["MixHooks"]):
    """Forward hooks on the blocks of a model that can be mixed, for a model that is called many times.

    The hooks are registered once and read the current plan. Nothing about the model changes from batch to batch, so
    ``torch.compile`` need not compile again; a plan with numbers on the host is carried out between two graphs, since
    each number would need a graph of its own. After the ``with`` block, or :meth:`remove`, the model is as before.

    Args:
        model: whose blocks are mixed.
        layers: names of the blocks.
        compiled: whether a compiled form of the model will be called.
    """

    def __init__(self, model: nn.Module, layers: Iterable[str], compiled: bool = False) -> None:
        self.model = model
        self._compiled = compiled
        self._apart = torch.compiler.disable(_carry_out) if compiled else _carry_out  # type: ignore[no-untyped-call]
        self.mixed = 0
        """Blocks mixed in the last forward pass."""
        self._plan: MixPlan | None = None
        self._memory: Tensor | None = None
        self._hooks = [
            _block(model, name).register_forward_hook(partial(self._mix, name)) for name in dict.fromkeys(layers)
        ]

    def __call__(self, images: Tensor, plan: MixPlan, forward: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Like :func:`mixed_forward`; the mixed images of each call overwrite those of the last.

        Args:
            images: as there.
            plan: as there.
            forward: called instead of the model, such as its compiled form.
        """
        self.mixed = 0
        # A plan that mixes no block looks like no plan: each kind that a hook can tell apart costs a compilation.
        self._plan = plan if plan.active and (plan.layer is not None or plan.reads is not None) else None
        if self._compiled and self._plan is not None:
            self._plan = plan.tensors_on(images.device)
        try:
            mixed = plan.mix(images, self._memory_like(images)) if plan.layer is None else images
            logits: Tensor = (self.model if forward is None else forward)(mixed)
        finally:
            self._plan = None
        return logits

    def _memory_like(self, images: Tensor) -> Tensor | None:
        """Return memory for mixed images; None where the last ones may still be needed, for a gradient of the images.

        None on a GPU too: its allocator reuses the last batch's.
        """
        if images.requires_grad or images.device.type != "cpu":
            return None
        kind = (images.shape[1:], images.stride(), images.dtype)
        memory = self._memory
        if memory is None or len(memory) < len(images) or (memory.shape[1:], memory.stride(), memory.dtype) != kind:
            self._memory = memory = torch.empty_like(images)
        return memory[: len(images)]

    def _mix(
        self, name: str, module: nn.Module, args: object, output: Tensor | tuple[Tensor, ...]
    ) -> Tensor | tuple[Tensor, ...] | None:
        if self._plan is None:
            return None
        if self._plan.reads == name and isinstance(output, Tensor):
            self._plan.see(output)
        if self._plan.layer != name:
            return None
        tensors = output if isinstance(output, tuple) else (output,)
        if not all(isinstance(tensor, Tensor) for tensor in tensors):
            raise RuntimeError(f"block {name!r} returns {type(output).__name__}; only tensors can be mixed")
        self.mixed += 1
        mix = _carry_out if self._plan.compiles else self._apart
        mixed = tuple(mix(self._plan, tensor) for tensor in tensors)
        return mixed if isinstance(output, tuple) else mixed[0]

    def remove(self) -> None:
        """Take the hooks off the model."""
        for hook in self._hooks:
            hook.remove()

    def __exit__(self, *_: object) -> None:
        self.remove()


def _carry_out(plan: MixPlan, x: Tensor) -> Tensor:
    return plan.mix(x)


def _not_one_tensor(name: str, output: object) -> str:
    return f"block {name!r} returns {type(output).__name__}; only a block with one tensor can be mixed"


def _block(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        known = ", ".join(child for child, _ in model.named_modules() if child)
        raise ValueError(f"{type(model).__name__} has no block {name!r}; its blocks are {known}") from None
