"""The plan of one batch: decided before the forward pass, carried out on tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from vicinal.mixing.gradients import ChooseFunction, MixFunction, inverse
from vicinal.mixing.masks import Mask, ScalarMask
from vicinal.mixing.moving import on_device
from vicinal.mixing.transforms import Transform


@dataclass(frozen=True)
class MixPlan:
    """The mixing of one batch of B samples. A subclass may add fields; their tensors move along in :meth:`to`.

    Attributes:
        lam: (B,) float32, the weight of the sample itself in its target, after any area correction.
        partner: (B,) int64, the index of the sample it is mixed with, which may be its own.
        layer: None for the input, or the name of the block (as in ``model.named_modules()``) whose output is mixed.
        mask: None when the features are weighted by ``lam`` as well, or the mask that takes its place.
        active: False when nothing is mixed in this batch. Known on the host, so that no device has to be asked.
        transform: of the partner before it is mixed in; None to take it as it is.
        size: shape of one sample where it is mixed, (C, ...), if that is inside the network and known.
        whose: (B,) int64, whose partner each sample is, if that is exactly one and has been looked at: on the host, for
            gradients inside the network.
    """

    pairs: ClassVar[bool] = True
    """Whether every sample is mixed with one other at most, so that ``lam`` and ``partner`` say all."""
    lam: Tensor
    partner: Tensor
    layer: str | None = None
    mask: Mask | None = None
    active: bool = True
    transform: Transform | None = None
    size: tuple[int, ...] | None = None
    whose: Tensor | None = None

    @property
    def applied_mask(self) -> Mask:
        """The mask, or ``lam`` as one."""
        return ScalarMask(self.lam) if self.mask is None else self.mask

    @property
    def compiles(self) -> bool:
        """Whether all numbers of :meth:`mix` are in tensors, so that one graph of a compiler is for any of them."""
        mask, transform = self.mask, self.transform
        return (mask is None or mask.compiles) and (transform is None or transform.compiles)

    def tensors_on(self, device: torch.device) -> Self:
        """Return the same plan with the numbers of its mask in tensors: boxes are none where they are decided."""
        return self if self.mask is None or self.mask.compiles else replace(self, mask=self.mask.to(device))

    @property
    def cuts(self) -> bool:
        """Whether each pixel of the mixed input is of one sample alone, so that a map of classes can be cut as well."""
        return self.active and self.layer is None and self.applied_mask.hard

    @property
    def pixelwise(self) -> Mask | None:
        """The mask on the device, if ``mask.mix(x, x[partner])`` of the inputs is all of the mixing, pixel by pixel."""
        if not (type(self) is MixPlan and self.active and self.layer is None and self.transform is None):
            return None
        mask = self.applied_mask
        # A plan that was decided where it is used has not been moved there, and its boxes are no tensors yet.
        return (mask.to(self.lam.device) if self.lam.device.type == "cpu" else mask) if mask.pixelwise else None

    @property
    def members(self) -> Tensor:
        """The samples that are mixed into each, itself first, int64 (B, K)."""
        return torch.stack([torch.arange(len(self.partner), device=self.partner.device), self.partner], dim=1)

    @property
    def weights(self) -> Tensor:
        """The weights of the members in the target, float32 (B, K)."""
        return torch.stack([self.lam, 1 - self.lam], dim=1)

    def alike(self, targets: Tensor) -> Tensor:
        """Return whether all members of each sample have its target, bool (B,), for targets (B, K)."""
        return (targets[self.members] == targets[:, None]).flatten(1).all(dim=1)

    def mix(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Mix images or hidden features of shape (B, ...) in their own dtype; ``x`` itself is not changed.

        Args:
            x: floating point, or integers under a hard mask, which only selects.
            out: memory like ``x``, or ``x`` itself, to be overwritten and returned. For a large batch this saves the
                first touch of new memory. It is not used where nothing is mixed or a gradient is wanted.

        Raises:
            TypeError: integers would have to be blended, and rounded.
            ValueError: ``x`` has another batch size than the plan.
        """
        self.check(x)
        if not self.active:
            return x
        if self.transform is not None:
            other = self.others(x)
            return self.applied_mask.mix(self.transform.own(x, other), self.transform(x, other))
        eager_cpu = _is_eager_cpu(x)
        if eager_cpu and not _wants_gradient(x):
            return self.applied_mask.mix_out(x, self.partner, torch.empty_like(x) if out is None else out)
        if eager_cpu and self.mask is None:
            whose = inverse(self.partner) if self.whose is None else self.whose
            if whose is not None:
                mixed: Tensor = MixFunction.apply(x, self.lam, self.partner, whose)
                return mixed
        return self.applied_mask.mix(x, self.others(x))

    def others(self, x: Tensor) -> Tensor:
        """Return the partners, ``x[partner]``; on a GPU, or compiled, with a gradient that adds nothing up."""
        if self.whose is None or _is_eager_cpu(x) or not _wants_gradient(x):
            return x[self.partner]
        chosen: Tensor = ChooseFunction.apply(x, self.partner, self.whose)
        return chosen

    def check(self, x: Tensor) -> None:
        """Refuse what cannot be mixed by this plan: see :meth:`mix`."""
        selects = not self.active or (self.mask is not None and self.mask.hard)
        if not (selects or x.is_floating_point()):
            raise TypeError(f"mixing needs floating-point values, got {x.dtype}")
        if len(x) != len(self.lam):
            raise ValueError(f"the plan is for a batch of {len(self.lam)}, got {len(x)}")

    def targets(self, labels: Tensor, num_classes: int) -> Tensor:
        """Return soft targets (B, num_classes) float32 of the labels (B,) int64."""
        own = torch.zeros(len(labels), num_classes, device=labels.device).scatter_(1, labels[:, None], 1.0)
        return self.mix_targets(own)

    def mix_targets(self, targets: Tensor) -> Tensor:
        """Mix targets (B, ...): maps (B, ..., H, W) as mixed images, all others are blended by ``lam``.

        A partner that is resized or moved is so in its map, and what is blank is 0.

        Args:
            targets: maps have the height and width of the images. Under a hard mask, such as a box, they may be
                integers (classes of pixels), unless the partner is changed; all others are floating point.

        Raises:
            TypeError: integers would have to be blended. Their losses can be: :meth:`pair_loss`.
        """
        if not self.active:
            return targets
        is_map = targets.dim() > 2
        as_inputs = is_map and self.layer is None  # a mask inside the network has other places than a map
        mask, transform = (self.applied_mask, self.transform) if as_inputs else (ScalarMask(self.lam), None)
        if not ((mask.hard and transform is None) or targets.is_floating_point()):
            raise TypeError(f"blending needs floating-point targets, got {targets.dtype}")
        x = targets.reshape(len(targets), -1, *targets.shape[-2:]) if is_map else targets  # channels, as images have
        own, other = x, x[self.partner]
        if transform is not None:
            own, other = transform.own(x, other), transform(x, other)
        return mask.mix(own, other).view_as(targets)

    def pair_loss(self, per_sample_loss: Callable[[Tensor], Tensor], targets: Tensor) -> Tensor:
        """Return lam * loss(targets) + (1 - lam) * loss(targets[partner]) for any loss, (B,).

        Args:
            per_sample_loss: from targets (B, ...) to losses (B,); it knows the outputs of the model.
            targets: (B, ...), of the samples before mixing.
        """
        own = per_sample_loss(targets)
        if not self.active:
            return own
        return torch.lerp(per_sample_loss(targets[self.partner]), own, self.lam.to(own.dtype))

    def loss(
        self, logits: Tensor, labels: Tensor, label_smoothing: float = 0.0, weight: Tensor | None = None
    ) -> Tensor:
        """Return the mean cross-entropy to both labels, weighted by lambda: a scalar in nats.

        Equal to the cross-entropy to :meth:`targets`, without building them (arXiv 1710.09412, section 3;
        facebookresearch/mixup-cifar10 ``train.py``). ``label_smoothing`` enters here and nowhere else, so it counts
        once.

        Args:
            logits: (B, K), not softmaxed.
            labels: (B,) int64.
            label_smoothing: in [0, 1], the share of the target that is spread evenly over the K classes.
            weight: (B,), of each sample in the mean; None for the same.
        """
        if not self.active and weight is None:
            return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        cross_entropy = partial(F.cross_entropy, logits, reduction="none", label_smoothing=label_smoothing)
        return self.mean_loss(cross_entropy, labels, weight)

    def mean_loss(
        self, per_sample_loss: Callable[[Tensor], Tensor], targets: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """Return the mean of :meth:`pair_loss`, a scalar; with ``weight`` (B,), of the weighted losses."""
        losses = self.pair_loss(per_sample_loss, targets)
        return losses.mean() if weight is None else (weight * losses).mean()

    def own_share(self, shape: Sequence[int]) -> Tensor:
        """Return how much of each mixed sample is its own: the mean of its mask over the pixels, (B,) or (1,).

        That is ``lam``, unless the mask and the labels differ: a box that was cut off at the border, under labels that
        were not corrected for it (``CutMix(labels="drawn")``). For a mask inside the network it is ``lam`` too
        where the size of the features is not known.

        Args:
            shape: of the batch of inputs, (B, C, ...). The plan is on the host, where it is decided.
        """
        inside = self.layer is not None
        if self.mask is None or (inside and self.size is None and not isinstance(self.mask, ScalarMask)):
            return self.lam
        return self.mask.own_share(shape if self.size is None else (shape[0], *self.size))

    @property
    def reads(self) -> str | None:
        """Name of the block whose output is shown to :meth:`see` in the forward pass."""
        return None

    def see(self, output: Tensor) -> None:
        """Look at the output of the block that the plan reads."""

    def settled(self) -> MixPlan:
        """Return the plan for the loss, after the forward pass: where that decides the weights, with these."""
        return self

    def weighted(self, lam: Tensor) -> Self:
        """Return the same mixing with these weights in the target, (B,) or (1,); they become float32 (B,)."""
        batch, mask = self.partner.shape[0], self.mask
        if mask is None and lam is not self.lam:
            mask = ScalarMask(self.lam.float().expand(batch))
        return replace(self, lam=lam.float().expand(batch), mask=mask)

    def transformed(self, transform: Transform) -> Self:
        """Return the same mixing of partners that are changed before."""
        return replace(self, transform=transform)

    def own_part(self, like: Tensor) -> Tensor:
        """Return the weight of the sample itself at each place of what is mixed.

        It is shaped like the inputs (B, C, ...), or (B, *size) if what is mixed inside the network has a known size.
        """
        white = torch.ones_like(like) if self.size is None else like.new_ones(len(like), *self.size)
        return self.applied_mask.mix(white, torch.zeros_like(white)) if self.active else white

    def to(self, device: torch.device) -> Self:
        """Return the same plan on another device; the copies do not wait for it."""
        return self if self.lam.device == device else on_device(self, device)


def _is_eager_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _wants_gradient(x: Tensor) -> bool:
    return x.requires_grad and torch.is_grad_enabled()


@dataclass(frozen=True, kw_only=True)
class SecondHalf(MixPlan):
    """A plan for the second half of a batch, whose first half is not mixed."""

    plan: MixPlan

    @property
    def compiles(self) -> bool:
        return self.plan.compiles

    def tensors_on(self, device: torch.device) -> Self:
        return replace(self, plan=self.plan.tensors_on(device))

    @property
    def reads(self) -> str | None:
        return self.plan.reads

    def see(self, output: Tensor) -> None:
        self.plan.see(output.chunk(2)[1])

    @classmethod
    def of(cls, plan: MixPlan) -> SecondHalf:
        """Return the plan for a batch twice as large."""
        return cls(plan.lam, plan.partner, plan.layer, active=plan.active, plan=plan)

    def mix(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        first, second = x.chunk(2)
        return torch.cat([first, self.plan.mix(second)])
