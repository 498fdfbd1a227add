"""Tables on the terminal. Importing this module takes neither pandas nor scipy, so that a finished table is quick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rich.console import Console
from rich.text import Text

from vicinal.report.widths import Column, drawn, fit, total_width
from vicinal.utils.output import printable

FAILED = "failed"  # column of reasons. On a terminal they stand below the table, which has no room for them.
PIPE_WIDTH = 240
"""Columns of a table in a pipe, which has no width of its own; more if a word, such as a folder, needs more."""


@dataclass(frozen=True)
class Grid:
    """A table as text."""

    title: str  # what the numbers are, and their unit; may be empty
    headings: list[str]  # of the columns
    numbers: list[str]  # headings of the columns that are aligned to the right
    rows: list[list[str]]  # one text per column
    spare: list[str] = field(default_factory=list)
    """Headings of the columns to be left out where a terminal is narrow, the least important first."""


def show(grids: Sequence[Grid], notes: Sequence[str], console: Console | None = None) -> None:
    """Print the tables, and the notes after them."""
    console = console or Console()
    for grid in grids:
        _show(grid, console)
    for note in notes:
        _line(f"note: {note}", console, "yellow")


def _show(grid: Grid, console: Console) -> None:
    reasons: list[str] = []
    if console.is_terminal and FAILED in grid.headings:
        grid, reasons = _without_reasons(grid)
    columns = _columns(grid, console.encoding)
    if not console.is_terminal:
        console.width = max(PIPE_WIDTH, total_width(columns))
    widths = fit(columns, console.width, [printable(heading, console.encoding) for heading in grid.spare])
    if grid.title:
        _line(grid.title, console, "italic")
    console.print(drawn(columns, widths))
    for line in reasons:
        _line(line, console, "red")
    if left_out := [heading for index, heading in enumerate(grid.headings) if index not in widths]:
        _line(f"not shown, for lack of room: {'; '.join(left_out)}", console, "dim")


def _without_reasons(grid: Grid) -> tuple[Grid, list[str]]:
    """Return the grid without the column of reasons, and the reasons as lines."""
    names, place = grid.headings.index(grid.numbers[0]), grid.headings.index(FAILED)
    reasons = [f"{FAILED}: {' '.join(row[:names])}, {row[place]}" for row in grid.rows if row[place]]
    headings, *rows = ([*row[:place], *row[place + 1 :]] for row in [grid.headings, *grid.rows])
    return replace(grid, headings=headings, rows=rows), reasons


def _columns(grid: Grid, encoding: str) -> list[Column]:
    """Return the columns in characters of this encoding."""
    columns = []
    for heading, *cells in zip(grid.headings, *grid.rows, strict=True):
        number, style = heading in grid.numbers and heading != FAILED, "red" if heading == FAILED else ""
        texts = [Text(printable(cell, encoding), style) for cell in cells]
        columns.append(Column(printable(heading, encoding), texts, number, fold=not number))
    return columns


def _line(text: str, console: Console, style: str) -> None:
    """Print a line, folded at its blanks on a terminal, whole in a pipe."""
    text = printable(text, console.encoding)
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=not console.is_terminal)
