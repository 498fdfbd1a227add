"""Learning-rate schedules in steps, with linear warm-up: thin choices of ``torch.optim.lr_scheduler``.

Each is called as ``schedule(optimizer, total_steps, steps_per_epoch, **own keys)`` and stepped once per training step.
The optimizer's ``lr`` is the peak.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
)


def constant(optimizer: Optimizer, total_steps: int, steps_per_epoch: int, warmup_epochs: float = 0.0) -> LRScheduler:
    """Stay at the peak."""
    return _warmed_up(optimizer, ConstantLR(optimizer, factor=1.0), round(warmup_epochs * steps_per_epoch), total_steps)


def multistep(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    milestones: Sequence[float] = (100, 150),
    gamma: float = 0.1,
    warmup_epochs: float = 0.0,
) -> LRScheduler:
    """Multiply by ``gamma`` at each of the ``milestones``, in epochs from the start of training (warm-up included)."""
    if gamma < 0:
        raise ValueError(f"gamma={gamma}: must be a finite number >= 0")
    warmup = round(warmup_epochs * steps_per_epoch)
    steps = [round(epoch * steps_per_epoch) - warmup for epoch in milestones]
    if sorted(steps) != list(steps) or any(step <= 0 for step in steps):
        raise ValueError(
            f"milestones={list(milestones)}: must rise, and lie after the warm-up of {warmup_epochs} epochs"
        )
    return _warmed_up(optimizer, MultiStepLR(optimizer, steps, gamma), warmup, total_steps)


def cosine(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    min_lr: float = 0.0,
    warmup_epochs: float = 0.0,
) -> LRScheduler:
    """Follow half a cosine from the peak to ``min_lr`` at the end of training (arXiv 1608.03983, without restarts)."""
    peak = min(group["lr"] for group in optimizer.param_groups)  # biases of normalisation may have a lower one
    if not 0 <= min_lr <= peak:
        raise ValueError(f"min_lr={min_lr}: must be in [0, {peak:g}], the peak by optimizer.lr and norm_bias_lr")
    warmup = round(warmup_epochs * steps_per_epoch)
    decay = CosineAnnealingLR(optimizer, T_max=max(total_steps - warmup, 1), eta_min=min_lr)
    return _warmed_up(optimizer, decay, warmup, total_steps)


def onecycle(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    anneal_strategy: str = "cos",
) -> LRScheduler:
    """Rise from peak / ``div_factor`` for a share ``pct_start`` of the steps, then fall (Smith, arXiv 1708.07120).

    Both by half a cosine (``cos``), or on a straight line (``linear``). The optimizer's momentum does not change.
    """
    if anneal_strategy not in ("cos", "linear"):
        raise ValueError(f"anneal_strategy={anneal_strategy}: must be one of cos, linear")
    if not 0 < pct_start < 1:
        raise ValueError(f"pct_start={pct_start}: must be in (0, 1)")
    if pct_start * total_steps <= 1:
        raise ValueError(f"pct_start={pct_start}: must be more than a step, 1/{total_steps} of this training")
    for name, factor in {"div_factor": div_factor, "final_div_factor": final_div_factor}.items():
        if factor <= 0:
            raise ValueError(f"{name}={factor}: must be a finite number > 0")
    return OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=total_steps + 1,  # the step after the last one sets a rate that nothing uses
        pct_start=pct_start,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        cycle_momentum=False,
        anneal_strategy=anneal_strategy,  # type: ignore[arg-type]  # checked above
    )


def _warmed_up(optimizer: Optimizer, schedule: LRScheduler, warmup: int, total_steps: int) -> LRScheduler:
    """Put ``warmup`` steps that rise linearly, the first at 1/(warmup + 1) of the peak, before ``schedule``."""
    if warmup == 0:
        return schedule
    if warmup >= total_steps:
        raise ValueError(f"warmup_epochs: {warmup} steps of warm-up leave none of the {total_steps} steps of training")
    rise = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return SequentialLR(optimizer, [rise, schedule], milestones=[warmup])
