"""Top-1, top-5, negative log-likelihood and expected calibration error, accumulated on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vicinal.training.hardware import Hardware

ECE_BINS = 15


class Metrics:
    """Running sums over batches; the device is asked for numbers only by :meth:`compute`.

    ``ece`` is the expected calibration error with 15 equal-width bins (Guo et al., arXiv 1706.04599, equation 3), equal
    to torchmetrics' ``MulticlassCalibrationError(norm="l1", n_bins=15)``, where a confidence of exactly 1 has a bin of
    its own; it is written out here because importing torchmetrics takes longer than training the default job's first
    epoch.
    """

    def __init__(self, device: torch.device) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._sums = torch.zeros(3, dtype=dtype, device=device)  # top-1 hits, top-5 hits, NLL in nats
        self._bins = torch.zeros(2, ECE_BINS + 1, dtype=dtype, device=device)  # hits and confidence a bin
        self._edges = torch.linspace(0, 1, ECE_BINS + 1, device=device)
        self._count = 0

    def update(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Add a batch: logits (B, K) in any floating dtype, labels (B,) int64.

        Returns:
            The predicted classes, (B,) int64, and the probabilities that they were given, (B,) float32.
        """
        logits = logits.float()
        confidence, predicted = logits.softmax(dim=1).max(dim=1)
        hit = (predicted == labels).to(self._sums)
        top5 = (logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]).any(dim=1)
        nll = F.cross_entropy(logits, labels, reduction="sum")
        self._sums += torch.stack([hit.sum(), top5.sum().to(self._sums), nll.to(self._sums)])
        # A product with one-hot rows instead of a scatter: the same bits every time on a GPU too.
        index = torch.bucketize(confidence, self._edges, right=True) - 1
        member = F.one_hot(index, ECE_BINS + 1).to(self._bins)
        self._bins += torch.stack([hit, confidence.to(self._bins)]) @ member
        self._count += len(labels)
        return predicted, confidence

    def compute(self) -> dict[str, float]:
        """``acc1`` and ``acc5`` as fractions in [0, 1], ``nll`` in nats, ``ece`` in [0, 1]."""
        acc1, acc5, nll = (self._sums / self._count).tolist()
        hits, confidence = self._bins
        ece = ((hits - confidence).abs().sum() / self._count).item()
        return {"acc1": acc1, "acc5": acc5, "nll": nll, "ece": ece}


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    hardware: Hardware,
    forward: Callable[[Tensor], Tensor] | None = None,
    seen: list[tuple[Tensor, Tensor, Tensor]] | None = None,
) -> dict[str, float]:
    """Metrics of a model in evaluation mode over batches of (images, labels); its mode is put back.

    Args:
        model: (B, C, H, W) -> logits (B, K).
        batches: on the model's device.
        hardware: for its precision.
        forward: is called instead of the model, such as its compiled form.
        seen: is given each batch's labels, predicted classes and their probabilities, (B,) each.
    """
    metrics = Metrics(hardware.device)
    training = model.training
    model.eval()
    for images, labels in batches:
        with hardware.autocast():
            logits = (forward or model)(images)
        predicted, confidence = metrics.update(logits, labels)
        if seen is not None:
            seen.append((labels, predicted, confidence))
    model.train(training)
    return metrics.compute()
