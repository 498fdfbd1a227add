"""Sums of an epoch, and the first step whose loss was not a number."""

import math
import pickle

import pytest
import torch

from vicinal.errors import UserError
from vicinal.training.train_metrics import DivergedError, TrainMetrics

CPU = torch.device("cpu")


def add(train_metrics: TrainMetrics, loss: float) -> None:
    train_metrics.add(torch.tensor(loss), torch.ones(2), 2)


def test_means_are_over_samples_not_over_steps() -> None:
    train_metrics = TrainMetrics(CPU)
    train_metrics.add(torch.tensor(2.0), torch.tensor([1.0, 0.5, 0.0]), 3)
    train_metrics.add(torch.tensor(4.0), torch.tensor([1.0]), 1)
    assert (train_metrics.steps, train_metrics.samples) == (2, 4)
    assert train_metrics.read() == pytest.approx((2.5, 0.625), rel=1e-6)


def test_bf16_losses_are_summed_in_float32() -> None:
    train_metrics = TrainMetrics(CPU)
    for _ in range(1000):
        train_metrics.add(torch.tensor(1.0, dtype=torch.bfloat16), torch.ones(3), 3)
    assert train_metrics.read()[0] == 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("step", [1, 4, 7])
@pytest.mark.parametrize("after", [1.0, math.nan, math.inf])
def test_the_first_bad_step_is_named(bad: float, step: int, after: float) -> None:
    train_metrics = TrainMetrics(CPU)
    for number in range(1, 8):
        add(train_metrics, bad if number == step else after if number > step else 1.0)
    assert train_metrics.first_bad_step() == step


def test_the_message_names_the_moment_the_cause_and_the_way_out() -> None:
    error = DivergedError("since step 24", lr=0.25, precision="bf16")
    assert str(error) == (
        "the loss is not finite since step 24; the likely cause: the learning rate is too high (optimizer.lr=0.25); "
        "try a smaller one, scheduler.warmup_epochs=1 or trainer.clip_grad_norm=1"
    )
    assert isinstance(error, UserError)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_fp16_may_have_overflowed() -> None:
    assert "the likely cause: fp16 overflowed (trainer.precision=bf16), or the learning rate is too high" in str(
        DivergedError("since step 1", lr=1e-3, precision="fp16")
    )


def test_a_large_loss_is_finite() -> None:
    train_metrics = TrainMetrics(CPU)
    for _ in range(3):
        add(train_metrics, 3e38)  # whose sum is infinite in float32
    assert train_metrics.first_bad_step() is None
