"""Parts of a batch: sums that do not depend on who adds them, and gradients that are those of the whole batch."""

import math
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from vicinal.errors import UserError
from vicinal.training.shards import Shards, ShardSum, TreeSum
from vicinal.training.world import World, by_environment


def tree_by_hand(values: list[Tensor]) -> Tensor:
    """Cut at the largest power of two below their number."""
    if len(values) == 1:
        return values[0]
    half = 2 ** math.floor(math.log2(len(values) - 1))
    return tree_by_hand(values[:half]) + tree_by_hand(values[half:])


@given(st.integers(1, 40), st.randoms(use_true_random=False))
def test_a_tree_sum_does_not_depend_on_the_order(count: int, draw: Any) -> None:
    values = [torch.randn(5, generator=torch.Generator().manual_seed(number)) * 10.0**number for number in range(count)]
    order, tree = list(range(count)), TreeSum()
    draw.shuffle(order)
    for number in order:
        tree.add(number, values[number].clone())
    assert torch.equal(tree.total(), tree_by_hand(values))


@dataclass(frozen=True, kw_only=True)
class Threads(World):
    """Processes that are threads of this one: ``told`` has what each has said last."""

    told: list[Any]
    barrier: Barrier

    def meet(self, value: Any) -> list[Any]:
        self.told[self.rank] = value
        self.barrier.wait()
        values = [*self.told]
        self.barrier.wait()
        return values

    def exchange(self, rows: Tensor, counts: Any) -> Tensor:
        assert len(rows) == counts[self.rank] * self.size
        sent = zip(self.meet(rows), counts, strict=True)
        return torch.cat([rows[self.rank * count : (self.rank + 1) * count] for rows, count in sent]).clone()

    def join(self, vector: Tensor) -> Tensor:
        return torch.cat(self.meet(vector))


@pytest.mark.parametrize("size", [2, 3, 4, 5])
@pytest.mark.parametrize("each", [1, 2, 3, 5])
@pytest.mark.parametrize("length", [1, 7, 12])
def test_the_sum_over_processes_is_the_tree_over_all_parts(size: int, each: int, length: int) -> None:
    values = [torch.randn(length, generator=torch.Generator().manual_seed(part)) for part in range(size * each)]
    told: list[Any] = [None] * size
    barrier = Barrier(size, timeout=60)

    def process(rank: int) -> Tensor:
        world = Threads(rank, size, told=told, barrier=barrier)
        model = nn.Linear(length, 1, bias=False)
        total = ShardSum(model, Shards(size * each, world, exact=True))
        for part in world.split(size * each):
            total.begin(part)
            model.weight.grad = values[part][None].clone()
            total.take(part, 1.0)
        total.give()
        assert model.weight.grad is not None
        return model.weight.grad[0]

    with ThreadPoolExecutor(size) as pool:
        for found in pool.map(process, range(size)):
            assert torch.equal(found, tree_by_hand(values))


@given(st.integers(1, 50), st.integers(1, 12))
def test_every_batch_of_an_evaluation_has_one_process(count: int, size: int) -> None:
    shares = [World(rank, size).split(count) for rank in range(size)]
    assert [number for share in shares for number in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("batch", [8, 9, 11])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_parts_add_up_to_the_gradient_of_the_batch(batch: int, count: int) -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    x, y = torch.randn(batch, 4, dtype=torch.float64), torch.arange(batch) % 3
    nn.functional.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
    whole = [part.grad.clone() for part in model.parameters() if part.grad is not None]
    total = ShardSum(model, Shards(count))
    for shard, (inputs, targets) in enumerate(zip(x.tensor_split(count), y.tensor_split(count), strict=True)):
        total.begin(shard)
        model.zero_grad()
        share = len(targets) / batch
        (nn.functional.cross_entropy(model(inputs), targets) * share).backward()  # type: ignore[no-untyped-call]
        total.take(shard, share)
    total.give()
    for part, expected in zip(model.parameters(), whole, strict=True):
        torch.testing.assert_close(part.grad, expected, rtol=1e-12, atol=1e-14)


def test_running_statistics_are_the_mean_of_those_of_the_parts() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3, momentum=0.25))
    model.register_buffer("fixed", torch.tensor([1 / 3, 0.1]))
    norm: Any = model[0]
    norm.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    x, total = torch.randn(9, 3), ShardSum(model, Shards(3))
    means = []
    for shard, inputs in enumerate(x.tensor_split(3)):
        total.begin(shard)
        assert torch.equal(norm.running_mean, torch.tensor([1.0, 2.0, 3.0]))
        model.zero_grad()
        model(inputs).sum().backward()
        means.append(norm.running_mean.clone())
        total.take(shard, 1 / 3)
    total.give()
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(dim=0))
    assert norm.num_batches_tracked == 1
    assert torch.equal(model.fixed, torch.tensor([1 / 3, 0.1]))  # to the bit, although a third is no binary fraction


def test_a_parameter_that_no_part_reaches_has_a_gradient_of_zeros() -> None:
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    total = ShardSum(model, Shards(2))
    for shard in range(2):
        total.begin(shard)
        model.zero_grad()
        (model[0](torch.ones(1, 2)).sum() * 0.5).backward()
        total.take(shard, 0.5)
    total.give()
    assert model[1].weight.grad is not None
    assert not model[1].weight.grad.any()
    assert torch.equal(model[0].weight.grad, torch.ones(2, 2))


TORCHRUN = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
SRUN = {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "0", "SLURM_STEP_ID": "0"}
SBATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, World()),
        (TORCHRUN, World(3, 8, 1)),
        ({**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0"}, World()),
        ({"WORLD_SIZE": "8"}, World()),
        (SRUN, World(2, 4, 0)),
        (SBATCH, World()),
        ({**SBATCH, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"}, World()),
        ({**SRUN, **TORCHRUN}, World(3, 8, 1)),
    ],
)
def test_processes_by_environment(environment: dict[str, str], expected: World) -> None:
    assert by_environment(environment) == expected


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("RANK", "8", "in [0, 7]"),
        ("RANK", "-1", "in [0, 7]"),
        ("WORLD_SIZE", "many", ">= 1"),
        ("WORLD_SIZE", "0", ">= 1"),
        ("LOCAL_RANK", "1.5", ">= 0"),
    ],
)
def test_a_variable_that_is_no_number_of_a_process_is_refused(name: str, value: str, allowed: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"{name}={value}: must be an integer {allowed}")):
        by_environment({**TORCHRUN, name: value})
