"""W&B's process as the training sees it: told what happens, and waited for at the end of a run alone."""

from __future__ import annotations

import atexit
import logging
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import vicinal
from vicinal.tracking.wandb.settings import hidden, wished_mode

log = logging.getLogger(__name__)

MAIN = "from vicinal.tracking.wandb.server import main; main()"
"""What the process runs."""
ENVIRONMENT = re.compile("WANDB_.*|NETRC|HOME|.*_proxy", re.IGNORECASE)
"""The variables that wandb goes by, and reads once in a process."""
BEAT_SECONDS = 1.0
"""Between two signs of life of the process."""
SILENT_SECONDS = 30.0
"""After which the process is taken for stopped or stuck."""
LEAVE_SECONDS = 5.0
"""For the process to leave once it is told to; a tenth of a second is usual."""

Heard = Callable[..., None]
Purpose = tuple[str, dict[str, str]]


class WandbProcess:
    """One process, for one run after the other. None waits for it but :meth:`settle`, :meth:`close` and :meth:`kill`.

    Attributes:
        heard: called with the name and the arguments of each reply, in a thread of its own; also with ``died`` and the
            reason in words, once, when the process has ended of itself.
    """

    def __init__(self) -> None:
        self.heard: Heard = ignore
        self._purpose: Purpose | None = _purpose()
        self._messages: SimpleQueue[tuple[str, tuple[Any, ...]] | None] = SimpleQueue()
        self._told = False
        self._leaving = False
        self._lock = threading.Lock()
        self._settled: dict[int, threading.Event] = {}
        self._ended = False  # and heard of, if it was not asked to
        self._heard_at = time.monotonic()
        self._numbers = count()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by who reads it
        self._temporary = tempfile.mkdtemp(prefix="vicinal-wandb-")
        packages = str(Path(vicinal.__file__).parents[1])
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", MAIN, self._temporary],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={
                    **{name: value for name, value in os.environ.items() if not _unheard(name, value)},
                    "PYTHONPATH": os.pathsep.join([*filter(None, sys.path), packages]),
                    "TMPDIR": self._temporary,
                },
                start_new_session=True,  # a Ctrl-C is for the training
            )
        except OSError:
            self._errors.close()
            shutil.rmtree(self._temporary, ignore_errors=True)
            raise
        self._receiver = threading.Thread(target=self._receive, name="wandb", daemon=True)
        try:
            self._receiver.start()
            threading.Thread(target=self._send, name="wandb", daemon=True).start()
        except RuntimeError as error:  # no more threads for this user
            self.kill()
            raise OSError(str(error)) from error

    def usable(self) -> bool:
        """Whether it is still there, for the environment that this process has now."""
        return self._process.poll() is None and self._purpose == _purpose()

    def tell(self, name: str, *arguments: Any) -> None:
        """Have it call a method of its :class:`WandbRun`, after all that it has been told before; returns at once."""
        self._told = True
        self._messages.put((name, arguments))

    def settle(self, seconds: float) -> bool:
        """Wait until it has done all that it was told, or has ended; whether it has.

        Args:
            seconds: at most, and no longer than :data:`SILENT_SECONDS` for a process that gives no sign of life.
        """
        number, settled = next(self._numbers), threading.Event()
        with self._lock:
            if self._ended:
                return True
            self._settled[number] = settled
        self.tell("echo", number)
        began = time.monotonic()
        while True:
            until = min(began + seconds, max(began, self._heard_at) + SILENT_SECONDS)
            left = until - time.monotonic()
            if settled.wait(max(0.0, min(left, BEAT_SECONDS))):
                return True
            if left <= 0:
                return False

    def close(self) -> None:
        """Let it go when it has done what it was told, and wait for a moment until it has gone."""
        self._leaving = True
        self._messages.put(None)
        if not self._told:
            self.kill()
            return
        with suppress(subprocess.TimeoutExpired):  # it leaves by itself, later
            self._process.wait(LEAVE_SECONDS)

    def retire(self) -> None:
        """Have it end what it is at, and then leave; the next run has another."""
        self._leaving, self._purpose = True, None
        self._messages.put(None)

    def kill(self) -> None:
        """wandb-core goes with it: it watches its parent."""
        self._leaving = True
        self._process.kill()
        self._process.wait()
        self._messages.put(None)  # no process is left to send to
        if self._receiver.ident is not None:
            self._receiver.join(LEAVE_SECONDS)  # it tidies up

    def _send(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        try:
            with pipe:
                while (message := self._messages.get()) is not None:
                    pipe.write(pickle.dumps(message))
                    pipe.flush()
        except OSError:  # the process has ended, which the other thread hears too
            return

    def _receive(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        with pipe, self._errors:
            while True:
                try:
                    name, arguments = pickle.load(pipe)
                except EOFError:
                    break
                except Exception:  # half a message, or not a message: it cannot be understood any more
                    self._process.kill()
                    break
                self._heard_at = time.monotonic()
                if name == "beat":
                    continue
                if name == "echo":
                    self._settled.pop(*arguments).set()
                elif name == "log":
                    log.log(*arguments)
                else:
                    self.heard(name, *arguments)
            code = self._process.wait()
            if not self._leaving:
                words = self._last_words() if code > 0 else ""
                self.heard("died", words or f"its process has ended with exit code {code}")
        shutil.rmtree(self._temporary, ignore_errors=True)
        with self._lock:
            self._ended = True
            for settled in self._settled.values():
                settled.set()

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def begin(config: Mapping[str, Any]) -> None:
    """Start the process if a run of that config may need one, so that it is ready when the run is."""
    if "wandb" in config["tracker"] and wished_mode(config["wandb"]["mode"])[0] != "disabled":
        with suppress(OSError):  # the run tries again, and says so
            process()


def process() -> WandbProcess:
    """The process of this process, started if need be. Raises OSError where none can be."""
    current = _State.process
    if current is None or not current.usable():
        if current is None:
            atexit.register(close)
        else:
            current.close()
        _State.process = None
        _State.process = WandbProcess()
    return _State.process  # type: ignore[return-value]


def close() -> None:
    """Let it go; the next run starts another."""
    if _State.process is not None:
        _State.process.close()
        _State.process = None


def _unheard(name: str, value: str) -> bool:
    """Whether W&B is not to see a variable: it is told that itself, or takes an empty one for a bad value."""
    return hidden(name) or (name.startswith("WANDB_") and not value)


class _State:
    process: WandbProcess | None = None


def _purpose() -> Purpose:
    return MAIN, {name: value for name, value in os.environ.items() if ENVIRONMENT.fullmatch(name)}


def ignore(name: str, *arguments: object) -> None:
    """Hears what is said between two runs."""
