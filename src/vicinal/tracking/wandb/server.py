"""The process that W&B has to itself: it does what it is told, and outlives a training that is killed.

wandb takes as long to import as a small training takes, and a thread of its own would share Python's lock with the
steps. Here it shares nothing with them, is ready before the first of them, and has told W&B the last row also where the
training can no longer: a ``kill -9``, a crash of the interpreter.
"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import BinaryIO

from vicinal.runs.signals import present
from vicinal.tracking.wandb.client import BEAT_SECONDS
from vicinal.tracking.wandb.run import WandbRun


class Replies(logging.Handler):
    """To the training: what it is to log, and the little it has to know."""

    def __init__(self, out: BinaryIO) -> None:
        super().__init__()
        self._out = out
        self._alone = threading.Lock()

    def send(self, name: str, *arguments: object) -> None:
        with self._alone, suppress(OSError):  # who has been killed does not listen
            pickle.dump((name, arguments), self._out)
            self._out.flush()

    def emit(self, record: logging.LogRecord) -> None:
        self.send("log", record.levelno, record.getMessage())


def main() -> None:
    """Messages come in on standard input, replies leave on what was standard output when the process began.

    Each is a pickled pair of a name and a tuple of arguments; the messages are methods of :class:`WandbRun`. The only
    argument of the command line is a folder for what wandb leaves behind in temporary ones, to be removed at the end.
    """
    for number in present():  # they mean the training; without it, this process leaves by itself
        signal.signal(number, signal.SIG_IGN)
    temporary = sys.argv[1]
    replies = Replies(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # what wandb or its helpers print is no reply
    logger = logging.getLogger("vicinal")
    logger.addHandler(replies)
    logger.setLevel(logging.INFO)
    threading.Thread(target=_beat, args=(replies,), name="beat", daemon=True).start()
    run = WandbRun(replies.send)
    run.prepare()
    while True:
        try:
            name, arguments = pickle.load(sys.stdin.buffer)
        except Exception:  # the end, or half a message of a training that was killed
            break
        getattr(run, name)(*arguments)
    run.leave()
    shutil.rmtree(temporary, ignore_errors=True)
    os._exit(0)  # nothing is left to be done, and the interpreter's own end takes its time


def _beat(replies: Replies) -> None:
    """Signs of life, also while a call to wandb takes its time."""
    while True:
        replies.send("beat")
        time.sleep(BEAT_SECONDS)
