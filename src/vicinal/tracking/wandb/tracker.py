"""Weights & Biases as a view of the run: it shows what happens and can never stop, slow or fail the training."""

from __future__ import annotations

import dataclasses
import logging
import os
import secrets
import signal
import string
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vicinal.config.redaction import redact, redacted
from vicinal.runs.predictions import Predictions
from vicinal.tracking.tracker import RunInfo, Tracker
from vicinal.tracking.wandb import client, record
from vicinal.tracking.wandb.init_request import InitRequest
from vicinal.tracking.wandb.mode import agent_run
from vicinal.tracking.wandb.run import LAST_SECONDS
from vicinal.tracking.wandb.settings import NAME_LENGTH, wished_mode

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

ID = string.ascii_lowercase + string.digits
"""Of which W&B makes the ids of runs, eight characters each."""


class WandbTracker(Tracker):
    """One W&B run for one training run, with its files in the run's folder.

    Its settings are the config group ``wandb``. All curves have one x-axis, ``epoch``. W&B has a process of its own,
    which is sent messages and not waited for; only the end of the run waits until W&B has everything, for a bounded
    time. Whatever goes wrong there (no network, full disk, a process killed, stopped or stuck) is one warning in the
    log, after which the training goes on without W&B; the run's folder then remembers that W&B lacks a part.

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
        self._sync = ""
        self.mode = "disabled"
        self.id: str | None = None
        self.name = ""
        self.group: str | None = None

    def start(self, info: RunInfo) -> None:
        settings = redacted(info.config["wandb"])
        self._info = dataclasses.replace(info, folder=info.folder.absolute())
        self._images = settings["images"]
        self.id = info.wandb_id
        self.name = (settings["name"] or info.name)[:NAME_LENGTH]
        self.group = (settings["group"] or info.sweep or "")[:NAME_LENGTH] or None
        mode, _ = wished_mode(settings["mode"])
        if mode == "disabled":
            return
        self.mode = mode
        self.id = agent_run() or info.wandb_id or "".join(secrets.choice(ID) for _ in range(8))
        request = InitRequest(
            mode=settings["mode"],
            project=settings["project"],
            entity=settings["entity"],
            tags=tuple(settings["tags"]),
            name=self.name,
            group=self.group,
            notes=settings["notes"],
            id=self.id,
            resume=self.id == info.wandb_id,
            program=tuple(redacted(sys.argv)),
            process=os.getpid(),
        )
        record.begin(self._info.folder, self.id)
        try:
            self._process = client.process()
        except OSError as error:
            self._heard("died", str(error))
            return
        self._process.heard = self._heard
        self._tell("open", self._info, request)

    def restore(self, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        self._tell("restore", [dict(row) for row in rows])

    def epoch(self, row: Mapping[str, Any]) -> None:
        self._tell("row", dict(row))

    def mixed_images(self, images: Tensor, captions: Sequence[str]) -> None:
        if self._images:
            self._tell("panel", images[: self._images].numpy(force=True).copy(), list(captions[: self._images]))

    def predictions(self, predictions: Predictions) -> None:
        self._tell("predictions", predictions)

    def finish(self, summary: Mapping[str, Any]) -> None:
        self._tell("summary", dict(summary))

    def close(self, error: BaseException | None) -> None:
        if self._process is None:
            return
        failed = isinstance(error, Exception)  # an interruption is none
        text = redact("".join(traceback.format_exception(error))) if failed else None
        self._tell("close", text, 0 if error is None else 1)
        began = time.monotonic()
        try:
            settled = self._process.settle(2 * LAST_SECONDS)  # of this session, and of one before it that was killed
        except BaseException:  # a second Ctrl-C: it ends the run by itself
            self._process.retire()
            raise
        finally:
            self._process.heard = client.ignore
        if not settled:
            self._heard("died", f"not at its end within {time.monotonic() - began:.0f} s")
            self._process.kill()

    def _tell(self, name: str, *arguments: Any) -> None:
        if self._process is not None:
            self._process.tell(name, *arguments)

    def _heard(self, name: str, *arguments: str) -> None:
        if name == "opened":
            self.mode, self._sync = arguments
        elif name == "off":
            self.mode, self.id = "disabled", self._info.wandb_id
        elif name == "stop" and signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
            log.warning("W&B's button was pressed, but this job of a parallel sweep cannot be stopped alone")
        elif name == "stop":
            os.kill(os.getpid(), signal.SIGINT)
        elif name == "died" and not self._sync:  # it had not begun
            log.warning("W&B is off for this run: %s", *arguments)
            self.mode, self.id = "disabled", self._info.wandb_id
        elif name == "died":
            log.warning(
                "W&B stopped, the run goes on without it: %s; to upload what it has: %s", *arguments, self._sync
            )
