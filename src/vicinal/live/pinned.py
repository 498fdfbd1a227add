"""Lines that stay at the bottom of a terminal, below everything that is printed meanwhile."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Sequence

from rich.ansi import AnsiDecoder
from rich.console import Console, RenderableType
from rich.text import Text

REMEMBERED = 200
"""Printed lines that are kept, since some are drawn again when the terminal has another size: more than it shows."""
UP = "\x1b[1A\x1b[2K"  # to the line above, which is erased


class Pinned:
    """A block of lines below what is printed on a terminal.

    The cursor waits in an empty line below the block, where a terminal may echo keys, such as ``^C``. On a terminal of
    another size than before, the lines that are already there may have been wrapped, cut or left as they were. What has
    been printed there is then erased, by the larger of the numbers of lines that it may take, and drawn again: rather a
    line twice in the history of the terminal than half a block on the screen.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._size = self._measure()
        self._block: list[int] = []  # widths of its lines
        self._printed: deque[Text] = deque(maxlen=REMEMBERED)

    @property
    def encoding(self) -> str:
        """Encoding of the terminal."""
        return self._console.encoding

    def resized(self) -> bool:
        """True if the terminal has another size than it was last drawn on."""
        return self._measure() != self._size

    def draw(self, block: Callable[[int, int], RenderableType], printed: Sequence[str] = ()) -> None:
        """Redraw the block, below lines that are `printed` above it.

        `block` makes it for a number of columns and lines of the terminal; of too many lines, the first ones are shown.
        """
        lines = [_still(line) for line in printed]
        again, up = self._again()
        self._printed.extend(lines)
        with self._console.capture() as above:
            for line in [*again, *lines]:
                self._console.print(line, soft_wrap=True)
        with self._console.capture() as below:
            self._console.print(block(*self._size))
        height = self._size[1]
        rows = below.get().removesuffix("\n").split("\n")[: max(1, height - 2)]
        self._write(f"\r\x1b[2K{UP * min(up, height - 1)}{above.get()}" + "".join(f"{row}\n" for row in rows))
        self._block = [_still(row).cell_len for row in rows]

    def erase(self) -> None:
        """Take the block away."""
        _, up = self._again()
        self._write(f"\r\x1b[2K{UP * min(up, self._size[1] - 1)}")
        self._block = []

    def _again(self) -> tuple[list[Text], int]:
        """Return what has to be printed once more, and how many lines above the cursor have to be erased before."""
        before, self._size = self._size, self._measure()
        if self._size == before:
            return [], len(self._block)
        self._console.size = self._size
        widths = before[0], self._size[0]
        printed = [_rows([line.cell_len], widths) for line in self._printed]
        taken = _rows(self._block, widths)
        up = min(self._size[1] - 1, max(map(sum, zip(taken, *printed, strict=True))))
        count = 0
        while count < len(printed) and min(taken) < up:
            count += 1
            taken = [sum(rows) for rows in zip(taken, printed[-count], strict=True)]
        return list(self._printed)[len(printed) - count :], up

    def _measure(self) -> tuple[int, int]:
        try:
            columns, lines = os.get_terminal_size(self._console.file.fileno())
        except (OSError, ValueError):  # the terminal is gone, or a test has none
            columns, lines = self._console.size
        return max(1, columns), max(1, lines)

    def _write(self, text: str) -> None:
        self._console.file.write(text)
        self._console.file.flush()


def _still(line: str) -> Text:
    """A line without whatever would move the cursor: of a progress bar's states, the last one."""
    text = AnsiDecoder().decode_line(line.rstrip("\r"))
    text.expand_tabs(8)
    return text


def _rows(lengths: Sequence[int], widths: Sequence[int]) -> list[int]:
    """Lines of a terminal that texts of these lengths take, for each width that it may have."""
    return [sum(max(1, math.ceil(length / width)) for length in lengths) for width in widths]
