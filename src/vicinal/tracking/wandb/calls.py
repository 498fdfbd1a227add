"""Calls to wandb and its server that can fail or hang, and their time limits."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from threading import Thread
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from vicinal.errors import first_line
from vicinal.tracking.wandb.settings import requested_mode

CALL_SECONDS = 5.0  # for one report; a millisecond is usual, since wandb-core does the work in a process of its own
CONNECT_SECONDS = 3.0
START_SECONDS = 20.0  # for wandb-core to start; a fifth of a second is usual
INIT_SECONDS = 15.0  # for wandb to start a run; a second is usual
FINISH_SECONDS = 60.0  # for the upload of what is left at the end of a run; the rest stays in the run's folder
END_SECONDS = START_SECONDS + 2 * INIT_SECONDS + FINISH_SECONDS + 10 * CALL_SECONDS
"""For all that may be left at the end of a run: wandb-core, two attempts to start the run, the upload, and calls."""

T = TypeVar("T")


def bounded(call: Callable[[], T], seconds: float) -> T:
    """Return ``call()``, which may raise anything; raise TimeoutError when it takes longer than ``seconds``."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # wandb.teardown exits where wandb-core has failed
            future.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))

    Thread(target=work, name="wandb-call", daemon=True).start()
    if not wait([future], seconds).done:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return future.result()


def set_up() -> None:
    """Start wandb-core, unless it runs. Raises TimeoutError or an error of wandb's."""
    import wandb

    with suppress(ImportError, AttributeError):
        # wandb 0.31 wants to report a wandb-core that fails to start, and waits for a lock of its own, forever.
        from wandb.analytics.opentelemetry import opentelemetry_proxy

        opentelemetry_proxy.disable()
    bounded(lambda: wandb.setup(wandb.Settings(silent=True)), START_SECONDS)


def tear_down() -> None:
    """End wandb-core once it has written what it has."""
    with suppress(Exception):
        import wandb

        bounded(wandb.teardown, CALL_SECONDS)


def resolve_mode(mode: str) -> tuple[str, str]:
    """Return the mode that a run gets, and the reason in words. Reads the environment and the disk, not the network.

    Online without a login becomes offline: wandb would stop and ask for a key.
    """
    import wandb

    mode, reason = requested_mode(mode)
    if mode != "online":
        return mode, reason
    wandb.setup(wandb.Settings(silent=True, mode="online"))  # in offline mode it would not look for a login
    try:
        return (mode, reason) if wandb.login(prompt=False, verify=False) else ("offline", "no login found")
    except wandb.Error as error:
        return "offline", str(error)


def why_unreachable(url: str) -> str | None:
    """Return the reason why no connection to the server opens, or None. wandb would retry until its time is up."""
    server = urlsplit(url)
    proxy = None if proxy_bypass(server.hostname or "") else getproxies().get(server.scheme)
    target = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else server
    port = target.port or (443 if target.scheme == "https" else 80)
    try:
        # Bounded as a whole: looking up a name has no time limit of its own.
        bounded(lambda: socket.create_connection((target.hostname, port), CONNECT_SECONDS).close(), CALL_SECONDS)
    except OSError as error:
        return f"{url} cannot be reached ({error.strerror or error})"
    return None


def one_line(error: BaseException) -> str:
    """Return the reason of an error; for a setting of W&B's its name too, and never its value."""
    if callable(faults := getattr(error, "errors", None)):  # pydantic's own text begins with their number
        first = faults()[0]
        return f"its setting {'.'.join(map(str, first['loc']))}: {first['msg']}"
    return first_line(error)
