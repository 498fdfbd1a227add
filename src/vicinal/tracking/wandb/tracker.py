"""Weights & Biases as a view of the run: it shows what happens and can never stop, slow or fail the training."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import string
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from vicinal.config.redaction import redact, redacted
from vicinal.runs.predictions import Predictions
from vicinal.tracking.tracker import RunInfo, Tracker
from vicinal.tracking.wandb import client, record
from vicinal.tracking.wandb.calls import END_SECONDS
from vicinal.tracking.wandb.settings import NAME_LENGTH, agent_run, requested_mode

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

ID_CHARACTERS = string.ascii_lowercase + string.digits  # W&B's ids of runs are eight of these


class WandbTracker(Tracker):
    """One W&B run for one training run, with its files in the run's folder.

    Its settings are the config group ``wandb``. All curves have one x-axis, ``epoch``. W&B has a process of its own,
    which is sent messages and not waited for; only the end of the run waits, for a bounded time, until W&B has
    everything. If W&B fails (no network, full disk, a process killed, stopped or stuck), one warning is logged and the
    training goes on without it; the run's folder then has a mark that W&B lacks a part.

    A run that is resumed keeps its W&B id, unless an agent of a W&B sweep has started it: the agent waits for the run
    that it has named.

    Attributes:
        mode: ``online``, ``offline`` or ``disabled``: the request; once W&B has begun, the mode of the W&B run.
        id: W&B's id of the run, from its start; a run that became ``disabled`` has none of its own.
        name: of the run at W&B; the run's own by default.
        group: of the run at W&B, by default the sweep; None for none.
    """

    def __init__(self) -> None:
        self._process: client.WandbProcess | None = None
        self._sync = ""  # command that uploads the run, once W&B has begun
        self.mode = "disabled"
        self.id: str | None = None
        self.name = ""
        self.group: str | None = None

    def start(self, info: RunInfo) -> None:
        settings = redacted(info.config["wandb"])
        self._images, self._earlier_id = settings["images"], info.wandb_id
        self.id = info.wandb_id
        self.name = (settings["name"] or info.name)[:NAME_LENGTH]
        self.group = (settings["group"] or info.sweep or "")[:NAME_LENGTH] or None
        mode, _ = requested_mode(settings["mode"])
        if mode == "disabled":
            return
        self.mode = mode
        self.id = agent_run() or info.wandb_id or "".join(secrets.choice(ID_CHARACTERS) for _ in range(8))
        folder, config = info.folder.absolute(), info.config | {"wandb": settings}
        record.begin(folder, self.id)
        try:
            self._process = client.process()
        except (OSError, RuntimeError) as error:
            self._on_reply("failed", str(error))
            return
        self._process.listen(self._on_reply)
        shown = replace(info, folder=folder, config=config, name=self.name, sweep=self.group, wandb_id=self.id)
        self._send("open", shown, self.id == info.wandb_id, redacted(sys.argv))

    def restore(self, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        self._send("restore", [dict(row) for row in rows])

    def epoch(self, row: Mapping[str, Any]) -> None:
        self._send("epoch", dict(row))

    def mixed_images(self, images: Tensor, captions: Sequence[str]) -> None:
        if count := self._images:
            self._send("mixed_images", images[:count].numpy(force=True).copy(), list(captions[:count]))

    def mixed_sounds(self, sounds: Tensor, rate: int, captions: Sequence[str]) -> None:
        if self._images and find_spec("soundfile") is None:
            log.info("W&B gets no clips of sound: pip install 'vicinal[sound]'")
        elif count := self._images:
            self._send("mixed_sounds", sounds[:count].numpy(force=True).copy(), rate, list(captions[:count]))

    def predictions(self, predictions: Predictions) -> None:
        self._send("predictions", predictions)

    def finish(self, summary: Mapping[str, Any]) -> None:
        self._send("finish", dict(summary))

    def taken_away(self) -> None:
        self._send("taken_away")

    def close(self, error: BaseException | None) -> None:
        if self._process is None:
            return
        failed = isinstance(error, Exception)  # an interruption is no failure
        text = redact("".join(traceback.format_exception(error))) if failed else None
        self._send("close", text, 0 if error is None else 1)
        began = time.monotonic()
        try:
            flushed = self._process.flush(2 * END_SECONDS)  # of this session, and of one before it that was killed
        except BaseException:  # a second Ctrl-C: the process ends the run by itself
            self._process.detach()
            raise
        finally:
            self._process.listen(client.ignore)
        if not flushed:
            self._on_reply("failed", f"not at its end within {time.monotonic() - began:.0f} s")
            self._process.kill()

    def _send(self, name: str, *arguments: Any) -> None:
        if self._process is not None:
            self._process.send(name, *arguments)

    def _on_reply(self, name: str, *arguments: str) -> None:
        if name == "opened":
            self.mode, self._sync, line = arguments
            log.info("%s", line)
        elif name == "stop" and signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
            log.warning("W&B's button was pressed, but this job of a parallel sweep cannot be stopped alone")
        elif name == "stop":
            os.kill(os.getpid(), signal.SIGINT)
        elif name == "failed" and self._sync:
            line = "W&B stopped, the run goes on without it: %s; to upload what it has: %s"
            log.warning(line, *arguments, self._sync)
        elif name == "failed":
            log.warning("W&B is off for this run: %s", *arguments)
            self.mode, self.id = "disabled", self._earlier_id
