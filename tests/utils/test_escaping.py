"""Text from outside stays text in every format."""

import io

import pytest
from rich.console import Console

from vicinal.report import tables
from vicinal.report.terminal import Grid, show
from vicinal.utils import escaping

EVIL = [
    *("x\x1b[31m\x1b]0;t\x07", "a\n\\write18{rm -rf x}\n%", "a\r\nb", "a|b", "`x`", "<img src=x onerror=y>"),
    *(
        "![a](http://b)",
        "[a](http://b)",
        "&lt;",
        "*a",
        "[1]",
        "a\u202eb",
        "\u2028",
        "^^5cwrite18",
        "a & b \\\\ c",
        "\ud800",
    ),
]


def test_control_characters_are_shown() -> None:
    assert escaping.visible("a\x1b[31m\n\t\u202e\x9b\ud800é") == "a\\x1b[31m\\n\\t\\u202e\\x9b\\ud800é"
    assert escaping.visible("a\n\tb\r", keep="\n\t") == "a\n\tb\\r"


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        *[
            (text, f"'{text}")
            for text in ("=1+1", "+a", "-a", "@SUM(A1)", "\t=1", "\r=1", " =1", "=cmd|'/c calc'!A0", "＝1")
        ],
        *[
            (value, value)
            for value in ("-", "-1", "+1.5", "-1e-3", "-inf", "a=b", "mixup=none", "", "1", 0.5, -3, None)
        ],
    ],
)
def test_a_cell_is_not_computed_and_a_number_stays_one(value: object, cell: object) -> None:
    assert escaping.csv(value) == cell


@pytest.mark.parametrize("text", EVIL)
def test_markdown_and_latex_stay_in_their_cell(text: str) -> None:
    grids = [Grid(f"title {text}", ["name", text], [text], [[text, text], ["b", "1"]])]
    lines = tables.markdown(grids, [text, "a note"]).split("\n")
    assert len(lines) == 10
    assert all(line.replace("\\|", "").count("|") == 3 for line in lines[2:6])
    assert lines[8] == "- a note"
    shown = "\n".join(lines).replace("\\<", "")
    assert not any(mark in shown for mark in ("](", "<img", "\x1b", " `x`"))
    written = tables.latex(grids, [text, "a note"]).split("\n")
    assert len(written) == len(
        tables.latex([Grid("t", ["n", "x"], ["x"], [["a", "a"], ["b", "1"]])], ["", ""]).split("\n")
    )
    code = "\n".join(line for line in written if not line.startswith("%"))
    assert "\\write" not in code
    assert "^^" not in code
    assert not any(line.startswith(("[", "*")) for line in written)


def test_the_terminal_gets_no_escapes_of_others() -> None:
    stream = io.StringIO()
    rows = [[text, "1"] for text in EVIL]
    show([Grid("t\x1b[2J", ["n\x1b[2J", "x"], ["x"], rows)], ["n\x1b]0;x\x07"], Console(file=stream, width=200))
    printed = stream.getvalue()
    assert "\x1b" not in printed
    assert "\x07" not in printed
    assert "x\\x1b[31m\\x1b]0;t\\x07" in printed
    printed.encode()
