"""What stays at the bottom of a terminal, by what an emulator shows."""

from __future__ import annotations

import io

import pyte
import pytest
from rich.console import Console

from vicinal.live.pinned import Pinned

BLOCK = "┏━━━━━━┓\n┃ word ┃\n└──────┘"


class Shown:
    """A console whose output a terminal of some size shows."""

    def __init__(self, columns: int, lines: int) -> None:
        self.screen = pyte.HistoryScreen(columns, lines, history=100)
        self.stream = pyte.Stream(self.screen)
        self.file = io.StringIO()
        self.console = Console(file=self.file, width=columns, height=lines, force_terminal=True, color_system=None)

    def lines(self) -> list[str]:
        self.stream.feed(self.file.getvalue().replace("\n", "\r\n"))
        self.file.truncate(self.file.seek(0))
        return [line.rstrip() for line in self.screen.display]


def draw(pinned: Pinned, *lines: str) -> None:
    pinned.draw(lambda width, height: BLOCK, lines)


def test_the_block_is_below_what_is_printed_and_is_erased() -> None:
    shown = Shown(20, 8)
    pinned = Pinned(shown.console)
    draw(pinned, "first")
    draw(pinned, "second")
    assert shown.lines() == ["first", "second", *BLOCK.split("\n"), "", "", ""]
    draw(pinned, *map(str, range(5)))
    assert shown.lines() == ["1", "2", "3", "4", *BLOCK.split("\n"), ""]
    pinned.erase()
    assert shown.lines() == ["1", "2", "3", "4", "", "", "", ""]


@pytest.mark.parametrize(
    ("line", "there"),
    [
        ("10 %\r20 %\r100 %", "100 %"),
        ("10 %\r20 %\r", "20 %"),
        ("\x1b[2J\x1b[5;5Hhere", "here"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("a\tb", "a       b"),
        ("twenty-two characters!", "twenty-two character"),
    ],
)
def test_no_line_moves_the_cursor(line: str, there: str) -> None:
    shown = Shown(20, 8)
    pinned = Pinned(shown.console)
    draw(pinned, line)
    draw(pinned)
    lines = [each for each in shown.lines() if each]
    assert lines[0] == there
    assert lines[-3:] == BLOCK.split("\n")
    assert len(lines) == 4 + (len(there) == 20)


@pytest.mark.parametrize(("before", "after"), [(40, 12), (12, 40)])
def test_after_a_resize_there_is_one_block_and_no_line_is_lost(before: int, after: int) -> None:
    shown = Shown(before, 10)
    pinned = Pinned(shown.console)
    for number in range(30):
        draw(pinned, f"line {number}, which is long")
    shown.lines()
    shown.screen.resize(10, after)
    shown.console.size = after, 10
    draw(pinned, "last")
    lines = shown.lines()
    assert lines[-4:] == [*BLOCK.split("\n"), ""]
    assert sum(line.startswith("┏") for line in lines) == 1
    assert lines[-5] == "last"
    above = ["".join(line[place].data for place in sorted(line)) for line in shown.screen.history.top]
    assert "┏" not in "".join(above)
    everything = "".join([*above, *lines])
    assert all(f"line {number}," in everything for number in range(30))
