"""What was really mixed in an epoch, counted from the plans that its steps have carried out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from vicinal.mixing import MixPlan
from vicinal.mixing.bounds import accuracy_ceiling, class_weight, loss_floor, same_class
from vicinal.mixing.strategies import INPUT

LAM_BINS = 20
"""Equal bins of [0, 1] in which lambda is counted; 1 belongs to the last."""
FOLDED_BATCHES = 64
"""Mixed batches that are counted at once: a step only keeps its plan, which is a few numbers per sample."""


class MixingStats:
    """Counts of one epoch, kept on the device until somebody looks.

    Args:
        depths: where the strategy mixes, "input" or names of blocks; nowhere if there are none.
        classes: of the labels.
        label_smoothing: of the loss.
        device: of the labels.
    """

    def __init__(self, depths: Sequence[str], classes: int, label_smoothing: float, device: torch.device) -> None:
        self._classes, self._label_smoothing, self._device = classes, label_smoothing, device
        self._batches = 0
        self._samples = 0
        self._mixed = 0  # samples of batches that were mixed; the sums and counts are over these
        self._layers = dict.fromkeys(depths, 0)  # batches
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._sums = torch.zeros(5 if label_smoothing else 4, dtype=dtype, device=device)  # in the order of _fold
        self._at_least = torch.zeros(LAM_BINS + 1, dtype=dtype, device=device)  # samples with lambda >= k / LAM_BINS
        self._edges = torch.arange(LAM_BINS + 1, device=device)[:, None] / LAM_BINS
        self._waiting: list[tuple[Tensor, ...]] = []  # a mixed batch each: lam, own share, partner, labels

    def add(self, plan: MixPlan, labels: Tensor, shape: Sequence[int]) -> None:
        """Note a step. No value is read.

        Args:
            plan: on the host, where it is decided.
            labels: (B,) int64, on the device.
            shape: of the batch of images, (B, C, H, W).
        """
        self._batches += 1
        self._samples += len(labels)
        if not plan.active:
            return
        self._mixed += len(labels)
        depth = INPUT if plan.layer is None else plan.layer
        self._layers[depth] = self._layers.get(depth, 0) + 1
        self._waiting.append((plan.lam, plan.own_share(shape), plan.partner, labels))
        if len(self._waiting) == FOLDED_BATCHES:
            self._fold()

    def _fold(self) -> None:
        """Count the batches that wait, as if they were one."""
        lams, owns, partners, batches = zip(*self._waiting, strict=True)
        sizes = tuple(map(len, batches))
        plan = MixPlan(torch.cat(lams), torch.cat(partners) + _starts(sizes)).to(self._device)
        own = plan.lam  # as a rule the very same
        if any(one is not other for one, other in zip(owns, lams, strict=True)):
            parts = [one if len(one) == size else one.expand(size) for one, size in zip(owns, sizes, strict=True)]
            own = torch.cat(parts).to(self._device, non_blocking=True)
        same = same_class(plan, torch.cat(batches))
        weight = class_weight(plan.lam, same)
        summands = [own, same, loss_floor(weight, self._classes), accuracy_ceiling(weight)]
        if self._label_smoothing:
            summands.append(loss_floor(weight, self._classes, self._label_smoothing))
        self._sums += torch.stack(summands).sum(dim=1, dtype=self._sums.dtype)
        # Each edge is the float32 next to it, so that a lambda of .35 is in the bin that begins there. Counted as
        # floats, exact up to 2^24 of them, in a fifth of the time.
        above = torch.ge(own, self._edges, out=torch.empty(LAM_BINS + 1, len(own), device=self._device))
        self._at_least += above.sum(dim=1)
        self._waiting.clear()

    def read(self) -> dict[str, Any]:
        """The epoch's part of a row, by the keys of ``metrics.jsonl``; at its end, and waits for the device."""
        if self._waiting:
            self._fold()
        own, same, entropy, ceiling, *smoothed = self._sums.tolist()
        *at_least, whole = map(int, self._at_least.tolist())
        unmixed = self._samples - self._mixed
        row: dict[str, Any] = {
            "train/acc1_ceiling": (ceiling + unmixed) / self._samples,
            "train/loss_floor": (sum(smoothed or [entropy]) + unmixed * self._floor_of_one()) / self._samples,
        }
        if not self._layers:
            return row
        row |= {
            "mixing/lam_mean_partner": (self._mixed - own) / self._samples,
            "mixing/target_entropy": entropy / self._samples,
            "mixing/unmixed": (self._batches - sum(self._layers.values())) / self._batches,
        }
        if self._mixed:
            row |= {"mixing/empty_boxes": whole / self._mixed, "mixing/same_class": same / self._mixed}
        row |= {f"mixing/layer/{name}": count for name, count in self._layers.items()}
        counts = [one - other for one, other in zip(at_least, [*at_least[1:], 0], strict=True)]
        counts[-1] += unmixed
        return {**row, "mixing/lam": counts}

    def _floor_of_one(self) -> float:
        """Lowest loss of a sample that is not mixed, in nats: label smoothing's."""
        if not self._label_smoothing:
            return 0.0
        return loss_floor(torch.ones(1), self._classes, self._label_smoothing).item()

    def state_dict(self) -> dict[str, Any]:
        return {
            "batches": self._batches,
            "samples": self._samples,
            "mixed": self._mixed,
            "layers": dict(self._layers),
            "sums": self._sums,
            "at_least": self._at_least,
            "waiting": list(self._waiting),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._batches, self._samples, self._mixed = state["batches"], state["samples"], state["mixed"]
        self._layers = dict(state["layers"])
        self._sums.copy_(state["sums"])
        self._at_least.copy_(state["at_least"])
        self._waiting = [(*host, labels.to(self._device)) for *host, labels in state["waiting"]]


@lru_cache(maxsize=4)  # each epoch has the same
def _starts(sizes: tuple[int, ...]) -> Tensor:
    """Where each sample's batch starts, (sum of sizes,) int64, when the batches follow each other."""
    counts = torch.tensor(sizes)
    return (counts.cumsum(0) - counts).repeat_interleave(counts)
