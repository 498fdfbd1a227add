"""The rates of weights that have their own, against the update written by hand."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from vicinal.training.parameter_groups import grouped, norm_biases

LR, MOMENTUM, DECAY, FACTOR = 0.1, 0.8, 0.02, 64.0


class Net(nn.Module):
    """One of each kind of normalisation, and one whose bias is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.batch = nn.BatchNorm2d(4)
        self.instance = nn.InstanceNorm2d(4, affine=True)
        self.layer = nn.LayerNorm(4)
        self.group = nn.GroupNorm(2, 4)
        self.without = nn.BatchNorm2d(4, affine=False)
        self.frozen = nn.BatchNorm2d(4)
        self.frozen.bias.requires_grad = False
        self.head = nn.Linear(4, 2)
        self.head.weight.requires_grad = False


BIASES = {"batch.bias", "instance.bias", "layer.bias", "group.bias"}


def gradients(net: nn.Module, step: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {
        name: torch.randn(part.shape, generator=generator, dtype=torch.float64)
        for name, part in net.named_parameters()
        if part.requires_grad
    }


def test_biases_of_all_kinds_of_normalisation_are_found() -> None:
    net = Net()
    names = {id(part): name for name, part in net.named_parameters()}
    assert {names[id(bias)] for bias in norm_biases(net)} == BIASES


def test_nesterov_with_a_rate_of_their_own_for_the_biases() -> None:
    """w' = w - lr (d + m v'), v' = m v + d, d = gradient + decay w, with lr f and decay / f for the biases."""
    torch.manual_seed(0)
    net = Net().double()
    weights = {name: part.detach().clone() for name, part in net.named_parameters()}
    before = {name: part.clone() for name, part in weights.items()}
    speed: dict[str, Tensor] = {}
    optimizer = grouped(partial(SGD, lr=LR, momentum=MOMENTUM, weight_decay=DECAY, nesterov=True), net, FACTOR)
    for step in range(3):
        for name, gradient in gradients(net, step).items():
            net.get_parameter(name).grad = gradient
            factor = FACTOR if name in BIASES else 1.0
            change = gradient + DECAY / factor * weights[name]
            speed[name] = change if step == 0 else MOMENTUM * speed[name] + change
            weights[name] = weights[name] - LR * factor * (change + MOMENTUM * speed[name])
        optimizer.step()
    for name, part in net.named_parameters():
        torch.testing.assert_close(part.detach(), weights[name], rtol=1e-12, atol=1e-12)
        if not part.requires_grad:
            assert torch.equal(part, before[name])  # neither decayed nor moved
            assert part not in optimizer.state


def test_weight_decay_of_a_step_is_the_same_with_any_factor() -> None:
    """Of AdamW too, where it is apart from the gradient."""
    for factor in (1.0, FACTOR):
        net = Net().double()
        optimizer = grouped(partial(AdamW, lr=LR, weight_decay=DECAY), net, factor)
        for part in net.parameters():
            part.data.fill_(1.0)
            part.grad = torch.zeros_like(part) if part.requires_grad else None
        optimizer.step()
        expected = torch.full((4,), 1 - LR * DECAY, dtype=torch.float64)
        torch.testing.assert_close(net.batch.bias.detach(), expected)
        torch.testing.assert_close(net.conv.bias.detach(), expected)


def test_the_factor_one_is_the_optimizer_of_all_weights_in_their_order() -> None:
    net = Net()
    optimizer = grouped(partial(SGD, lr=LR), net)
    (group,) = optimizer.param_groups
    assert list(map(id, group["params"])) == list(map(id, net.parameters()))


def test_each_weight_is_in_one_group_and_the_first_has_the_rate_that_is_reported() -> None:
    net = Net()
    optimizer: Optimizer = grouped(partial(SGD, lr=LR), net, FACTOR)
    first, biases = optimizer.param_groups
    assert (first["lr"], biases["lr"]) == (LR, pytest.approx(LR * FACTOR))
    both = [*map(id, first["params"]), *map(id, biases["params"])]
    assert sorted(both) == sorted(map(id, net.parameters()))
