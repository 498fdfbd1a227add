"""Columns of a table that a terminal has room for: the less important ones are left out, and no word is broken."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

EDGES = 3
"""Cells of a terminal that a column takes besides its text; the table takes one more."""


@dataclass(frozen=True)
class Column:
    """A column of text.

    Attributes:
        heading: it may be folded at its blanks, and after the dots of a key.
        cells: from top to bottom.
        number: whether it stands right.
        style: of its text, for rich.
        fold: whether cells may be folded too, at their blanks.
        styles: of single cells, if they differ.
    """

    heading: str
    cells: Sequence[str]
    number: bool = False
    style: str = ""
    fold: bool = True
    styles: Sequence[str] = ()

    @cached_property
    def natural(self) -> int:
        """Width without any folding."""
        return max(map(cell_len, (self.heading, *self.cells)))

    @cached_property
    def least(self) -> int:
        """Width at which no word is broken."""
        cells = (word for cell in self.cells for word in cell.split()) if self.fold else self.cells
        return max(map(cell_len, (*_words(self.heading), *cells)), default=0)

    def folded(self, width: int) -> list[str]:
        """The heading as lines of at most this width, but no less than a word."""
        lines = [""]
        for word in _words(self.heading):
            longer = f"{lines[-1]}{'' if not lines[-1] or lines[-1].endswith('.') else ' '}{word}"
            if cell_len(longer) <= width:
                lines[-1] = longer
            else:
                lines.append(word)
        return [line for line in lines if line] or [""]


def fit(columns: Sequence[Column], room: int, spare: Sequence[str]) -> dict[int, int]:
    """Choose the columns to show.

    Args:
        columns: of the table.
        room: width of the terminal.
        spare: headings of those to be left out where there is no room, the least important first. After these it is
            the last column's turn. One column always stays.

    Returns:
        {index of the column: width of its text}, in order.
    """
    kept = list(range(len(columns)))
    named = [column.heading for column in columns]
    turns = [index for heading in spare for index in kept if named[index] == heading]
    turns += [index for index in reversed(kept) if index not in turns]
    for index in turns:
        if len(kept) == 1 or _total(columns[each].least for each in kept) <= room:
            break
        kept.remove(index)
    widths = {index: columns[index].least for index in kept}
    left = max(0, room - _total(widths.values()))
    for index in sorted(kept, key=lambda index: columns[index].natural - widths[index]):  # most are whole then
        more = min(left, columns[index].natural - widths[index])
        widths[index] += more
        left -= more
    return {index: min(width, room - EDGES - 1) for index, width in widths.items()}


def whole(columns: Sequence[Column]) -> int:
    """Width of a table in which all columns are shown, and no word is broken."""
    return _total(column.least for column in columns)


def drawn(columns: Sequence[Column], widths: Mapping[int, int]) -> Table:
    """The chosen columns as a table for rich; a lone word that is wider than the terminal ends in an ellipsis."""
    table = Table()
    for index, width in widths.items():
        column = columns[index]
        table.add_column(
            Text("\n".join(column.folded(width))),
            justify="right" if column.number else "left",
            style=column.style,
            width=max(1, width),
            overflow="ellipsis",
            no_wrap=not column.fold,
        )
    for row in zip(*(_texts(columns[index]) for index in widths), strict=True):
        table.add_row(*row)
    return table


def _texts(column: Column) -> list[Text]:
    styles = column.styles or [""] * len(column.cells)
    return [Text(cell, style) for cell, style in zip(column.cells, styles, strict=True)]


def head_lines(columns: Sequence[Column], widths: Mapping[int, int]) -> int:
    """Lines of the headings."""
    return max((len(columns[index].folded(width)) for index, width in widths.items()), default=1)


def _words(heading: str) -> list[str]:
    return [part for word in heading.split() for part in re.split(r"(?<=\w\.)(?=\w)", word)]


def _total(widths: Iterable[int]) -> int:
    each = list(widths)
    return sum(each) + EDGES * len(each) + 1
