"""A Ray cluster, or a Ray of this command's own on this machine: its nodes, and whether runs can work on them."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vicinal.errors import ConfigError, UserError, first_line
from vicinal.launch.ray_worker import OWN, Place, look
from vicinal.runs.files import make_folder
from vicinal.runs.signals import present
from vicinal.utils.cores import usable_cores

log = logging.getLogger(__name__)

LISTEN_SECONDS = 10  # for a connection to an address
ANSWER_SECONDS = 60  # for a cluster to answer
LOOK_SECONDS = 120  # for a node to start a worker, which imports from a disk that may be slow
OBJECTS = 80 * 2**20  # bytes of shared memory of a Ray of one's own, about the least that it takes: runs share files
VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to anyone
    "RAY_DEDUP_LOGS": "0",  # a line that two runs print is two lines
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else Ray announces that this will be its default
}
ASK = """
import json, logging, sys
import ray
ray.init(sys.argv[1], logging_level=logging.CRITICAL, log_to_driver=False)
print("nodes", json.dumps([node for node in ray.nodes() if node["Alive"]], default=str))
"""


@dataclass(frozen=True)
class Node:
    """A machine of a cluster, with what it has for runs."""

    id: str
    address: str
    cpus: float
    gpus: float

    def places(self, cpus: int, gpus: float) -> int:
        """Return how many runs that need so much it has room for at a time."""
        room = self.cpus // cpus
        if gpus:  # a part of a GPU is a part of one
            room = min(room, self.gpus // gpus if gpus >= 1 else self.gpus * math.floor(1 / gpus))
        return int(room)


def prepare(retries: int) -> None:
    """Set variables that Ray reads when it is imported, unless the user has: how often a run may lack memory, ..."""
    own = {**VARIABLES, "RAY_task_oom_retries": str(retries)}  # without end by Ray's default
    if not sys.stdout.isatty():
        own["RAY_COLOR_PREFIX"] = "0"
    for name, value in own.items():
        os.environ.setdefault(name, value)


def local_node() -> Node:
    """Return this machine."""
    import torch

    return Node("", "127.0.0.1", usable_cores(), torch.cuda.device_count())


def ask(address: str) -> list[Node]:
    """Return the nodes of a cluster. Raises UserError if it does not answer.

    A process of its own asks, since Ray waits for two minutes, and then ends the process.
    """
    if place := re.fullmatch(r"(?:ray://)?\[?(.+?)\]?:(\d+)", address):
        try:
            socket.create_connection((place[1], int(place[2])), LISTEN_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise ConfigError("hydra.launcher.address", address, f"no Ray cluster answers ({error})") from None
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", ASK, address],
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        late = f"no Ray cluster has answered within {ANSWER_SECONDS} s"
        raise ConfigError("hydra.launcher.address", address, late) from None
    answers = [line for line in done.stdout.splitlines() if line.startswith("nodes ")]
    if not answers:
        reasons = re.findall(r"^[\w.]*(?:Error|Exception)\b.*", done.stderr, re.MULTILINE) or ["no reason given"]
        raise ConfigError("hydra.launcher.address", address, f"no Ray cluster answers ({reasons[-1]})")
    return _nodes(json.loads(answers[-1].removeprefix("nodes ")))


def check_room(nodes: Sequence[Node], cpus: int, gpus: float) -> None:
    """Raise UserError if no node has so much for a run, which would wait for ever."""
    for key, wanted, most in (
        ("num_cpus", cpus, max((node.cpus for node in nodes), default=0)),
        ("num_gpus", gpus, max((node.gpus for node in nodes), default=0)),
    ):
        if wanted > most:
            lacks = f"no node has more than {most:g}, so a run would wait for ever"
            raise ConfigError(f"hydra.launcher.{key}", wanted, lacks)
    if not able(nodes, cpus, gpus):
        both = f"no node has so many GPUs and hydra.launcher.num_cpus={cpus}, so a run would wait for ever"
        raise ConfigError("hydra.launcher.num_gpus", gpus, both)


def able(nodes: Sequence[Node], cpus: int, gpus: float) -> list[Node]:
    """Return the nodes that have room for a run."""
    return [node for node in nodes if node.places(cpus, gpus)]


def connect(address: str | None, runtime_env: Mapping[str, Any]) -> list[Node]:
    """Connect this process to a cluster, or to a Ray of its own without an address; return the nodes.

    Raises UserError if that fails.
    """
    import ray

    if ray.is_initialized():
        return _nodes(ray.nodes())
    here = local_node()
    own = {
        "num_cpus": int(here.cpus),
        "num_gpus": int(here.gpus),
        "include_dashboard": False,
        "object_store_memory": OBJECTS,
    }
    handlers = {number: signal.getsignal(number) for number in present()}  # Ray has its own for SIGTERM
    # In Ray's processes they stay blocked: a Ctrl-C, or a `kill` for the whole group, is for the command.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, present())
    try:
        ray.init(
            address or "local",
            runtime_env=dict(runtime_env),
            logging_level=logging.ERROR,
            **({} if address else own),
        )
    except Exception as error:  # of many types
        raise ConfigError("hydra.launcher.address", address, f"Ray cannot be used ({first_line(error)})") from error
    finally:
        for number, handler in handlers.items():
            if handler is not None:  # else it is not Python's
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return _nodes(ray.nodes())


@contextmanager
def placed(output_dir: str, environment: Mapping[str, str]) -> Iterator[Place]:
    """Describe where this process is, for workers; inside, ``output_dir`` has a mark by which they know it."""
    own = {name: value for name, value in environment.items() if not OWN.fullmatch(name)}
    mark = Path(os.path.realpath(output_dir)) / f".ray-{uuid.uuid4().hex}"
    make_folder(mark.parent)
    mark.touch()
    try:
        yield Place(own, str(Path.cwd()), tuple(map(os.path.abspath, sys.path)), output_dir, str(mark))
    finally:
        mark.unlink(missing_ok=True)


def check_place(nodes: Sequence[Node], place: Place) -> None:
    """Raise UserError if a node lacks the folders of this command, or does not answer."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def looks(node: Node) -> Any:
        there = NodeAffinitySchedulingStrategy(node.id, soft=False)
        return ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(look).remote(place)

    answers = {looks(node): node for node in nodes}
    _, late = ray.wait([*answers], num_returns=len(answers), timeout=LOOK_SECONDS)
    for answer, node in answers.items():
        if answer in late:
            raise UserError(f"hydra/launcher=ray: node {node.address} has not answered within {LOOK_SECONDS} s")
        try:
            reason = ray.get(answer)
        except ray.exceptions.RayTaskError as error:  # such as a node without this package
            raise UserError(f"hydra/launcher=ray: node {node.address}: {first_line(error.cause)}") from error
        except ray.exceptions.RayError as error:  # it has died, and runs will go to others
            log.warning("node %s cannot be used: %s", node.address, first_line(error))
            continue
        if reason:
            raise UserError(reason)


def _nodes(described: Sequence[Mapping[str, Any]]) -> list[Node]:
    return [
        Node(
            node["NodeID"],
            node["NodeManagerAddress"],
            node["Resources"].get("CPU", 0),
            node["Resources"].get("GPU", 0),
        )
        for node in described
        if node["Alive"]
    ]
