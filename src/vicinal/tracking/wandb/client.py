"""W&B's process, as the training sees it: it gets messages, and only the end of a run waits for it."""

from __future__ import annotations

import atexit
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
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import vicinal
from vicinal.tracking.wandb.settings import hidden, requested_mode

MAIN = "from vicinal.tracking.wandb.server import main; main()"  # code of the process
ENVIRONMENT = re.compile("WANDB_.*|NETRC|HOME|.*_proxy", re.IGNORECASE)  # variables that wandb reads, once per process
SILENT_SECONDS = 30.0  # without a sign of life, after which the process counts as stopped or stuck
LEAVE_SECONDS = 5.0  # for the process to leave once it is asked to; a tenth of a second is usual

_current: WandbProcess | None = None


class WandbProcess:
    """One process, for one run after the other. Only :meth:`flush`, :meth:`close` and :meth:`kill` wait for it.

    Messages and replies are pairs of a name and a tuple of arguments, pickled one after the other on a pipe.
    """

    def __init__(self) -> None:
        self._on_reply: Callable[..., None] = ignore
        self._failure: str | None = None
        self._environment: object = _environment()
        self._messages: SimpleQueue[tuple[str, tuple[Any, ...]] | None] = SimpleQueue()
        self._changed = threading.Condition()  # guards the two above and the next three
        self._sent = self._handled = 0
        self._ended = False
        self._leaving = False
        self._alive_at = time.monotonic()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the thread that reads replies
        self._temporary = tempfile.mkdtemp(prefix="vicinal-wandb-")
        visible = {name: value for name, value in os.environ.items() if not _invisible(name, value)}
        packages = [*filter(None, sys.path), str(Path(vicinal.__file__).parents[1])]
        own = {"PYTHONPATH": os.pathsep.join(packages), "TMPDIR": self._temporary}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", MAIN, self._temporary],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=visible | own,
                start_new_session=True,  # a Ctrl-C is for the training
            )
        except OSError:
            self._errors.close()
            shutil.rmtree(self._temporary, ignore_errors=True)
            raise
        threads = [threading.Thread(target=work, name="wandb", daemon=True) for work in (self._read, self._write)]
        for thread in threads:
            thread.start()
        self._reader = threads[0]

    def usable(self) -> bool:
        """Return whether it is still there, for the environment that this process has now."""
        return not self._leaving and self._process.poll() is None and self._environment == _environment()

    def listen(self, on_reply: Callable[..., None]) -> None:
        """Call a function with the name and the arguments of each reply from now on, in a thread of its own.

        With ``failed`` and the reason in words, once, if the process ends before it was asked to, or has done so.
        """
        with self._changed:
            self._on_reply, failure = on_reply, self._failure
        if failure is not None:
            on_reply("failed", failure)

    def send(self, name: str, *arguments: Any) -> None:
        """Have it call a method of its :class:`WandbRun`, after all earlier ones; return at once."""
        with self._changed:
            if not self._ended:
                self._sent += 1
                self._messages.put((name, arguments))

    def flush(self, seconds: float) -> bool:
        """Wait until it has handled all messages, or has ended; return whether it has.

        At most so many seconds, and :data:`SILENT_SECONDS` for a process that gives no sign of life.
        """
        began = time.monotonic()
        with self._changed:
            while self._handled < self._sent and not self._ended:
                until = min(began + seconds, max(began, self._alive_at) + SILENT_SECONDS)
                if (left := until - time.monotonic()) <= 0:
                    return False
                self._changed.wait(left)
        return True

    def close(self) -> None:
        """Ask it to leave when it has handled all messages, and wait for a moment until it has."""
        if not self._sent:
            self.kill()
            return
        self.detach()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(LEAVE_SECONDS)

    def detach(self) -> None:
        """Have it handle all messages and leave; the next run has another process."""
        self._leaving = True
        self._messages.put(None)

    def kill(self) -> None:
        """End it at once; wandb-core goes with it, since it watches its parent."""
        self.detach()
        self._process.kill()
        self._process.wait()
        self._reader.join(LEAVE_SECONDS)  # it removes the temporary files

    def _write(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        with suppress(OSError), pipe:  # the process has ended, which the other thread notices too
            while (message := self._messages.get()) is not None:
                pickle.dump(message, pipe)
                pipe.flush()

    def _read(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        with pipe, self._errors:
            while True:
                try:
                    name, arguments = pickle.load(pipe)
                except EOFError:
                    break
                except Exception:  # half a reply, or none: nothing that follows can be read
                    self._process.kill()
                    break
                self._alive_at = time.monotonic()
                if name == "handled":
                    with self._changed:
                        self._handled += 1
                        self._changed.notify_all()
                elif name != "beat":
                    self._leaving |= name == "failed"
                    self._reply(name, *arguments)
            code = self._process.wait()
            if not self._leaving:
                self._reply("failed", self._last_words(code))
        shutil.rmtree(self._temporary, ignore_errors=True)
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _reply(self, name: str, *arguments: str) -> None:
        with self._changed:
            on_reply = self._on_reply
            if name == "failed":
                (self._failure,) = arguments
        on_reply(name, *arguments)

    def _last_words(self, code: int) -> str:
        """Return the last line of standard error, or the exit code if a signal has ended the process."""
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").split("\n")]
        printed = [line for line in lines if line] if code > 0 else []
        return printed[-1] if printed else f"its process has ended with exit code {code}"


def begin(config: Mapping[str, Any]) -> None:
    """Start the process if a run of that config may need one, so that it is ready when the run is."""
    if "wandb" in config["tracker"] and requested_mode(config["wandb"]["mode"])[0] != "disabled":
        with suppress(OSError, RuntimeError):  # the run tries again, and reports it
            process()


def process() -> WandbProcess:
    """Return the process of this process, started if need be. Raises OSError or RuntimeError where that fails."""
    global _current
    if _current is None or not _current.usable():
        close()
        _current = WandbProcess()
    return _current


@atexit.register
def close() -> None:
    """End the process of this process, if there is one; the next run starts another."""
    global _current
    current, _current = _current, None
    if current is not None:
        current.close()


def ignore(name: str, *arguments: object) -> None:
    """Take no notice of a reply between two runs."""


def _environment() -> object:
    return {name: value for name, value in os.environ.items() if ENVIRONMENT.fullmatch(name)}


def _invisible(name: str, value: str) -> bool:
    """Return whether W&B does not see a variable: messages have its value, or W&B would refuse an empty one."""
    return hidden(name) or (name.startswith("WANDB_") and not value)
