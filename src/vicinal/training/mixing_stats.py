"""What was really mixed in an epoch, counted from the plans of its steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vicinal.mixing import MixPlan
from vicinal.mixing.strategies import INPUT
from vicinal.training.objective import Objective

LAM_BINS = 20
"""Equal bins of [0, 1] in which lambda is counted; 1 belongs to the last."""
FOLDED_BATCHES = 64
"""Mixed batches that are counted at once: a step only keeps its plan, which is a few numbers per sample."""


class MixingStats:
    """Counts of one epoch, kept on the device until they are read.

    Args:
        depths: where the strategy mixes, "input" or names of blocks; empty if nowhere.
        classes: number of classes of the labels.
        objective: whose lowest loss and highest score are reported.
        device: of the labels.
    """

    def __init__(self, depths: Sequence[str], classes: int, objective: Objective, device: torch.device) -> None:
        self._classes, self._objective, self._device = classes, objective, device
        self._batches = 0
        self._samples = 0
        self._mixed = 0  # samples of batches that were mixed; the sums and counts are over these
        self._layers = dict.fromkeys(depths, 0)  # batches
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._sums = torch.zeros(5, dtype=dtype, device=device)  # own share, and the task's bounds
        self._at_least = torch.zeros(LAM_BINS + 1, dtype=dtype, device=device)  # samples with lambda >= k / LAM_BINS
        self._edges = torch.arange(LAM_BINS + 1, device=device)[:, None] / LAM_BINS
        self._waiting: list[tuple[Tensor, ...]] = []  # per mixed batch: lam, own share, partner, labels

    def add(self, plan: MixPlan, labels: Tensor, shape: Sequence[int]) -> None:
        """Add a step. No value is read.

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
        sizes = torch.tensor([len(lam) for lam in lams])
        starts = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)  # of each sample's batch
        plan = MixPlan(torch.cat(lams), torch.cat(partners) + starts).to(self._device)
        own = torch.cat([own.expand_as(lam) for own, lam in zip(owns, lams, strict=True)])
        own = own.to(self._device, non_blocking=True)
        objective = self._objective
        bounds = objective.task.bounds(plan, torch.cat(batches), self._classes, objective.label_smoothing)
        self._sums += torch.stack([own, *bounds]).sum(dim=1, dtype=self._sums.dtype)
        # Each edge is the float32 next to it, so that a lambda of 0.35 is in the bin that begins there. Counted as
        # floats, exact up to 2^24 of them, in a fifth of the time.
        above = torch.ge(own, self._edges, out=torch.empty(LAM_BINS + 1, len(own), device=self._device))
        self._at_least += above.sum(dim=1)
        self._waiting.clear()

    def read(self) -> dict[str, Any]:
        """Return the epoch's part of a row of ``metrics.jsonl``; called at its end, waits for the device."""
        if self._waiting:
            self._fold()
        own, same, entropy, floor, ceiling = self._sums.tolist()
        *at_least, whole = map(int, self._at_least.tolist())
        unmixed = self._samples - self._mixed
        objective, task = self._objective, self._objective.task
        clean = task.clean_floor(self._classes, objective.label_smoothing)
        row: dict[str, Any] = {
            f"train/{task.score_key}_ceiling": (ceiling + unmixed) / self._samples,
            "train/loss_floor": objective.weigh((floor + unmixed * clean) / self._samples, clean),
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
