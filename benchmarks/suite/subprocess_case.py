"""One side of a comparison in a process of its own, without the process-wide settings of a training."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from typing import Any

Call = Callable[[], object]


class SubprocessCase(AbstractContextManager["SubprocessCase"]):
    """A callable that runs in the process, and returns when the call is done. The process ends with the ``with`` block.

    Args:
        make: function of a module that returns the callable, in the process.
        *arguments: of ``make``, picklable.

    Raises:
        Exception: raised by ``make``, or by a call.
    """

    def __init__(self, make: Callable[..., Call], *arguments: Any) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, make, arguments))
        self._process.start()
        theirs.close()
        self._answer()

    def __call__(self) -> None:
        self._pipe.send(None)
        self._answer()

    def __exit__(self, *error: object) -> None:
        self._pipe.close()
        self._process.join()

    def _answer(self) -> None:
        if (error := self._pipe.recv()) is not None:
            raise error


def _serve(pipe: Connection, make: Callable[..., Call], arguments: tuple[Any, ...]) -> None:
    try:
        call = make(*arguments)
        while True:
            pipe.send(None)
            pipe.recv()
            call()
    except EOFError:
        return
    except Exception as error:
        pipe.send(error)
