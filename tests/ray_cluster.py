"""A Ray cluster of two nodes, which are two raylets on this machine, for the tests of ``hydra/launcher=ray``."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

SECONDS = 90
QUICK = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "4",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_memory_monitor_refresh_ms": "0",
}
"""A lost node is noticed after seconds, nothing is sent to anyone, and other programs may fill the memory."""


def missing() -> str:
    """Why no Ray can be started here; "" if it can."""
    return "" if find_spec("ray") else "needs ray: pip install -e '.[ray]'"


@dataclass
class Cluster:
    address: str
    environment: dict[str, str]  # for commands that use it
    nodes: list[subprocess.Popen[bytes]]

    def raylet(self, node: int) -> int:
        """Process of a node that runs its workers."""
        return next(pid for pid in children(self.nodes[node].pid) if command(pid).partition(" ")[0].endswith("/raylet"))

    def workers(self, node: int) -> list[int]:
        """Processes of a node that do a task now; Ray writes into their command line which."""
        return [
            pid
            for pid in children(self.raylet(node))
            if command(pid).startswith("ray::") and not command(pid).startswith(("ray::IDLE", "ray::Dash", "ray::Run"))
        ]


def children(parent: int) -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(file.parent.name))
    return found


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


@contextmanager
def running(cpus: int = 1, **variables: str) -> Iterator[Cluster]:
    """Inside, a cluster of two nodes with so many CPUs each."""
    folder = Path(mkdtemp(prefix="ray-"))  # a short path, since there are sockets in it
    token = folder / "token"
    token.write_text(uuid.uuid4().hex)
    address = f"127.0.0.1:{_free_port()}"
    # The folder of the nodes is another one than that of the commands, and they lack its variables.
    environment = {**os.environ, **QUICK, "RAY_AUTH_TOKEN_PATH": str(token)}
    cluster = Cluster(address, environment, [])
    ray = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block"]
    own = [f"--num-cpus={cpus}", "--num-gpus=0", "--object-store-memory=80000000", "--disable-usage-stats"]
    head = ["--head", "--node-ip-address=127.0.0.1", f"--port={address.rpartition(':')[2]}", f"--temp-dir={folder}"]
    head += ["--include-dashboard=false", f"--ray-client-server-port={_free_port()}"]
    try:
        for number, words in enumerate((head, [f"--address={address}", "--node-ip-address=127.0.0.1"])):
            out = folder / f"node{number}.txt"
            with out.open("wb") as file:
                node = subprocess.Popen(
                    [*ray, *words, *own],
                    env={**environment, **variables},
                    cwd=folder,
                    stdout=file,
                    stderr=file,
                    start_new_session=True,
                )
            cluster.nodes.append(node)
            _until(lambda out=out, node=node: "Ray runtime started" in out.read_text() or node.poll() is not None)  # type: ignore[misc]
            assert node.poll() is None, out.read_text()[-2000:]
        yield cluster
    finally:
        for node in reversed(cluster.nodes):
            node.terminate()
        for node in cluster.nodes:
            with suppress(subprocess.TimeoutExpired):
                node.wait(20)
            with suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGKILL)  # what a killed raylet has left behind
        shutil.rmtree(folder, ignore_errors=True)


def _until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end, "Ray does not start"
        time.sleep(0.2)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
