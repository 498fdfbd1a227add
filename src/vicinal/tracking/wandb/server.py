"""W&B in a process of its own, which does what its messages say and outlives a training that is killed.

After a ``kill -9`` of the training it still sends W&B the last rows: three trials lost 0, 0 and 0 rows, but 8, 11 and 7
with ``wandb.init`` in a daemon thread (``python benchmarks/wandb_after_kill.py 3``). A W&B that hangs or is stopped
cannot stop the training. And wandb is imported beside the training's own imports, which take as long.
"""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
from numpy.typing import NDArray

from vicinal.runs.mixed_sounds import encode
from vicinal.runs.predictions import Predictions
from vicinal.runs.signals import present
from vicinal.tracking.tracker import RunInfo
from vicinal.tracking.wandb import calls, record
from vicinal.tracking.wandb.calls import bounded
from vicinal.tracking.wandb.media import IMAGES, SOUNDS, charts, strip, with_histograms

if TYPE_CHECKING:
    import wandb

ABANDONED = "the training was killed, as by kill -9; rerun the same command to resume"
AT_FIRST_USE = ("PIL.PngImagePlugin", "pandas", "wandb.plot", "wandb.sdk.launch.inputs.internal", "yaml")
"""Modules that wandb imports when it first needs them."""
BEAT_SECONDS = 1.0  # between two signs of life


def main() -> None:
    """Call a method of :class:`WandbRun` per message from standard input, until it ends or one of them fails.

    Replies go to what was standard output when the process began. The only argument of the command line is a folder for
    wandb's temporary files, which is removed at the end.
    """
    for number in present():  # they are for the training; without it, this process leaves by itself
        signal.signal(number, signal.SIG_IGN)
    temporary = sys.argv[1]
    replies, lock = os.fdopen(os.dup(1), "wb"), threading.Lock()
    os.dup2(2, 1)  # what wandb or its helpers print is no reply

    def reply(name: str, *arguments: object) -> None:
        with lock, suppress(OSError):  # the training may be gone
            pickle.dump((name, arguments), replies)
            replies.flush()

    def beat() -> None:  # also while a call to wandb takes its time
        while True:
            reply("beat")
            time.sleep(BEAT_SECONDS)

    threading.Thread(target=beat, daemon=True).start()
    prepare()
    run = WandbRun(reply)
    try:
        for name, arguments in _messages():
            getattr(run, name)(*arguments)
            reply("handled")
        run.leave()
    except Exception as error:
        reply("failed", calls.one_line(error))
    calls.tear_down()
    shutil.rmtree(temporary, ignore_errors=True)
    os._exit(0)  # the interpreter's own end takes its time


def _messages() -> Iterator[tuple[str, tuple[Any, ...]]]:
    with suppress(Exception):  # the end, or half a message of a training that was killed
        while True:
            yield pickle.load(sys.stdin.buffer)


def prepare() -> None:
    """Do now, beside the training's own imports, what wandb would do at the beginning of a run."""
    for name in AT_FIRST_USE:
        with suppress(Exception):
            import_module(name)
    with suppress(Exception):  # a run tries again, and reports what is wrong
        import wandb.util

        installed = list(wandb.util.working_set())  # a tenth of a second, which each run would take again
        wandb.util.working_set = lambda: installed
        calls.set_up()


