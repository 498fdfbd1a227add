"""A run in the terminal: a progress bar on a terminal, plain lines in files and pipes."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import rich.console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from vicinal.tracking.tracker import Progress, RunInfo, Tracker


class Console(Tracker):
    """Prints one line per epoch; on a terminal also a bar over the entire run, which is erased when the run ends.

    Messages that any thread logs appear above the bar. `console` is standard output by default; `clock` is in seconds;
    the samples are called by their `noun`.
    """

    def __init__(
        self,
        steps_per_epoch: int,
        console: rich.console.Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        noun: str = "images",
    ) -> None:
        self._steps, self._noun = steps_per_epoch, noun
        self._console = console or rich.console.Console()
        self._clock = clock
        self._skipped = 0.0  # epochs trained before this session
        self._bar: Bar | None = None
        self._shown = ExitStack()  # undoes what shows the bar

    def start(self, info: RunInfo) -> None:
        self._epochs, self._began = info.epochs, self._clock()
        if not self._console.is_interactive:
            return
        self._bar = Bar(
            TextColumn(f"epoch {{task.fields[epoch]}}/{info.epochs}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[text]}", markup=False),
            console=self._console,
            transient=True,
        )
        self._bar.add_task("", total=info.epochs * self._steps, epoch=1, text="")
        # A line on the terminal itself would cut the bar in two.
        above = partial(self._console.print, end="", markup=False, highlight=False, soft_wrap=True)
        stream = cast(Any, SimpleNamespace(write=above, flush=lambda: None))
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is self._console.file:
                self._shown.callback(handler.setStream, handler.setStream(stream))
        self._shown.enter_context(self._bar)

    def close(self, error: BaseException | None) -> None:
        self._shown.close()

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
            text=f"{_numbers(progress.means, '  ')}  {progress.images_per_second:.0f} {self._noun}/s  {left}",
        )

    def epoch(self, row: Mapping[str, Any]) -> None:
        self._console.print(self._line(row), markup=False, highlight=False, soft_wrap=True)

    def _line(self, row: Mapping[str, float | int]) -> str:
        epoch, epochs = int(row["epoch"]), self._epochs
        train, val, test = (
            {key.removeprefix(f"{part}/"): value for key, value in row.items() if key.startswith(f"{part}/")}
            for part in ("train", "val", "test")
        )
        parts = [f"epoch {epoch:>{len(str(epochs))}}/{epochs}"]
        for name in (name for name in train if not name.endswith(("_ceiling", "_floor"))):
            ceiling = f" (ceiling {train[f'{name}_ceiling']:.3f})" if f"{name}_ceiling" in train else ""
            parts.append(f"{name} {train[name]:.3f}{ceiling}")
        if val or test:
            parts.append(f"{'val' if val else 'test'} {_numbers(val or test, ' ')}")
        parts += [f"lr {row['lr']:#.3g}", f"{row['throughput']:.0f} {self._noun}/s", self._left(epoch - 1, 1.0)]
        return "  ".join(parts).rstrip()

    def _left(self, before: int, part: float) -> str:
        """Return the time left after ``before`` epochs and ``part`` of one more, at this session's mean pace."""
        done = before + part - self._skipped
        if done <= 0:  # resumed at the very end of an epoch
            return ""
        pace = (self._clock() - self._began) / done
        seconds = round(pace * (self._epochs - before - part))
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02} left" if hours else f"{minutes}:{seconds:02} left"


def _numbers(numbers: Mapping[str, float], separator: str) -> str:
    return separator.join(f"{name} {value:.3f}" for name, value in numbers.items())
