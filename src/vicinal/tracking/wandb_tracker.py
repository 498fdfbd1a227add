"""Weights & Biases as a view of the run: it shows what happens and can never stop, slow or fail the training."""

import logging
import secrets
import shutil
import string
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from vicinal.runs.predictions import Predictions
from vicinal.tracking.charts import charts
from vicinal.tracking.courier import Courier
from vicinal.tracking.tracker import Progress, RunInfo, Tracker
from vicinal.tracking.wandb_guard import CALL_SECONDS, START_SECONDS, bounded, one_line, set_up, shut_down
from vicinal.tracking.wandb_mode import agent_run, resolve_mode, why_unreachable, wished_mode

if TYPE_CHECKING:
    import wandb

log = logging.getLogger(__name__)

INIT_SECONDS = 15.0
"""For wandb to start a run; a second is usual."""
FINISH_SECONDS = 60.0
"""For the upload of what is left at the end of a run; what isn't uploaded stays in the run's folder."""
ID = string.ascii_lowercase + string.digits
"""Of which W&B makes the ids of runs, eight characters each."""


IMAGES = "mixed_images"
"""The key of the panel."""


class WandbTracker(Tracker):
    """One W&B run for one training run, with its files in the run's folder.

    All curves have one clock, ``epoch``. W&B has a thread of its own, which begins with the first report, so that the
    first step does not wait for it either; only the end of the ``with`` waits until W&B has everything. Whatever goes
    wrong there (no network, full disk, its process killed or stuck) is one warning in the log, after which the training
    goes on without it.

    Args:
        info: the run; its config, choices and identities become the W&B config.
        mode: ``auto``, ``online``, ``offline`` or ``disabled``; see :func:`resolve_mode`.
        project: W&B project.
        entity: W&B user or team; the account's default when None.
        tags: labels.
        images: how many mixed images the panel shows at most.
        id: W&B's id of the run whose training is continued; None for a new one. An agent of a W&B sweep has the last
            word: it waits for the run that it has named.

    Attributes:
        mode: what the run really became, at the end of the ``with``: ``online``, ``offline`` or ``disabled``.
        id: W&B's id of the run, from the start of the ``with``; a run that became ``disabled`` has none of its own.
    """

    def __init__(
        self,
        info: RunInfo,
        *,
        mode: str,
        project: str,
        entity: str | None,
        tags: Sequence[str],
        images: int,
        id: str | None = None,  # noqa: A002 - W&B's own name for it
    ) -> None:
        self._info = info
        self._asked = mode
        self._project = project
        self._entity = entity
        self._tags = tuple(tags)
        self._images = images
        self._continued = id
        self._courier: Courier | None = None
        # Only the courier's thread knows these.
        self._run: wandb.Run | None = None
        self._panel: list[wandb.Image] = []
        self._charts: dict[str, Any] = {}
        self._sync = ""
        self.mode = "disabled"
        self.id = id

    def __enter__(self) -> Self:
        if wished_mode(self._asked)[0] != "disabled":
            self.id = agent_run() or self._continued or "".join(secrets.choice(ID) for _ in range(8))
            self._courier = Courier("wandb")
            self._courier.tell(self._start)
        return self

    def restore(self, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        for row in rows:
            self._show(row)

    def progress(self, progress: Progress) -> None:
        self._begin()

    def epoch(self, row: Mapping[str, Any]) -> None:
        self._show(row)
        self._begin()

    def _show(self, row: Mapping[str, Any]) -> None:
        row = dict(row)

        def show(run: "wandb.Run") -> None:
            _check_writable(self._info.folder)  # wandb-core keeps a full disk to itself and drops the rows
            # Panel and charts join the row of their epoch, so that the history has one row an epoch. The epoch is the
            # step too, so that a continued run does not show twice what the server has from an earlier session.
            panel, self._panel = self._panel, []
            if row["epoch"] >= run.starting_step:
                shown = _with_histograms(row) | ({IMAGES: panel} if panel else {})
                if row["epoch"] == self._info.epochs:
                    shown |= self._charts
                run.log(shown, step=int(row["epoch"]), commit=True)  # else the row would wait for the next

        self._report(show)

    def mixed_images(self, images: Tensor, captions: Sequence[str]) -> None:
        def show(run: "wandb.Run") -> None:
            import wandb

            self._panel = [
                wandb.Image(_strip(tiles), caption=text)
                for tiles, text in zip(images[: self._images].cpu(), captions, strict=False)
            ]

        if self._images:
            self._report(show)
        self._begin()

    def predictions(self, predictions: Predictions) -> None:
        def show(run: "wandb.Run") -> None:
            self._charts = charts(predictions)

        self._report(show)

    def finish(self, summary: Mapping[str, Any]) -> None:
        final = dict(summary)
        self._report(lambda run: run.summary.update(final))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._courier is None:
            return

        def last(run: "wandb.Run") -> None:
            if self._panel:  # the run has ended in its first epoch
                run.log({IMAGES: self._panel}, step=0)

        self._report(last)
        if isinstance(error, Exception):  # an interruption is none
            text = "".join(traceback.format_exception(error))
            self._report(lambda run: run.summary.update({"error": text}))
        self._report(lambda run: run.finish(exit_code=0 if error is None else 1), FINISH_SECONDS + CALL_SECONDS)
        # wandb-core, two attempts at a run, the upload, and between them calls and what follows where they fail.
        seconds = START_SECONDS + 2 * INIT_SECONDS + FINISH_SECONDS + 10 * CALL_SECONDS
        if not self._courier.end(seconds):
            self._stopped(f"not at its end within {seconds:g} s")

    def _begin(self) -> None:
        if self._courier:
            self._courier.start()

    def _start(self) -> None:
        try:
            self._open()
        except Exception as error:
            log.warning("W&B is off for this run: %s", one_line(error))
            shut_down()
            self.id = self._continued

    def _open(self) -> None:
        import wandb

        # wandb would write to the temporary folder instead and say little of it.
        _check_writable(self._info.folder)
        set_up()
        mode, reason = resolve_mode(self._asked)
        if mode == "online" and (failure := why_unreachable(wandb.setup().settings.base_url)):
            mode, reason = "offline", failure
        try:
            run = bounded(lambda: self._init(mode), INIT_SECONDS + CALL_SECONDS)
        except Exception as error:
            # A server that doesn't answer, or a wandb-core that died in an earlier run of this process.
            shut_down()
            mode, reason = "offline", one_line(error) if mode == "online" else reason
            run = bounded(lambda: self._init(mode), INIT_SECONDS + CALL_SECONDS)
        self._run, self.mode = run, mode
        folder = Path(run.dir).parent
        for earlier in folder.parent.glob(f"offline-run-*-{run.id}*"):
            if earlier != folder:  # W&B does not merge two offline sessions: the new one tells all epochs again
                shutil.rmtree(earlier, ignore_errors=True)
        self._sync = f"wandb sync --yes {'--include-online ' if mode == 'online' else ''}{folder}"
        # wandb's own debug log would print a traceback a line where its disk is full.
        for handler in logging.getLogger("wandb").handlers:
            if isinstance(handler, logging.FileHandler) and folder in Path(handler.baseFilename).parents:
                handler.setLevel(logging.CRITICAL + 1)
        if mode == "online":
            log.info("W&B: %s", run.url)
        else:
            log.info("W&B is offline (%s); to upload the run: %s", reason, self._sync)

    def _init(self, mode: str) -> "wandb.Run":
        import wandb

        info = self._info
        run = wandb.init(
            project=self._project,
            entity=self._entity,
            mode="online" if mode == "online" else "offline",
            name=info.name,
            group=info.sweep,
            job_type="train",
            id=self.id,
            resume="allow" if self.id == self._continued and mode == "online" else None,
            tags=self._tags,
            config={
                **info.config,
                "choices": info.choices,
                "run_id": info.run_id,
                "cell_id": info.cell_id,
                "git_commit": info.git_commit,
            },
            dir=info.folder,
            reinit="create_new",  # never the run of a job that died before its end
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=INIT_SECONDS,
                finish_timeout=FINISH_SECONDS,
                finish_timeout_raises=True,
                x_transaction_log_flush_interval=1.0,  # a crash loses a second of rows, not fifteen
                disable_git=True,  # the commit is in the config; a remote's address may hold a token
                disable_code=True,
                save_code=False,
            ),
        )
        run.define_metric("*", step_metric="epoch")
        return run

    def _report(self, call: Callable[["wandb.Run"], object], seconds: float = CALL_SECONDS) -> None:
        def report() -> None:
            run = self._run
            if run is None:
                return
            try:
                bounded(lambda: call(run), seconds)
            except Exception as error:
                self._stopped(one_line(error))

        if self._courier:
            self._courier.tell(report)

    def _stopped(self, reason: str) -> None:
        self._run = None
        log.warning("W&B stopped, the run goes on without it: %s; to upload what it has: %s", reason, self._sync)
        shut_down()


def _check_writable(folder: Path) -> None:
    """Raises OSError where a file of 64 KiB cannot be written to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(2**16))


def _with_histograms(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with W&B's own histograms for lists, which are counts of equal bins of [0, 1]."""
    import wandb

    shown = dict(row)
    for name, value in row.items():
        if isinstance(value, list):
            edges = np.linspace(0, 1, len(value) + 1)
            shown[name] = wandb.Histogram(np_histogram=(np.array(value), edges))
    return shown


def _strip(tiles: Tensor) -> Any:
    """A PIL image of uint8 tiles (n, C, H, W), one beside the other: wandb would stretch the values of a tensor."""
    from PIL import Image

    image = torch.cat(tuple(tiles), dim=2)
    channels = image[:3] if len(image) >= 3 else image[:1]
    return Image.fromarray(channels.permute(1, 2, 0).squeeze(-1).contiguous().numpy())
