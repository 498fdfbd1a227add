"""Finished tables on the terminal. It imports neither pandas nor scipy, so that a table that is there costs no time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rich.console import Console

from vicinal.report.widths import Column, drawn, fit, whole
from vicinal.utils.output import printable

FAILED = "failed"
"""The column of reasons, which stand below the table on a terminal: it has no room for them."""
WIDTH = 240
"""Of a table in a pipe, which has no width of its own; it is wider where a word is: the folders must stay whole."""


@dataclass(frozen=True)
class Grid:
    """A table as text.

    Attributes:
        title: what the numbers are, and their unit; may be empty.
        headings: of the columns.
        numbers: the columns that hold numbers, which stand right.
        rows: one text per column.
        spare: the columns to be left out where a terminal is narrow, the least important first.
    """

    title: str
    headings: list[str]
    numbers: list[str]
    rows: list[list[str]]
    spare: list[str] = field(default_factory=list)


def show(grids: Sequence[Grid], notes: Sequence[str], console: Console | None = None) -> None:
    """Print the tables, and after them what is to be known before they are believed."""
    console = console or Console()
    for grid in grids:
        _show(grid, console)
    for note in notes:
        _line(f"note: {note}", console, "yellow")


def _show(grid: Grid, console: Console) -> None:
    reasons: list[str] = []
    if console.is_terminal and FAILED in grid.headings:
        grid, reasons = _apart(grid)
    columns = _columns(grid, console.encoding)
    if not console.is_terminal:
        console.width = max(WIDTH, whole(columns))
    widths = fit(columns, console.width, [printable(each, console.encoding) for each in grid.spare])
    if grid.title:
        _line(grid.title, console, "italic")
    console.print(drawn(columns, widths))
    for line in reasons:
        _line(line, console, "red")
    if left_out := [heading for index, heading in enumerate(grid.headings) if index not in widths]:
        _line(f"not shown, for lack of room: {'; '.join(left_out)}", console, "dim")


def _apart(grid: Grid) -> tuple[Grid, list[str]]:
    """A grid without its reasons, and these as lines."""
    names, place = grid.headings.index(grid.numbers[0]), grid.headings.index(FAILED)
    reasons = [f"{FAILED}: {' '.join(row[:names])}, {row[place]}" for row in grid.rows if row[place]]
    headings, *rows = ([*row[:place], *row[place + 1 :]] for row in [grid.headings, *grid.rows])
    return replace(grid, headings=headings, rows=rows), reasons


def _columns(grid: Grid, encoding: str) -> list[Column]:
    """In characters that a terminal of this encoding has."""
    columns = []
    for index, heading in enumerate(grid.headings):
        name, *cells = (printable(row[index], encoding) for row in [grid.headings, *grid.rows])
        number = heading in grid.numbers and heading != FAILED
        columns.append(Column(name, cells, number, "red" if heading == FAILED else "", fold=not number))
    return columns


def _line(text: str, console: Console, style: str) -> None:
    """Fold a line at its blanks for a terminal; a pipe gets it whole."""
    text = printable(text, console.encoding)
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=not console.is_terminal)
