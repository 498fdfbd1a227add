"""What a worker process of Ray does: runs of a sweep, at the place of the command that has started it.

Ray imports this file before the environment is that of the command, so nothing here may import torch.
"""

from __future__ import annotations

import os
import pickle
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from vicinal.errors import ConfigError, UserError
from vicinal.launch.worker import posted
from vicinal.runs.signals import leave_an_import

GPUS = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
OWN = re.compile("|".join(("RAY_.*", *GPUS)))
"""Variables of a worker that are Ray's: it sets them for each task, or needs them itself."""


@dataclass(frozen=True)
class Place:
    """What a command has around it, which its runs find in every worker.

    It is sent as an argument, not as Ray's ``runtime_env``, which is shown to all who may see the cluster.
    """

    environment: Mapping[str, str]  # without variables that match OWN
    folder: str  # working directory
    path: tuple[str, ...]  # of imports
    output_dir: str  # as the config has it
    mark: str  # file in it that only this command has written

    def enter(self) -> None:
        """Make this process one of the command's. Raises UserError if its folders are not on this node."""
        os.environ.update(self.environment)
        for name in os.environ.keys() - self.environment.keys():
            if not OWN.fullmatch(name):
                del os.environ[name]
        sys.path.extend(entry for entry in self.path if entry not in sys.path)
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise UserError(f"node {_node()} does not see this folder: {self.folder} ({error.strerror})") from None
        if not Path(self.mark).exists():
            lacks = f"node {_node()} does not see it; on several machines it has to be on a shared disk"
            raise ConfigError("output_dir", self.output_dir, lacks)


@dataclass(frozen=True)
class Setup:
    """What all runs of a sweep have in common."""

    place: Place
    gpus: bool  # whether Ray gives a run GPUs; else it sees none
    raises: bool  # a run that fails raises its error, so that Ray does it again
    job: bytes  # pickled function that does a run, from its number and words; rebuilt when the place is entered


def look(place: Place) -> str:
    """Return why runs cannot work on this node; "" if they can."""
    try:
        place.enter()
    except UserError as error:
        return str(error)
    return ""


def work(setup: Setup, number: int, words: list[str]) -> JobReturn:
    """Do one run; return what can be sent to another process.

    It saves and leaves at ``ray.cancel``, which is a SIGINT to Python, and at SIGTERM. An error of the run is in its
    return, or raised if the setup says so; others are raised.
    """
    with _leaving() as stopped:
        setup.place.enter()
        if not setup.gpus:
            os.environ.update(dict.fromkeys(GPUS, ""))
        done: JobReturn = pickle.loads(setup.job)(number, words)
        if done.status == JobStatus.FAILED and stopped:  # a library has made an error of it
            _leave(stopped[0], None)
    done = posted(done)
    if done.status == JobStatus.FAILED and setup.raises:
        raise done._return_value
    return done


@contextmanager
def _leaving() -> Iterator[list[int]]:
    """Inside, signals raise what Ray takes for the end of a task; the list has those that came."""
    came: list[int] = []

    def leave(number: int, frame: FrameType | None) -> None:
        came.append(number)
        _leave(number, frame)

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # Ray's processes may have it blocked
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    leave_an_import(number, frame)
    if number == signal.SIGINT:
        raise KeyboardInterrupt  # the task is cancelled
    raise SystemExit(128 + number)  # the worker ends, and Ray starts the run elsewhere


def _node() -> Any:
    import ray

    return ray.util.get_node_ip_address()
