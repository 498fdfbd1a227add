"""Calls to wandb that can fail or hang without taking the run along."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from threading import Thread
from typing import Any, TypeVar

CALL_SECONDS = 5.0
"""For one report; a millisecond is usual, since wandb-core does the work in a process of its own."""
START_SECONDS = 20.0
"""For wandb-core to start; a fifth of a second is usual."""

T = TypeVar("T")


def bounded(call: Callable[[], T], seconds: float) -> T:
    """``call()``, which may raise anything, or TimeoutError when it takes longer than ``seconds``."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)
        except BaseException as error:  # wandb.teardown leaves Python where wandb-core has failed
            future.set_exception(RuntimeError(f"{type(error).__name__}: {error}"))

    Thread(target=work, name="wandb-call", daemon=True).start()
    if not wait([future], seconds).done:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return future.result()


def shut_down() -> None:
    """End wandb-core, by force when it is stuck, so that the next run of this process starts a new one."""
    with suppress(Exception):
        import wandb

        process = bounded(_core, CALL_SECONDS)
        try:
            bounded(wandb.teardown, CALL_SECONDS)
        finally:
            if process is not None:
                process.kill()
                process.wait()


def _core() -> Any:
    """The process, a ``Popen``; None where there is none."""
    from wandb.sdk import wandb_setup  # wandb has no public way that does not start one

    service = getattr(getattr(wandb_setup.singleton(), "_connection", None), "_proc", None)
    return getattr(service, "_process", None)


def set_up() -> None:
    """Start wandb-core. Raises TimeoutError, or whatever wandb says, where that fails."""
    import wandb

    with suppress(ImportError, AttributeError):
        # wandb 0.31 wants to tell its maker that wandb-core has failed to start, and for that waits for the lock that
        # it holds itself, for ever.
        from wandb.analytics.opentelemetry import opentelemetry_proxy

        opentelemetry_proxy.disable()
    bounded(lambda: wandb.setup(wandb.Settings(silent=True)), START_SECONDS)


def one_line(error: BaseException) -> str:
    """What is wrong, in words; of a setting of W&B's its name too, and never its value."""
    if callable(faults := getattr(error, "errors", None)):  # pydantic's own begins with their number
        first = faults()[0]
        return f"its setting {'.'.join(map(str, first['loc']))}: {first['msg']}"
    return (str(error).strip() or type(error).__name__).splitlines()[0]
