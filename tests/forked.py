"""``train.py`` as a process that is forked from one which has imported torch: that saves the three seconds of a start.

For tests that start it many times and are about what comes after the imports. It is a process of its own, with its own
session, signals, files and children, as a started one.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMPORTS = ("torch._dynamo", "vicinal.cli.train", "vicinal.jobs.run", "vicinal.report.report")


class Forked:
    """A running ``train.py``, the leader of a session, with the methods of ``subprocess.Popen`` that tests call.

    Args:
        words: of its command line.
        folder: that it works in.
        out: file that takes what it prints, after what is there already.
        environment: all of its variables; by default those of this process.
    """

    def __init__(
        self, words: Sequence[str], folder: Path, out: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        request = {"words": [*words], "folder": str(folder), "environment": dict(environment or os.environ)}
        self.returncode: int | None = None
        self._answers, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, out.open("ab") as printed:
            SERVER.ask(json.dumps(request).encode(), [printed.fileno(), theirs.fileno()])
        self.pid = int(self._answers.recv(64))

    def poll(self) -> int | None:
        """Return its exit code, -signal if one has killed it, or None while it runs."""
        if self.returncode is None:
            self._answers.settimeout(0)
            self._look()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._answers.settimeout(timeout)
            self._look()
        if self.returncode is None:
            raise subprocess.TimeoutExpired("train.py", timeout or 0)
        return self.returncode

    def _look(self) -> None:
        try:
            self.returncode = int(self._answers.recv(64))
        except (BlockingIOError, TimeoutError):
            return
        self._answers.close()

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Server:
    """The process that all are forked from, once there is need of it; it ends with this one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: socket.socket | None = None

    def ask(self, request: bytes, descriptors: list[int]) -> None:
        with self._lock:
            if self._requests is None:
                self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with theirs:
                    command = [sys.executable, __file__]
                    self._process = subprocess.Popen(command, stdin=theirs, cwd=ROOT, start_new_session=True)
            socket.send_fds(self._requests, [request], descriptors)


SERVER = Server()


def _serve(requests: socket.socket) -> None:
    """Fork a process for each request, and one that waits for it and tells how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        request, descriptors, *_ = socket.recv_fds(requests, 2**20, 2)
        if not request:
            os._exit(0)
        if os.fork() == 0:
            break
        for descriptor in descriptors:
            os.close(descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    requests.detach()
    printed, answers = descriptors
    if pid := os.fork():
        os.write(answers, b"%d" % pid)
        _, status = os.waitpid(pid, 0)
        os.write(answers, b"%d" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    os.close(answers)
    _become(printed, **json.loads(request))


def _become(printed: int, words: list[str], folder: str, environment: dict[str, str]) -> None:
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # pytest may run under nohup
    os.chdir(folder)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, standard in ((nothing, 0), (printed, 1), (printed, 2)):
        os.dup2(source, standard)
    os.close(nothing)
    os.close(printed)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = str(ROOT)
    sys.argv = [str(ROOT / "train.py"), *words]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    for name in IMPORTS:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=0))
