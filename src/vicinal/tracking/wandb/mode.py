"""Online or offline: which mode a run gets at Weights & Biases, and why."""

import os
import socket
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from vicinal.tracking.wandb.settings import wished_mode
from vicinal.tracking.wandb.timeouts import CALL_SECONDS, bounded

CONNECT_SECONDS = 3.0


def agent_run() -> str | None:
    """W&B's id of the run that an agent of a W&B sweep has started this process for; None outside of one."""
    return os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None


def resolve_mode(mode: str) -> tuple[str, str]:
    """The mode that a run gets when ``mode`` is asked for. Reads the environment and the disk, never the network.

    Args:
        mode: see :func:`wished_mode`. Online without a login becomes offline, since wandb would stop and ask for a key.

    Returns:
        ``online``, ``offline`` or ``disabled``, and the reason in words.
    """
    mode, reason = wished_mode(mode)
    if mode == "online" and (missing := _missing_login()):
        return "offline", missing
    return mode, reason


def _missing_login() -> str | None:
    """Why there are no credentials for the server, or None where wandb finds some without asking."""
    import wandb

    wandb.setup(wandb.Settings(silent=True, mode="online"))  # in offline mode it would not look
    try:
        return None if wandb.login(prompt=False, verify=False) else "no login found"
    except wandb.Error as error:
        return str(error)


def why_unreachable(url: str) -> str | None:
    """Why no connection to the server opens, or None when one does.

    wandb itself retries a refused connection until its time is up; this says so at once.
    """
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
