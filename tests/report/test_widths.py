"""Tables on narrow terminals: what is shown, in which order the rest goes, and that every word is whole."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from vicinal.report.terminal import Grid, show
from vicinal.report.widths import Column, fit, total_width
from vicinal.utils.output import ERRORS

NAMES = ["mixup", "optimizer.weight_decay"]
SCORES = ["n", "val, last epoch", "test, last epoch", "95 % interval, last epoch"]
GRID = Grid(
    "top-1 accuracy in %, mean ± std over n seeds",
    [*NAMES, *SCORES, "failed", "folder"],
    SCORES,
    [
        ["none", "0.0001", "3", "97.51 ± 0.32", "97.52 ± 0.32", "[96.12, 98.91]", "", "digits-cnn-none-20bb95e85c-s*"],
        ["input", "0.0005", "2", "96.00 ± 1.00", "95.00 ± 1.00", "-", "seed 0: the loss is not finite", "digits-s*"],
    ],
    spare=["folder", "val, last epoch", "95 % interval, last epoch", "n", "optimizer.weight_decay"],
)


def shown(width: int, encoding: str = "utf-8", pipe: bool = False) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding, ERRORS)
    show([GRID], ["a note that is longer than most terminals are wide"], Console(
        file=file, width=width, force_terminal=not pipe, no_color=True, color_system=None, legacy_windows=False
    ))  # fmt: skip
    file.seek(0)
    return file.read()


@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (150, ""),
        (80, "folder"),
        (60, "val, last epoch; folder"),
        (50, "val, last epoch; 95 % interval, last epoch; folder"),
        (40, "n; val, last epoch; 95 % interval, last epoch; folder"),
        (30, "optimizer.weight_decay; val, last epoch; 95 % interval, last epoch; folder"),  # n has room again
    ],
)
def test_what_matters_least_is_left_out_first_and_named(width: int, left_out: str) -> None:
    text = shown(width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    said = re.search(r"not shown, for lack of room: (.*?)\nnote", text, re.DOTALL)
    assert (" ".join(said[1].split()) if said else "") == left_out
    words = set(text.replace("│", " ").replace("┃", " ").split())
    assert {"mixup", "none", "input", "finite"} <= words
    assert "97.52 ± 0.32" in text
    assert "…" not in text


def test_a_pipe_has_all_columns_and_whole_lines() -> None:
    text = shown(80, pipe=True)
    assert "not shown" not in text
    [row] = [line for line in text.splitlines() if line.startswith("│ none")]
    assert [cell.strip() for cell in row.split("│")[1:-1]] == GRID.rows[0]
    assert "note: a note that is longer than most terminals are wide\n" in text


def test_in_ascii_the_columns_stand_straight() -> None:
    lines = shown(150, "ascii").splitlines()
    edges = [line for line in lines if line.startswith(("+", "|"))]
    assert len(edges) >= 6
    assert len({len(line) for line in edges}) == 1
    assert any("97.52 +- 0.32" in line for line in edges)


words = st.text("abcdefgh", min_size=1, max_size=12)
texts = st.lists(words, min_size=1, max_size=4).map(" ".join)
cells = st.lists(texts.map(Text), min_size=2, max_size=2)
columns = st.lists(st.builds(Column, texts, cells, fold=st.booleans()), min_size=1)


@given(columns, st.integers(20, 120))
def test_what_is_shown_fits_and_is_no_narrower_than_a_word(found: list[Column], room: int) -> None:
    widths = fit(found, room, spare=[])
    assert sum(widths.values()) + 3 * len(widths) + 1 <= max(room, 0)
    if len(widths) > 1 or found[0].least + 4 <= room:
        assert all(found[index].least <= width <= found[index].natural for index, width in widths.items())
    assert (len(widths) == len(found)) == (total_width(found) <= room or len(found) == 1)
