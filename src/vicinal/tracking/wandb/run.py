"""One training run after the other at Weights & Biases: what W&B's process does with what it is told."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
from numpy.typing import NDArray

from vicinal.runs.predictions import Predictions
from vicinal.tracking.tracker import RunInfo
from vicinal.tracking.wandb import record
from vicinal.tracking.wandb.charts import charts
from vicinal.tracking.wandb.init_request import InitRequest
from vicinal.tracking.wandb.media import strip, with_histograms
from vicinal.tracking.wandb.mode import resolve_mode, why_unreachable
from vicinal.tracking.wandb.timeouts import CALL_SECONDS, START_SECONDS, bounded, one_line, set_up, shut_down

if TYPE_CHECKING:
    import wandb

log = logging.getLogger(__name__)

INIT_SECONDS = 15.0
"""For wandb to start a run; a second is usual."""
FINISH_SECONDS = 60.0
"""For the upload of what is left at the end of a run; what isn't uploaded stays in the run's folder."""
LAST_SECONDS = START_SECONDS + 2 * INIT_SECONDS + FINISH_SECONDS + 10 * CALL_SECONDS
"""For all that may be left to do at the end of a run: wandb-core, two attempts at a run, the upload, and between them
calls and what follows where they fail."""
ABANDONED = "the training has ended without a word, as after kill -9; rerun the same command to resume"

AT_FIRST_USE = ("PIL.PngImagePlugin", "pandas", "wandb.plot", "wandb.sdk.launch.inputs.internal", "yaml")
"""What wandb imports when it first needs it."""

IMAGES = "mixed_images"
"""The key of the panel."""


class WandbRun:
    """Each public method is a message. None raises: what goes wrong is one warning, and the rest of the run is ignored.

    Args:
        reply: called with ``opened``, the mode and the command that uploads; with ``off`` where the run cannot be shown
            at all; with ``stop`` when somebody wants it to end; with ``echo``.
    """

    def __init__(self, reply: Callable[..., None]) -> None:
        self._reply = reply
        self._info: RunInfo
        self._request: InitRequest
        self._run: wandb.Run | None = None
        self._panel: list[wandb.Image] = []
        self._charts: dict[str, Any] = {}
        self._sync = ""
        self._earlier: list[Path] = []
        self._alone: filelock.BaseFileLock | None = None

    def prepare(self) -> None:
        """Do now, beside the training's own imports, what wandb would do at the beginning of a run."""
        for name in AT_FIRST_USE:
            with suppress(Exception):
                import_module(name)
        with suppress(Exception):
            import wandb.util

            installed = list(wandb.util.working_set())  # a tenth of a second, which each run would take again
            wandb.util.working_set = lambda: installed
        with suppress(Exception):  # a run tries again, and says what is wrong
            set_up()

    def echo(self, number: int) -> None:
        """Says that all told before is done."""
        self._reply("echo", number)

    def open(self, info: RunInfo, request: InitRequest) -> None:
        """Begin a run."""
        self._info, self._request = info, request
        self._run, self._panel, self._charts, self._sync = None, [], {}, ""
        try:
            self._open()
        except Exception as error:
            log.warning("W&B is off for this run: %s", one_line(error))
            shut_down()
            self._let_go()
            self._reply("off")

    def restore(self, rows: Sequence[dict[str, Any]]) -> None:
        """The rows of earlier sessions, told before any other: W&B does not merge the records of two offline ones."""
        for row in rows:
            self.row(row)
        if self._run is not None:
            for earlier in self._earlier:
                shutil.rmtree(earlier, ignore_errors=True)

    def row(self, row: dict[str, Any]) -> None:
        """Of an epoch, as :meth:`Tracker.epoch` is told it."""

        def show(run: wandb.Run) -> None:
            _check_writable(self._info.folder)  # wandb-core keeps a full disk to itself and drops the rows
            # Panel and charts join the row of their epoch, so that the history has one row an epoch. The epoch is the
            # step too, so that a continued run does not show twice what the server has from an earlier session.
            panel, self._panel = self._panel, []
            if row["epoch"] >= run.starting_step:
                shown = with_histograms(row) | ({IMAGES: panel} if panel else {})
                if row["epoch"] == self._info.epochs:
                    shown |= self._charts
                run.log(shown, step=int(row["epoch"]), commit=True)  # else the row would wait for the next

        self._do(show)

    def panel(self, images: NDArray[Any], captions: Sequence[str]) -> None:
        """As :meth:`Tracker.mixed_images` is told it; images (n, 4, C, H, W) uint8."""

        def show(run: wandb.Run) -> None:
            import wandb

            self._panel = [
                wandb.Image(strip(tiles), caption=text) for tiles, text in zip(images, captions, strict=True)
            ]

        self._do(show)

    def predictions(self, predictions: Predictions) -> None:
        """Told before the last row, to which its charts belong."""

        def show(run: wandb.Run) -> None:
            self._charts = charts(predictions)

        self._do(show)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Final values."""
        self._do(lambda run: run.summary.update(dict(values)))

    def close(self, error: str | None, code: int) -> None:
        """End the run.

        Args:
            error: a traceback, if the training failed.
            code: exit code.
        """
        self._end(error, code)
        self._let_go()

    def leave(self) -> None:
        """The training has gone. Called at last, whether or not a run is open: if one is, the training was killed."""
        if self._run is not None:
            self._end(ABANDONED, 1)
        shut_down()  # waits until wandb-core has written what it has
        self._let_go()

    def _end(self, error: str | None, code: int) -> None:
        def last(run: wandb.Run) -> None:
            if self._panel:  # the run has ended in its first epoch
                run.log({IMAGES: self._panel}, step=0)

        self._do(last)
        if error is not None:
            self.summary({"error": error})
        self._do(lambda run: run.finish(exit_code=code), FINISH_SECONDS + CALL_SECONDS)
        if self._run is not None and code == 0:
            with suppress(OSError):
                record.end(self._info.folder)
        self._run = None

    def _open(self) -> None:
        import wandb

        sys.argv = list(self._request.program)  # W&B shows them
        # wandb would write to the temporary folder instead and say little of it.
        _check_writable(self._info.folder)
        home = record.home(self._info.folder)
        home.mkdir(exist_ok=True)
        self._alone = filelock.FileLock(home / record.LOCK)
        self._alone.acquire(timeout=LAST_SECONDS)  # a killed session may still be telling W&B its last rows
        set_up()
        mode, reason = resolve_mode(self._request.mode)
        if mode == "online" and (failure := why_unreachable(wandb.setup().settings.base_url)):
            mode, reason = "offline", failure
        try:
            run = bounded(lambda: self._init(mode), INIT_SECONDS + CALL_SECONDS)
        except Exception as error:
            # A server that doesn't answer, or a wandb-core that died in an earlier run of this process.
            shut_down()
            mode, reason = "offline", one_line(error) if mode == "online" else reason
            run = bounded(lambda: self._init(mode), INIT_SECONDS + CALL_SECONDS)
        folder = Path(run.dir).parent
        self._earlier = [earlier for earlier in folder.parent.glob(f"offline-run-*-{run.id}*") if earlier != folder]
        self._run = run
        # W&B copies its tables to a folder for data, which is by default below a home that may be read-only, or another
        # one where the run is uploaded.
        os.environ["WANDB_DATA_DIR"] = str(folder)
        self._sync = f"wandb sync --yes {'--include-online ' if mode == 'online' else ''}{folder}"
        # wandb's own debug log would print a traceback a line where its disk is full.
        for handler in logging.getLogger("wandb").handlers:
            if isinstance(handler, logging.FileHandler) and folder in Path(handler.baseFilename).parents:
                handler.setLevel(logging.CRITICAL + 1)
        self._reply("opened", mode, self._sync)
        if mode == "online":
            log.info("W&B: %s", run.url)
        else:
            log.info("W&B is offline (%s); to upload the run: %s", reason, self._sync)

    def _init(self, mode: str) -> wandb.Run:
        import wandb

        info, request = self._info, self._request
        run = wandb.init(
            project=request.project,
            entity=request.entity,
            mode="online" if mode == "online" else "offline",
            name=request.name,
            group=request.group,
            notes=request.notes,
            job_type="train",
            id=request.id,
            resume="allow" if request.resume and mode == "online" else None,
            tags=request.tags,
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
                program=request.program[0],
                x_stats_pid=request.process,
                stop_fn=lambda: self._reply("stop"),  # the Stop button was pressed
            ),
        )
        if request.resume and mode == "online":
            del run.summary["error"]  # type: ignore[no-untyped-call] # of the session before
        run.define_metric("*", step_metric="epoch")
        return run

    def _do(self, call: Callable[[wandb.Run], object], seconds: float = CALL_SECONDS) -> None:
        run = self._run
        if run is None:
            return
        try:
            bounded(lambda: call(run), seconds)
        except Exception as error:
            self._run = None
            log.warning(
                "W&B stopped, the run goes on without it: %s; to upload what it has: %s", one_line(error), self._sync
            )
            shut_down()

    def _let_go(self) -> None:
        if self._alone is not None:
            self._alone.release()


def _check_writable(folder: Path) -> None:
    """Raises OSError where a file of 64 KiB cannot be written to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(2**16))
