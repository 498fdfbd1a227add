"""A sweep on a real pseudo-terminal, as an emulator shows it: one table at the bottom, and lines above it."""

import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyte
import pytest

TRAIN = Path(__file__).parents[2] / "train.py"
LINES = 30
QUIET = 0.1
"""Seconds without output after which nothing is half drawn."""
SWEEP = ("mixup=none,input", "wandb.mode=disabled", "dataset.train_size=100", "dataset.val_size=100", "-m")
LAUNCHERS = {"serial": (), "parallel": ("hydra/launcher=parallel", "hydra.launcher.n_jobs=2")}


class Terminal:
    """A terminal with ``train.py`` in its foreground."""

    def __init__(self, folder: Path, columns: int, *words: str) -> None:
        self.screen = pyte.HistoryScreen(columns, LINES, history=5000)
        self.stream = pyte.ByteStream(self.screen)
        self.printed = b""
        self.master, slave = os.openpty()
        self.name = os.ttyname(slave)
        self.resize(columns)
        # The shell leads a session without a terminal, and the first one that it opens is that of the session.
        command = ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', self.name, sys.executable, str(TRAIN), *words]
        self.process = subprocess.Popen(command, cwd=folder, start_new_session=True, env=os.environ | {"TERM": "xterm"})
        os.close(slave)

    def resize(self, columns: int) -> None:
        self.screen.resize(LINES, columns)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def read(self, seconds: float) -> bool:
        """Show what the process prints within these seconds; false if that is nothing."""
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # the process has ended
            return False
        self.printed += data
        self.stream.feed(data)
        return bool(data)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it is so and stays so: between two frames the table is gone, on a busy machine for a while."""
        limit = time.monotonic() + 120
        while True:
            while not condition():
                assert time.monotonic() < limit, "\n".join(self.lines)
                assert self.process.poll() is None, "\n".join(self.lines)
                self.read(1.0)
            while self.read(QUIET):
                pass
            if condition():
                return

    def end(self) -> int:
        while self.process.poll() is None:
            self.read(1.0)
        while self.read(QUIET):
            pass
        return self.process.returncode

    @property
    def lines(self) -> list[str]:
        """On the screen."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def history(self) -> list[str]:
        """All lines since the beginning."""
        above = ["".join(line[column].data for column in sorted(line)).rstrip() for line in self.screen.history.top]
        return above + self.lines

    def shows(self, word: str) -> bool:
        return any(word in line for line in self.lines)

    def epochs(self) -> int:
        """Number of epochs told of so far."""
        return self.printed.count(b" images/s ")


@contextmanager
def sweeping(folder: Path, columns: int, launcher: str, epochs: int) -> Iterator[Terminal]:
    terminal = Terminal(folder, columns, *SWEEP, f"trainer.epochs={epochs}", *LAUNCHERS[launcher])
    try:
        yield terminal
    finally:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.master)


def whole_tables(lines: list[str]) -> int:
    """Tables with a top and a bottom edge of the same width; any part of a table that is none of these is an error."""
    tops = [line for line in lines if line.startswith("┏")]
    bottoms = [line for line in lines if line.startswith("└")]
    assert list(map(len, tops)) == list(map(len, bottoms))
    assert all(line.endswith("┓") for line in tops)
    assert all(line.endswith("┘") for line in bottoms)
    inside = False
    for line in lines:
        inside = (inside or line.startswith("┏")) and not line.startswith("└")
        assert inside == line.startswith(("┏", "┃", "┡", "│")), "\n".join(lines)
    return len(tops)


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "columns", "then"), [("parallel", 80, 150), ("serial", 150, 80)])
def test_one_table_stays_at_the_bottom_through_a_resize_and_makes_way_for_the_report(
    tmp_path: Path, launcher: str, columns: int, then: int
) -> None:
    with sweeping(tmp_path, columns, launcher, epochs=90) as terminal:
        terminal.until(lambda: terminal.shows("running") and terminal.shows("└") and terminal.epochs() > 4)
        assert whole_tables(terminal.lines) == 1
        terminal.resize(then)
        terminal.until(lambda: terminal.shows("running") and terminal.shows("└") and terminal.epochs() > 10)
        assert whole_tables(terminal.lines) == 1
        filled = [line for line in terminal.lines if line]
        assert filled[-1].startswith("└")
        assert terminal.end() == 0
        shown = "\n".join(terminal.history)
        assert "┃ seed" not in shown
        assert whole_tables(terminal.history) == 2  # the cells and the difference between them
        assert shown.count("top-1 accuracy in %") == 1
        for epoch in range(1, 91):
            assert shown.count(f"epoch {epoch:>2}/90") >= 2  # of each job; some again after the resize


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "columns"), [("parallel", 150), ("serial", 80)])
def test_after_ctrl_c_one_table_says_where_the_sweep_stands(tmp_path: Path, launcher: str, columns: int) -> None:
    with sweeping(tmp_path, columns, launcher, epochs=2000) as terminal:
        terminal.until(lambda: terminal.shows("running") and terminal.epochs() > 10)
        terminal.press(b"\x03")
        assert terminal.end() == 130
        assert whole_tables(terminal.history) == 1
        assert terminal.shows("stopped")
        assert not terminal.shows("running")
        assert terminal.shows("interrupted: 0 of 2 runs are completed")
