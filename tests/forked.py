"""``train.py``, or a script, as a process that is forked from one which has imported all that they need.

That saves the five seconds of a start, for tests that start it many times and are about what comes after the imports.
It is a process of its own, with its own session, signals, files and children, as a started one.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
TRAIN = ROOT / "train.py"
IMPORTS = (
    *("torch._dynamo", "vicinal.cli.train", "vicinal.jobs.run", "vicinal.report.report"),
    *("jinja2", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "pandas", "scipy.stats"),
)


class Forked:
    """A running program, the leader of a session, with the methods of ``subprocess.Popen`` that tests call.

    Args:
        words: of its command line.
        folder: that it works in.
        out: file that takes what it prints, after what is there already.
        environment: all of its variables; by default those of this process.
        err: the same for its standard error; by default ``out``.
        program: its file.
    """

    def __init__(
        self,
        words: Sequence[str],
        folder: Path,
        out: Path,
        environment: Mapping[str, str] | None = None,
        *,
        err: Path | None = None,
        program: Path = TRAIN,
    ) -> None:
        request = {"words": [str(program), *words], "folder": str(folder)}
        request["environment"] = dict(os.environ if environment is None else environment)
        self.returncode: int | None = None
        self._answers, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, out.open("ab") as printed, (err or out).open("ab") as complained:
            streams = [printed.fileno(), complained.fileno(), theirs.fileno()]
            SERVER.ask(json.dumps(request).encode(), streams)
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


def run(
    words: Sequence[str], folder: Path = ROOT, environment: Mapping[str, str] | None = None, program: Path = TRAIN
) -> subprocess.CompletedProcess[str]:
    """Do as ``subprocess.run`` with ``capture_output`` and ``text``."""
    with tempfile.TemporaryDirectory() as place:
        out, err = Path(place, "out"), Path(place, "err")
        code = Forked(words, folder, out, environment, err=err, program=program).wait(300)
        return subprocess.CompletedProcess([program, *words], code, out.read_text(), err.read_text())


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
                    # vicinal.cli.train reads HYDRA_FULL_ERROR as it is imported, and sets it in a test's own process.
                    known = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
                    self._process = subprocess.Popen(command, stdin=theirs, cwd=ROOT, env=known, start_new_session=True)
            socket.send_fds(self._requests, [request], descriptors)


SERVER = Server()


def _serve(requests: socket.socket) -> None:
    """Fork a process for each request, and one that waits for it and tells how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        request, descriptors, *_ = socket.recv_fds(requests, 2**20, 3)
        if not request:
            os._exit(0)
        if os.fork() == 0:
            break
        for descriptor in descriptors:
            os.close(descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    requests.detach()
    *streams, answers = descriptors
    if pid := os.fork():
        os.write(answers, b"%d" % pid)
        _, status = os.waitpid(pid, 0)
        os.write(answers, b"%d" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    os.close(answers)
    _become(streams, **json.loads(request))


def _become(streams: list[int], words: list[str], folder: str, environment: dict[str, str]) -> None:
    os.setsid()
    os.fsync = os.fstat  # what a killed process has written stays, and no test cuts the power
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # pytest may run under nohup
    os.chdir(folder)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for standard, source in enumerate((nothing, *streams)):
        os.dup2(source, standard)
        os.close(source)
    os.environ.clear()
    os.environ.update(environment)
    places = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [str(Path(words[0]).parent), *(place for place in places if place and place not in sys.path)]
    sys.argv = words
    _run(words[0])


def _run(program: str) -> None:
    """End without clean-up by Python, as ``train.py`` does: libraries that it would not have imported complain then."""
    code: object = 1

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))

    atexit.register(leave)
    try:
        runpy.run_path(program, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code
        raise


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    for name in IMPORTS:
        importlib.import_module(name)
    importlib.import_module("tests.parsed").parse()
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=0))
