"""Every schedule against its closed form, at every step."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from vicinal.training.schedules import constant, cosine, multistep, onecycle

PEAK = 0.4


def rates(schedule: Callable[..., LRScheduler], total: int, per_epoch: int, **keys: Any) -> list[float]:
    """The rate of each step, and the one that is left after the last."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = schedule(optimizer, total_steps=total, steps_per_epoch=per_epoch, **keys)
    seen = []
    for _ in range(total):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return [*seen, optimizer.param_groups[0]["lr"]]


def close(expected: Sequence[float]) -> Any:
    return pytest.approx(expected, rel=1e-9, abs=1e-12)


def rise(step: int, warmup: int) -> float:
    return PEAK * (step + 1) / (warmup + 1)


@pytest.mark.parametrize("epochs", [0, 0.5, 2])
def test_constant(epochs: float) -> None:
    warmup = round(epochs * 6)
    expected = [rise(step, warmup) if step < warmup else PEAK for step in range(31)]
    assert rates(constant, 30, 6, warmup_epochs=epochs) == close(expected)


@pytest.mark.parametrize("epochs", [0, 0.5, 2])
def test_multistep_counts_milestones_from_the_start_of_training(epochs: float) -> None:
    warmup = round(epochs * 6)
    steps = (15, 24)  # 2.5 and 4 epochs of 6 steps, whatever the warm-up
    decayed = [PEAK * 0.2 ** sum(step >= milestone for milestone in steps) for step in range(31)]
    expected = [rise(step, warmup) if step < warmup else decayed[step] for step in range(31)]
    assert rates(multistep, 30, 6, milestones=[2.5, 4], gamma=0.2, warmup_epochs=epochs) == close(expected)


@pytest.mark.parametrize("min_lr", [0.0, 0.03])
@pytest.mark.parametrize("epochs", [0, 0.5, 2])
def test_cosine_ends_at_the_least_rate(epochs: float, min_lr: float) -> None:
    warmup = round(epochs * 6)

    def decay(step: int) -> float:
        return min_lr + (PEAK - min_lr) * (1 + math.cos(math.pi * (step - warmup) / (30 - warmup))) / 2

    expected = [rise(step, warmup) if step < warmup else decay(step) for step in range(31)]
    seen = rates(cosine, 30, 6, min_lr=min_lr, warmup_epochs=epochs)
    assert seen == close(expected)
    assert seen[-1] == pytest.approx(min_lr, abs=1e-15)


def test_one_step_of_training() -> None:
    assert rates(constant, 1, 1) == close([PEAK, PEAK])
    assert rates(cosine, 1, 1, min_lr=0.1) == close([PEAK, 0.1])
    assert rates(multistep, 1, 1) == close([PEAK, PEAK])


def test_onecycle() -> None:
    low, last, top = PEAK / 10, PEAK / 10 / 100, 5  # .3 of 20 rates, the peak is the sixth of them

    def anneal(start: float, end: float, share: float) -> float:
        return end + (start - end) * (1 + math.cos(math.pi * share)) / 2

    expected = [
        anneal(low, PEAK, step / top) if step <= top else anneal(PEAK, last, (step - top) / (19 - top))
        for step in range(20)
    ]
    seen = rates(onecycle, 19, 4, pct_start=0.3, div_factor=10, final_div_factor=100)
    assert seen == close(expected)
    assert (seen.index(max(seen)), max(seen)) == (top, PEAK)


def test_onecycle_on_straight_lines() -> None:
    """The triangle of arXiv 2404.00498: from a fifth of the peak, and down to 0.07 of it."""
    steps, top = 99, 22  # .23 of 100 rates, the peak is the 23rd of them
    expected = [
        PEAK * (0.2 + 0.8 * step / top if step <= top else 1 - 0.93 * (step - top) / (steps - top))
        for step in range(steps + 1)
    ]
    keys = {"pct_start": 0.23, "div_factor": 5, "final_div_factor": 0.2 / 0.07, "anneal_strategy": "linear"}
    assert rates(onecycle, steps, 4, **keys) == close(expected)


@pytest.mark.parametrize(
    ("schedule", "keys"),
    [
        (constant, {"warmup_epochs": 1}),
        (multistep, {"milestones": [2, 3]}),
        (cosine, {"warmup_epochs": 1}),
        (onecycle, {}),
        (onecycle, {"anneal_strategy": "linear"}),
    ],
)
def test_a_group_with_its_own_rate_keeps_its_ratio_to_the_first(
    schedule: Callable[..., LRScheduler], keys: dict[str, Any]
) -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (PEAK, 64 * PEAK)]
    optimizer = torch.optim.SGD(groups)
    scheduler = schedule(optimizer, total_steps=30, steps_per_epoch=6, **keys)
    alone = rates(schedule, 30, 6, **keys)
    for expected in alone[:-1]:
        first, other = (group["lr"] for group in optimizer.param_groups)
        assert first == expected
        assert other == pytest.approx(64 * expected, rel=1e-12)
        optimizer.step()
        scheduler.step()


def test_onecycle_leaves_momentum_alone() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=PEAK, momentum=0.7)
    scheduler = onecycle(optimizer, total_steps=10, steps_per_epoch=5)
    for _ in range(10):
        optimizer.step()
        scheduler.step()
        assert optimizer.param_groups[0]["momentum"] == 0.7


@pytest.mark.parametrize(
    ("schedule", "keys", "line"),
    [
        (constant, {"warmup_epochs": 5}, "warmup_epochs: 30 steps of warm-up leave none of the 30 steps of training"),
        (cosine, {"warmup_epochs": 9}, "warmup_epochs: 54 steps of warm-up leave none of the 30 steps of training"),
        (
            multistep,
            {"milestones": [4, 2]},
            "milestones=[4, 2]: must rise, and lie after the warm-up of 0.0 epochs",
        ),
        (
            multistep,
            {"milestones": [1, 3], "warmup_epochs": 1},
            "milestones=[1, 3]: must rise, and lie after the warm-up of 1 epochs",
        ),
        (multistep, {"milestones": [0]}, "milestones=[0]: must rise, and lie after the warm-up of 0.0 epochs"),
        (onecycle, {"pct_start": 0.0}, "pct_start=0.0: must be in (0, 1)"),
        (onecycle, {"pct_start": 1.0}, "pct_start=1.0: must be in (0, 1)"),
        (onecycle, {"anneal_strategy": "cosine"}, "anneal_strategy=cosine: must be one of cos, linear"),
    ],
)
def test_refusals(schedule: Callable[..., LRScheduler], keys: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        rates(schedule, 30, 6, **keys)
