"""The processes that train one run together: which of them this is, and what they tell each other.

They are started by ``torchrun``, or as tasks of a step by Slurm's ``srun``. One process is the usual case: nothing is
sent then, and ``torch.distributed`` is not imported.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from vicinal.errors import UserError, first_line

if TYPE_CHECKING:
    from torch import Tensor

LONGEST = timedelta(days=1)
"""Time that a process waits for another: the first one may load data, or wait for a run, for hours."""
PORTS = range(20_000, 40_000)  # of a step under Slurm, by the number of its job and its own
STEP = 1009  # ports between two steps of a job: jobs that run at a time on a node have close numbers

VARIABLES = (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"))
"""Of torchrun, and of Slurm's srun: the number of the process, how many there are, and its number on its machine."""


class LostProcessError(UserError):
    """Another process of the run has ended, so that nothing more can be computed together."""


_runs = itertools.count()  # of this process; the same in all that work on them together


@dataclass(frozen=True)
class World:
    """The processes of this run: this one is number ``rank`` of ``size``, and ``local_rank`` on its machine.

    Every method but :meth:`split` is called by all of them at the same point of the program, and waits for them. Raises
    LostProcessError where one of them has ended.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    def split(self, count: int) -> range:
        """Return the numbers below ``count`` that belong to this process: as many for each, to within one."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in their order: plain containers and tensors, which come to the CPU."""
        if self.size == 1:
            return [value]
        from torch.utils._pytree import tree_map

        values: list[Any] = [None] * self.size
        with _together():
            _distributed().all_gather_object(values, tree_map(_on_cpu, value))
        return values

    def first(self, value: Any = None) -> Any:
        """Return the value of the first process, rank 0."""
        if self.size == 1:
            return value
        values = [value]
        with _together():
            _distributed().broadcast_object_list(values, src=0)
        return values[0]

    def largest(self, number: int) -> int:
        """Return the largest of the numbers of all processes."""
        if self.size == 1:
            return number
        import torch

        found = torch.tensor(number)
        with _together():
            distributed = _distributed()
            distributed.all_reduce(found, distributed.ReduceOp.MAX)
        return int(found)

    def add(self, vector: Tensor) -> None:
        """Replace a tensor by the sum of those of all processes, in the order that is fastest: not always the same."""
        if self.size > 1:
            with _together():
                _distributed().all_reduce(vector)

    def exchange(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """Send as many rows (n, ...) to each process, in their order, and return those that came, in that order too.

        Args:
            rows: of this process: those for the first process, then those for the next.
            counts: of the rows that each process sends to each.
        """
        received = rows.new_empty(sum(counts), *rows.shape[1:])
        with _together():
            _distributed().all_to_all_single(received, rows, list(counts), [counts[self.rank]] * self.size)
        return received

    def join(self, vector: Tensor) -> Tensor:
        """Return the vectors of all processes, of one length, one after the other."""
        joined = vector.new_empty(self.size * len(vector))
        with _together():
            _distributed().all_gather_into_tensor(joined, vector)
        return joined


ALONE = World()
"""One process, the usual case."""


@cache
def world() -> World:
    """Return the processes of this run by the environment, and connect them.

    Raises UserError: they cannot be connected.
    """
    found = processes()
    if found.size > 1:
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_device(found.local_rank % torch.cuda.device_count())
        try:
            os.environ |= _meeting_place(os.environ)
            # gloo for tensors on the CPU, NCCL for those on GPUs
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            distributed, store = _distributed(), _store(found)
            # After a restart torchrun's store still has what dead processes have said.
            restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            own = distributed.PrefixStore(f"restart{restarts}/run{next(_runs)}", store)
            distributed.init_process_group(backend, store=own, rank=found.rank, world_size=found.size, timeout=LONGEST)
            # So that none leaves, and takes the store away, while another reads in it. One that is gone shows later.
            with suppress(LostProcessError):
                found.largest(0)
        except (RuntimeError, ValueError, OSError, subprocess.CalledProcessError) as error:
            raise UserError(
                f"rank {found.rank} of {found.size} cannot reach the others ({first_line(error)})"
            ) from error
    return found


@contextmanager
def one_of_several_runs() -> Iterator[None]:
    """Inside, do one of the runs of this process; each has a connection of its own, which ends with it.

    So a process that still waits for the others of a run learns that nothing more is to come, as if they had ended, and
    never takes what they say of the next run for it. A process that leaves, at a signal, ends its connection anyway.
    """
    try:
        yield
    except Exception:
        _disconnect()
        raise
    _disconnect()


def _disconnect() -> None:
    if world().size > 1:  # connected, if it was not: the others wait for it
        _distributed().destroy_process_group()
    world.cache_clear()


@cache
def _store(found: World) -> Any:
    """Return the keys and values by which the processes meet, as long as they live: their first one keeps them."""
    store, *_ = next(_distributed().rendezvous("env://", found.rank, found.size, timeout=LONGEST))
    store.set_timeout(LONGEST)
    return store


def processes() -> World:
    """Return the processes of this run, which need not be connected. Raises as :func:`by_environment`."""
    return by_environment(os.environ)


def by_environment(environment: Mapping[str, str]) -> World:
    """Return the processes of a run as ``torchrun`` or Slurm's ``srun`` describes them.

    Under plain ``sbatch`` there is SLURM_NTASKS too, but only one process; within ``srun`` there is a step.
    Raises UserError: a variable is no integer in its range.
    """
    for rank, size, local in VARIABLES:
        if rank in environment and _integer(environment, size, 1, 1) > 1:
            count = _integer(environment, size, 1)
            return World(_integer(environment, rank, 0, 0, count - 1), count, _integer(environment, local, 0, 0))
    return ALONE


def _integer(environment: Mapping[str, str], name: str, default: int, low: int = 1, high: int | None = None) -> int:
    value = environment.get(name, str(default))
    if not value.isascii() or not value.isdigit() or int(value) < low or (high is not None and int(value) > high):
        raise UserError(f"{name}={value}: must be an integer {f'>= {low}' if high is None else f'in [{low}, {high}]'}")
    return int(value)


def _meeting_place(environment: Mapping[str, str]) -> dict[str, str]:
    """Return where the processes meet, if ``torchrun`` has not said it: the first node of Slurm's step."""
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "localhost")
    if "MASTER_ADDR" not in environment and any(sign in nodes for sign in ",["):
        listed = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
        nodes = listed.stdout.split()[0]
    job, step = (int(environment.get(name, 0)) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    port = PORTS[(job + STEP * step) % len(PORTS)]
    return {
        "MASTER_ADDR": environment.get("MASTER_ADDR", nodes),
        "MASTER_PORT": environment.get("MASTER_PORT", str(port)),
    }


def _on_cpu(value: Any) -> Any:
    return value.cpu() if hasattr(value, "cpu") else value


def _distributed() -> Any:
    import torch.distributed

    return torch.distributed


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo and NCCL have no type of their own for a peer that is gone
        raise LostProcessError("another process of this run has ended; its own output may tell why") from error
