"""The plan of one batch: decided before the forward pass, carried out on tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vicinal.mixing.gradients import Blend, is_permutation
from vicinal.mixing.masks import Mask, Weights


@dataclass(frozen=True)
class MixPlan:
    """What is mixed in one batch of B samples.

    Attributes:
        lam: (B,) float32, the weight of the sample itself in its target, after any area correction.
        partner: (B,) int64, whom it is mixed with; a sample may be its own partner.
        layer: None for the input, or the name of the block (as in ``model.named_modules()``) whose output is mixed.
        mask: None when the features are weighted by ``lam`` itself, or the mask that takes its place.
        active: False when nothing was to be mixed in this batch. Known on the host, so that no device has to be asked.
    """

    lam: Tensor
    partner: Tensor
    layer: str | None = None
    mask: Mask | None = None
    active: bool = True

    def mix(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Mix images or hidden features of shape (B, ...) in their own dtype; ``x`` itself is not changed.

        Args:
            x: floating point.
            out: like ``x``, or ``x`` itself, which then may be changed: memory to be written and returned, which spares
                a large batch the first touch of new one. It is left alone where nothing is mixed or a gradient wanted.

        Raises:
            TypeError: ``x`` is not floating point (a weighted mean of integers would be rounded).
            ValueError: ``x`` has another batch size than the plan.
        """
        if not x.is_floating_point():
            raise TypeError(f"mixing needs floating-point values, got {x.dtype}")
        if len(x) != len(self.lam):
            raise ValueError(f"the plan is for a batch of {len(self.lam)}, got {len(x)}")
        if not self.active:
            return x
        mask = Weights(self.lam) if self.mask is None else self.mask
        eager_cpu = x.device.type == "cpu" and not torch.compiler.is_compiling()
        wants_gradient = x.requires_grad and torch.is_grad_enabled()
        if eager_cpu and not wants_gradient:
            return mask.fill(x, self.partner, torch.empty_like(x) if out is None else out)
        if eager_cpu and self.mask is None and is_permutation(self.partner):
            mixed: Tensor = Blend.apply(x, self.lam, self.partner)
            return mixed
        return mask.mix(x, x[self.partner])

    def targets(self, labels: Tensor, num_classes: int) -> Tensor:
        """Soft targets (B, num_classes) float32 of the labels (B,) int64."""
        own = torch.zeros(len(labels), num_classes, device=labels.device).scatter_(1, labels[:, None], 1.0)
        if not self.active:
            return own
        other = own.index_select(0, self.partner)
        return torch.lerp(other, own, self.lam[:, None], out=other)

    def loss(self, logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy to both labels, weighted by lambda: a scalar in nats.

        Equal to the cross-entropy to :meth:`targets`, without building them (arXiv 1710.09412, section 3;
        facebookresearch/mixup-cifar10 ``train.py``). ``label_smoothing`` enters here and nowhere else, so it counts
        once.

        Args:
            logits: (B, K), not softmaxed.
            labels: (B,) int64.
            label_smoothing: in [0, 1], the share of the target that is spread evenly over the K classes.
        """
        if not self.active:
            return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        own = F.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
        other = F.cross_entropy(logits, labels[self.partner], reduction="none", label_smoothing=label_smoothing)
        return torch.lerp(other, own, self.lam.to(own.dtype)).mean()

    def correct(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Lambda-weighted accuracy of each sample, (B,) float32: the target's weight of the predicted class."""
        predicted = logits.argmax(dim=1)
        own = (predicted == labels).float()
        if not self.active:
            return own
        return torch.lerp((predicted == labels[self.partner]).float(), own, self.lam)

    def to(self, device: torch.device) -> MixPlan:
        """The same plan on another device; the copies do not wait for it."""
        if self.lam.device == device:
            return self
        return MixPlan(
            lam=self.lam.to(device, non_blocking=True),
            partner=self.partner.to(device, non_blocking=True),
            layer=self.layer,
            mask=None if self.mask is None else self.mask.to(device),
            active=self.active,
        )
