"""The run in the terminal: a progress bar for people, plain lines for files and pipes."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, cast

import rich.console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from vicinal.tracking.tracker import Progress, Tracker


class Console(Tracker):
    """A line an epoch; on a terminal also a bar over the entire run, which is gone when the run ends.

    What is logged meanwhile appears above the bar, from any thread.

    Args:
        epochs: of the run.
        steps_per_epoch: optimiser steps in an epoch.
        console: where to write; standard output when None.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        epochs: int,
        steps_per_epoch: int,
        console: rich.console.Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._epochs = epochs
        self._steps = steps_per_epoch
        self._console = console or rich.console.Console()
        self._clock = clock
        self._began = clock()
        self._skipped = 0.0  # epochs trained before this session
        self._bar = _bar(epochs, steps_per_epoch, self._console) if self._console.is_interactive else None
        self._lent: list[tuple[logging.StreamHandler[Any], Any]] = []

    def __enter__(self) -> Self:
        self._began = self._clock()
        if self._bar:
            handlers = [each for each in logging.getLogger().handlers if isinstance(each, logging.StreamHandler)]
            for handler in [each for each in handlers if each.stream is self._console.file]:
                self._lent.append((handler, handler.setStream(cast(Any, _AboveTheBar(self._console)))))
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        while self._lent:
            handler, stream = self._lent.pop()
            handler.setStream(stream)

    def restore(self, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        self._skipped = len(rows) + step / self._steps

    def progress(self, progress: Progress) -> None:
        if self._bar is None:
            return
        left = self._left(progress.epoch - 1, progress.step / self._steps)
        self._bar.update(
            self._bar.task_ids[0],
            completed=(progress.epoch - 1) * self._steps + progress.step,
            epoch=progress.epoch,
            text=f"loss {progress.loss:.3f}  acc {progress.acc1:.3f}  {progress.images_per_second:.0f} img/s  {left}",
        )

    def epoch(self, row: Mapping[str, Any]) -> None:
        self._console.print(self._line(row), markup=False, highlight=False, soft_wrap=True)

    def _line(self, row: Mapping[str, float | int]) -> str:
        epoch, epochs = int(row["epoch"]), self._epochs
        parts = [
            f"epoch {epoch:>{len(str(epochs))}}/{epochs}",
            f"loss {row['train/loss']:.3f}",
            f"acc {row['train/acc1']:.3f} (ceiling {row['train/acc1_ceiling']:.3f})",
        ]
        split = next((split for split in ("val", "test") if f"{split}/acc1" in row), None)
        if split:
            parts.append(f"{split} acc1 {row[f'{split}/acc1']:.3f} nll {row[f'{split}/nll']:.3f}")
        parts += [f"lr {row['lr']:#.3g}", f"{row['throughput']:.0f} img/s", self._left(epoch - 1, 1.0)]
        return "  ".join(parts).rstrip()

    def _left(self, before: int, part: float) -> str:
        """Time left in the run, at this session's mean pace so far, evaluation included.

        Args:
            before: whole epochs done before the running one.
            part: of the running epoch that is done, in (0, 1].
        """
        done = before + part - self._skipped
        if done <= 0:  # continued at the very end of an epoch
            return ""
        pace = (self._clock() - self._began) / done
        seconds = round(pace * (self._epochs - before - part))
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02} left" if hours else f"{minutes}:{seconds:02} left"


class _AboveTheBar:
    """Where a log handler writes while there is a bar, which it would cut in two on the terminal itself."""

    def __init__(self, console: rich.console.Console) -> None:
        self._console = console

    def write(self, text: str) -> None:
        self._console.print(text, end="", markup=False, highlight=False, soft_wrap=True)

    def flush(self) -> None:
        pass


def _bar(epochs: int, steps: int, console: rich.console.Console) -> Bar:
    bar = Bar(
        TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[text]}", markup=False),
        console=console,
        transient=True,
    )
    bar.add_task("", total=epochs * steps, epoch=1, text="")
    return bar
