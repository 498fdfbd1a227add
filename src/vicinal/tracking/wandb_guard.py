"""Calls to wandb that can fail or hang without taking the run along."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from threading import Thread
from typing import Any, TypeVar

CALL_SECONDS = 5.0
"""For one report; a millisecond is usual, since wandb-core does the work in a process of its own."""

T = TypeVar("T")


def bounded(call: Callable[[], T], seconds: float) -> T:
    """``call()``, which may raise anything, or TimeoutError when it takes longer than ``seconds``."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=work, name="wandb-call", daemon=True).start()
    if not wait([future], seconds).done:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return future.result()


def shut_down() -> None:
    """End wandb-core, by force when it is stuck, so that the next run of this process starts a new one.

    A stuck one would also hold this process at its exit, where wandb waits for it.
    """
    with suppress(Exception):
        import wandb

        service: Any = getattr(getattr(wandb.setup(), "_connection", None), "_proc", None)  # wandb has no public way
        try:
            bounded(wandb.teardown, CALL_SECONDS)
        finally:
            if service is not None:
                service._process.kill()
                service._process.wait()


def one_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
