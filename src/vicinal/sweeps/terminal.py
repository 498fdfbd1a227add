"""Finished tables on the terminal. It imports neither pandas nor scipy, so that a table that is there costs no time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

WIDTH = 240
"""A pipe has no width of its own; the folders must stay whole to be of use."""


@dataclass(frozen=True)
class Grid:
    """A table as text.

    Attributes:
        title: what the numbers are, and their unit.
        headings: of the columns.
        numbers: the columns that hold numbers, which stand right.
        rows: one text a column.
    """

    title: str
    headings: list[str]
    numbers: list[str]
    rows: list[list[str]]


def show(grids: Sequence[Grid], notes: Sequence[str], console: Console | None = None) -> None:
    """Print the tables, and after them what is to be known before they are believed."""
    console = console or Console(width=None if Console().is_terminal else WIDTH)
    for grid in grids:
        table = Table(title=grid.title, title_justify="left")
        for heading in grid.headings:
            style = "red" if heading == "failed" else ""
            table.add_column(
                heading, justify="right" if heading in grid.numbers else "left", overflow="fold", style=style
            )
        for row in grid.rows:
            table.add_row(*map(escape, row))
        console.print(table)
    for note in notes:
        console.print(f"note: {note}", style="yellow", markup=False, highlight=False, soft_wrap=True)
