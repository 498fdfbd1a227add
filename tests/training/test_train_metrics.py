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


def test_sums_are_those_of_one_step_after_another() -> None:
    """To the bit, however many wait, and with a checkpoint anywhere between."""
    generator = torch.Generator().manual_seed(0)
    losses, scores = torch.rand(200, generator=generator), torch.rand(200, 7, generator=generator)
    sizes = [7 - step % 3 for step in range(200)]
    expected = torch.zeros(2)
    train_metrics = TrainMetrics(CPU)
    for step, (loss, score, size) in enumerate(zip(losses, scores, sizes, strict=True)):
        expected += torch.stack([loss * size, score[:size].sum()])
        train_metrics.add(loss, score[:size], size)
        if step in (0, 63, 64, 100, 127):
            state = train_metrics.state_dict()
            assert torch.equal(state["sums"], expected)
            train_metrics = TrainMetrics(CPU)
            train_metrics.add(torch.tensor(math.nan), None, 1)  # of before the state was loaded
            train_metrics.load_state_dict(state)
    assert train_metrics.steps == 200
    assert train_metrics.samples == sum(sizes)
    assert train_metrics.read() == tuple((expected / sum(sizes)).tolist())
    assert train_metrics.first_bad_step() is None


@pytest.mark.parametrize("step", [1, 63, 64, 65, 128, 130])
def test_the_first_bad_step_is_found_among_many(step: int) -> None:
    train_metrics = TrainMetrics(CPU)
    for number in range(1, 132):
        add(train_metrics, math.nan if number in (step, 131) else 1.0)
    assert train_metrics.first_bad_step() == step


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