class WandbRun:
    """Each public method is a message; an error of one ends the process.

    `reply` is called with ``opened``, the mode, the command that uploads and a line for the log; with ``stop`` when the
    button that stops the run was pressed at W&B.
    """

    def __init__(self, reply: Callable[..., None]) -> None:
        self._reply = reply
        self._info: RunInfo
        self._run: wandb.Run
        self._open = False
        self._panels: dict[str, list[Any]] = {}
        self._charts: dict[str, Any] = {}
        self._earlier: list[Path] = []
        self._lock: filelock.BaseFileLock

    def open(self, info: RunInfo, resume: bool, program: list[str]) -> None:
        """Begin a run, which W&B may know already if it is to `resume`.

        W&B shows `program`: the script that trains, and its arguments.
        """
        import wandb

        self._info, self._panels, self._charts = info, {}, {}
        sys.argv = program  # W&B shows them
        _check_writable(info.folder)  # wandb would write to the temporary folder instead
        home = record.home(info.folder)
        home.mkdir(exist_ok=True)
        self._lock = filelock.FileLock(home / record.LOCK)
        self._lock.acquire(timeout=calls.END_SECONDS)  # the process of a killed session may still send its last rows
        calls.set_up()
        mode, reason = calls.resolve_mode(info.config["wandb"]["mode"])
        if mode == "online" and (failure := calls.why_unreachable(wandb.setup().settings.base_url)):
            mode, reason = "offline", failure
        try:
            self._init(mode, resume and mode == "online")
        except Exception as error:  # a server that does not answer, or a wandb-core that died after an earlier run
            calls.tear_down()
            mode, reason = "offline", calls.one_line(error) if mode == "online" else reason
            self._init(mode, resume=False)
        self._open, folder = True, Path(self._run.dir).parent
        self._earlier = [path for path in folder.parent.glob(f"offline-run-*-{self._run.id}*") if path != folder]
        # W&B copies its tables to a folder for data, which is by default below a home that may be read-only, or another
        # one where the run is uploaded.
        os.environ["WANDB_DATA_DIR"] = str(folder)
        sync = f"wandb sync --yes {'--include-online ' if mode == 'online' else ''}{folder}"
        offline = f"W&B is offline ({reason}); to upload the run: {sync}"
        self._reply("opened", mode, sync, f"W&B: {self._run.url}" if mode == "online" else offline)

    def _init(self, mode: str, resume: bool) -> None:
        import wandb

        info, settings = self._info, self._info.config["wandb"]
        identity = {name: getattr(info, name) for name in ("choices", "run_id", "cell_id", "git_commit")}

        def init() -> wandb.Run:
            run = wandb.init(
                project=settings["project"],
                entity=settings["entity"],
                mode="online" if mode == "online" else "offline",
                name=info.name,
                group=info.sweep,
                notes=settings["notes"],
                job_type="train",
                id=info.wandb_id,
                resume="allow" if resume else None,
                tags=settings["tags"],
                config=info.config | identity,
                dir=info.folder,
                reinit="create_new",  # never the run of a job that died before its end
                settings=wandb.Settings(
                    silent=True,
                    console="off",
                    init_timeout=calls.INIT_SECONDS,
                    finish_timeout=calls.FINISH_SECONDS,
                    finish_timeout_raises=True,
                    x_transaction_log_flush_interval=1.0,  # a crash loses a second of rows, not fifteen
                    disable_git=True,  # the commit is in the config; a remote's address may hold a token
                    disable_code=True,
                    save_code=False,
                    program=sys.argv[0],
                    x_stats_pid=os.getppid(),  # W&B shows memory and CPU time of the training
                    stop_fn=lambda: self._reply("stop"),
                ),
            )
            if resume:
                del run.summary["error"]  # type: ignore[no-untyped-call] # of the session before
            run.define_metric("*", step_metric="epoch")
            return run

        self._run = bounded(init, calls.INIT_SECONDS + calls.CALL_SECONDS)

    def restore(self, rows: Sequence[dict[str, Any]]) -> None:
        """Repeat the rows of earlier sessions, whose records this one replaces: W&B does not merge offline records."""
        for row in rows:
            self.epoch(row)
        for folder in self._earlier:
            shutil.rmtree(folder, ignore_errors=True)

    def epoch(self, row: dict[str, Any]) -> None:
        """Log a row, with panel and charts in the row of their epoch: the history has one row per epoch."""
        _check_writable(self._info.folder)  # wandb-core does not report a full disk, and drops the rows
        panels, self._panels = self._panels, {}
        shown = with_histograms(row) | panels
        if row["epoch"] == self._info.epochs:
            shown |= self._charts
        # The epoch is the step too, so that a resumed run does not repeat rows that the server has.
        if row["epoch"] >= self._run.starting_step:
            self._log(shown, int(row["epoch"]))

    def mixed_images(self, images: NDArray[Any], captions: Sequence[str]) -> None:
        """Keep a panel for the next row: images (n, 4, C, H, W) uint8 and n captions."""
        import wandb

        pairs = zip(images, captions, strict=True)
        self._panels[IMAGES] = [wandb.Image(strip(tiles), caption=caption) for tiles, caption in pairs]

    def mixed_sounds(self, sounds: NDArray[Any], rate: int, captions: Sequence[str]) -> None:
        """Keep sounds for the next row: (n, T) int16, in samples per second, and n captions."""
        import wandb

        folder = Path(tempfile.mkdtemp())  # for an array wandb would need another package
        self._panels[SOUNDS] = []
        for index, (sound, caption) in enumerate(zip(sounds, captions, strict=True)):
            file = folder / f"{index}.wav"
            file.write_bytes(encode(sound, rate))
            self._panels[SOUNDS].append(wandb.Audio(str(file), caption=caption))

    def predictions(self, predictions: Predictions) -> None:
        """Keep charts for the last row."""
        self._charts = charts(predictions)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Set final values."""
        bounded(lambda: self._run.summary.update(dict(summary)), calls.CALL_SECONDS)

    def taken_away(self) -> None:
        """Have a W&B sweep hand the point out again, when the run has ended with another exit code than 0."""
        bounded(self._run.mark_preempting, calls.CALL_SECONDS)

    def close(self, error: str | None, exit_code: int) -> None:
        """End the run; ``error`` is a traceback if the training failed."""
        if self._panels:  # the run has ended in its first epoch
            self._log(self._panels, 0)
        if error is not None:
            self.finish({"error": error})
        bounded(lambda: self._run.finish(exit_code=exit_code), calls.FINISH_SECONDS + calls.CALL_SECONDS)
        if exit_code == 0:
            with suppress(OSError):
                record.end(self._info.folder)
        self._open = False
        self._lock.release()

    def leave(self) -> None:
        """End the run of a training that was killed, if one is open. Called after the last message."""
        if self._open:
            self.close(ABANDONED, 1)

    def _log(self, row: dict[str, Any], step: int) -> None:
        bounded(lambda: self._run.log(row, step=step, commit=True), calls.CALL_SECONDS)


def _check_writable(folder: Path) -> None:
    """Raise OSError where a file of 64 KiB cannot be written to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(2**16))
