"""Columns of a table on a terminal: the less important ones are left out if they do not fit, and no word is broken."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

FRAME_WIDTH = 3  # characters that a column takes beside its text; the table takes one more
AFTER_DOT = r"(?<=\w\.)(?=\w)"


@dataclass(frozen=True)
class Column:
    """A column of text."""

    heading: str  # it may be folded at its blanks, and after the dots of a key
    cells: Sequence[Text]  # from top to bottom
    number: bool = False  # whether it is aligned to the right
    fold: bool = True  # whether cells may be folded too, at their blanks

    @cached_property
    def natural(self) -> int:
        """Width without any folding."""
        return max(cell_len(text) for text in (self.heading, *map(str, self.cells)))

    @cached_property
    def least(self) -> int:
        """Width at which no word is broken."""
        cells = [word for cell in self.cells for word in (cell.plain.split() if self.fold else [cell.plain])]
        return max(map(cell_len, (*re.split(rf"\s+|{AFTER_DOT}", self.heading), *cells)))

    def folded(self, width: int) -> list[str]:
        """Return the heading as lines of at most this width, or of one word."""
        parts = [self.heading] if cell_len(self.heading) <= width else re.split(AFTER_DOT, self.heading)
        return [line for part in parts for line in textwrap.wrap(part, width, break_long_words=False) or [""]]


def fit(columns: Sequence[Column], room: int, spare: Sequence[str]) -> dict[int, int]:
    """Return {index of a column: width of its text} for the columns that a terminal of a width has room for.

    Where there is no room, those of ``spare`` are left out, the least important first, and after these the last of the
    others. One column always stays.
    """
    rank = {heading: place for place, heading in enumerate(reversed(spare))}
    kept: list[int] = []
    for index in sorted(range(len(columns)), key=lambda index: rank.get(columns[index].heading, -1)):
        if not kept or total_width(columns[place] for place in (*kept, index)) <= room:
            kept.append(index)
    widths = {index: columns[index].least for index in sorted(kept)}
    left = max(0, room - total_width(columns[index] for index in kept))
    for index in sorted(kept, key=lambda index: columns[index].natural - widths[index]):  # most columns get all
        more = min(left, columns[index].natural - widths[index])
        widths[index] += more
        left -= more
    return {index: max(1, min(width, room - FRAME_WIDTH - 1)) for index, width in widths.items()}


def total_width(columns: Iterable[Column]) -> int:
    """Return the least width of a table with these columns."""
    return 1 + sum(column.least + FRAME_WIDTH for column in columns)


def drawn(columns: Sequence[Column], widths: Mapping[int, int]) -> Table:
    """Return the chosen columns as a table; a single word that is wider than the terminal ends in an ellipsis."""
    table = Table()
    for index, width in widths.items():
        column = columns[index]
        heading = Text("\n".join(column.folded(width)))
        justify = "right" if column.number else "left"
        table.add_column(heading, justify=justify, width=width, overflow="ellipsis", no_wrap=not column.fold)  # type: ignore[arg-type]
    for row in zip(*(columns[index].cells for index in widths), strict=True):
        table.add_row(*row)
    return table
