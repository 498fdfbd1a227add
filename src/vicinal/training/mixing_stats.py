"""Count what an epoch has mixed, from the plans of its steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vicinal.mixing import MixPlan
from vicinal.mixing.strategy import INPUT
from vicinal.tasks import Bounds
from vicinal.training.objective import Objective
from vicinal.training.stateful import Stateful

LAM_BINS = 20  # equal bins of [0, 1] in which lambda is counted; 1 belongs to the last
LARGEST_TARGET = 1024  # numbers of a target that is looked at
FOLDED_BATCHES = 64
"""Mixed batches that are counted at once: a step only keeps its plan, which is a few numbers per sample."""


class MixingStats(Stateful):
    """Counts of one epoch, kept on the device until they are read.

    The `depths` are where the strategy mixes, "input" or names of blocks, and `counts` the training samples per class.
    The lowest loss and the highest score of the objective are reported, as far as they are known.
    """

    STATE = ("batches", "samples", "mixed", "layers", "sums", "at_least", "waiting")

    def __init__(self, depths: Sequence[str], counts: Tensor, objective: Objective, device: torch.device) -> None:
        self._counts, self._objective, self._device = counts, objective, device
        self.batches = 0
        self.samples = 0
        self.mixed = 0  # samples of batches that were mixed; the sums and counts are over these
        self.layers = dict.fromkeys(depths, 0)  # batches
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.sums = torch.zeros(5, dtype=dtype, device=device)  # own share, and the task's bounds
        self.at_least = torch.zeros(LAM_BINS + 1, dtype=dtype, device=device)  # samples with lambda >= k / LAM_BINS
        self._edges = torch.arange(LAM_BINS + 1, device=device)[:, None] / LAM_BINS
        self.waiting: list[tuple[Tensor, ...]] = []  # per mixed batch: lam, own share, partner, targets

    def add(self, plan: MixPlan, targets: Tensor, shape: Sequence[int]) -> None:
        """Add a step: its plan on the host, targets (B, ...) on the device, and the shape (B, ...) of its inputs."""
        self.batches += 1
        self.samples += len(targets)
        if not plan.active:
            return
        self.mixed += len(targets)
        depth = INPUT if plan.layer is None else plan.layer
        self.layers[depth] = self.layers.get(depth, 0) + 1
        own = plan.own_share(shape)
        large = targets[0].numel() > LARGEST_TARGET  # too much to keep
        if large and targets.dim() > 2:
            targets = targets.new_zeros(len(targets), 0)  # a map, which no task bounds
        if large or not plan.pairs or plan.lam.device.type != "cpu":
            self._count(plan.to(self._device), own.expand_as(plan.lam), targets)
            return
        self.waiting.append((plan.lam, own, plan.partner, targets))
        if len(self.waiting) == FOLDED_BATCHES:
            self._fold()

    def add_shard(self, state: Mapping[str, Any]) -> None:
        """Add the counts of a part of the batches, from its state after :meth:`fold`."""
        self.batches += state["batches"]
        self.samples += state["samples"]
        self.mixed += state["mixed"]
        self.layers = {name: count + self.layers.get(name, 0) for name, count in state["layers"].items()}
        self.sums += state["sums"].to(self._device)
        self.at_least += state["at_least"].to(self._device)

    def fold(self) -> None:
        """Count the batches that wait."""
        if self.waiting:
            self._fold()

    def _fold(self) -> None:
        """Count the batches that wait, as if they were one."""
        lams, owns, partners, batches = zip(*self.waiting, strict=True)
        sizes = torch.tensor([len(lam) for lam in lams])
        starts = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)  # of each sample's batch
        plan = MixPlan(torch.cat(lams), torch.cat(partners) + starts).to(self._device)
        own = torch.cat([own.expand_as(lam) for own, lam in zip(owns, lams, strict=True)])
        self._count(
            plan, own, torch.cat([batch.to(self._device) for batch in batches])
        )  # a checkpoint's are on the host
        self.waiting.clear()

    def _count(self, plan: MixPlan, own: Tensor, targets: Tensor) -> None:
        own = own.to(self._device, non_blocking=True)
        objective = self._objective
        bounds = objective.task.bounds(plan, targets, len(self._counts), objective.loss)
        if bounds is None:
            bounds = Bounds(*own.new_full((4, len(own)), math.nan))
        clean = objective.task.clean_floor(self._counts, objective.loss)
        bounds = bounds._replace(floor=objective.lowest(plan, bounds.floor, clean))
        self.sums += torch.stack([own, *bounds]).sum(dim=1, dtype=self.sums.dtype)
        # Each edge is the float32 next to it, so that a lambda of 0.35 is in the bin that begins there. Counted as
        # floats, exact up to 2^24 of them, in a fifth of the time.
        above = torch.ge(own, self._edges, out=torch.empty(LAM_BINS + 1, len(own), device=self._device))
        self.at_least += above.sum(dim=1)

    def read(self) -> dict[str, Any]:
        """Return the epoch's part of a row of ``metrics.jsonl``; called at its end, waits for the device."""
        self.fold()
        own, same, entropy, floor, ceiling = self.sums.tolist()
        *at_least, whole = map(int, self.at_least.tolist())
        unmixed = self.samples - self.mixed
        objective, task = self._objective, self._objective.task
        clean = task.clean_floor(self._counts, objective.loss)
        row: dict[str, Any] = {}
        share = task.score_key is not None and task.metric(task.score_key).percent  # whose highest value is 1
        if share and not math.isnan(ceiling):
            row[f"train/{task.score_key}_ceiling"] = (ceiling + unmixed) / self.samples
        lowest = floor + (unmixed and unmixed * objective.lowest_unmixed(clean))
        if not math.isnan(lowest):
            row["train/loss_floor"] = lowest / self.samples
        if not self.layers:
            return row
        row |= {
            "mixing/lam_mean_partner": (self.mixed - own) / self.samples,
            "mixing/target_entropy": entropy / self.samples,
            "mixing/unmixed": (self.batches - sum(self.layers.values())) / self.batches,
        }
        if self.mixed:
            row |= {"mixing/empty_boxes": whole / self.mixed, "mixing/same_class": same / self.mixed}
        row = {name: value for name, value in row.items() if not math.isnan(value)}
        row |= {f"mixing/layer/{name}": count for name, count in self.layers.items()}
        counts = [one - other for one, other in zip(at_least, [*at_least[1:], 0], strict=True)]
        counts[-1] += unmixed
        return {**row, "mixing/lam": counts}
