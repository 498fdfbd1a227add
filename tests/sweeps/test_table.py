"""A sweep's table as it is printed."""

import io
import math
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from vicinal.sweeps.collect import SCORES
from vicinal.sweeps.table import percent, show

NAN = math.nan


def printed(rows: list[dict[str, object]], width: int = 200) -> str:
    stream = io.StringIO()
    show(pd.DataFrame(rows), Path("outputs/sweeps/today"), Console(file=stream, width=width))
    return stream.getvalue()


def row(alpha: str, means: list[float], stds: list[float], n: int = 3, failed: str = "") -> dict[str, object]:
    scores = {
        f"{score} {name}": value
        for name, values in (("mean", means), ("std", stds))
        for score, value in zip(SCORES, values, strict=True)
    }
    return {"mixup.alpha": alpha, "n": n, **scores, "failed": failed, "folder": f"/deep/runs/digits-{alpha}-s*"}


@pytest.mark.parametrize(
    ("mean", "std", "text"),
    [(0.98765, 0.00126, "98.77 ± 0.13"), (1.0, 0.0, "100.00 ± 0.00"), (0.5, NAN, "50.00"), (NAN, NAN, "-")],
)
def test_accuracies_are_percent_and_one_seed_has_no_deviation(mean: float, std: float, text: str) -> None:
    assert percent(mean, std) == text


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")]


def test_a_row_a_cell_with_its_key_its_seeds_its_scores_and_its_folder() -> None:
    lines = printed(
        [row("0.2", [0.9, 0.8, 0.7, 0.6], [0.01, 0.02, 0.03, 0.04]), row("-", [0.5] * 4, [NAN] * 4, n=1)]
    ).splitlines()
    assert lines[0].strip() == "top-1 accuracy in %, mean ± std over n seeds (outputs/sweeps/today)"
    heading, first, second = (cells(line) for line in lines if line[0] in "│┃")
    assert heading == [
        "mixup.alpha",
        "n",
        "val",
        "test, last epoch",
        "test, best by val",
        "test, median of last 10",
        "folder",
    ]
    assert first == ["0.2", "3", "90.00 ± 1.00", "80.00 ± 2.00", "70.00 ± 3.00", "60.00 ± 4.00", "digits-0.2-s*"]
    assert second == ["-", "1", "50.00", "50.00", "50.00", "50.00", "digits---s*"]


def test_scores_that_no_cell_has_are_left_out() -> None:
    text = printed([row("1", [NAN, 0.8, NAN, 0.6], [NAN] * 4)])
    assert "best by val" not in text
    assert "test, last epoch" in text


def test_a_reason_is_whole_in_the_table_and_only_where_there_is_one() -> None:
    reason = "seed 0: " + "the loss is not finite since step 2; " * 10 + "[bold] is no markup"
    table = printed([row("1", [NAN] * 4, [NAN] * 4, n=0, failed=reason), row("2", [0.5] * 4, [NAN] * 4)], width=200)
    column = [line.split("│")[-3].strip() for line in table.splitlines() if line.startswith("│")]
    assert " ".join(" ".join(column).split()) == reason.strip()
    assert "failed" not in printed([row("1", [0.5] * 4, [NAN] * 4)])


def test_a_list_of_blocks_is_no_markup() -> None:
    assert "[input,block1]" in printed([row("[input,block1]", [0.5] * 4, [NAN] * 4)])
