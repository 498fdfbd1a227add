"""``metrics.csv``, read back by pandas."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vicinal.tracking.csv_file import CsvFile
from vicinal.tracking.tracker import RunInfo


def session(info: RunInfo, before: list[dict[str, Any]], rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Report some rows after those of earlier sessions; return the file."""
    info.folder.mkdir(exist_ok=True)
    tracker = CsvFile()
    tracker.start(info)
    tracker.restore(before, step=0)
    for row in rows:
        tracker.epoch(row)
    tracker.close(None)
    return pd.read_csv(info.folder / "metrics.csv")


def test_one_row_per_epoch_with_every_digit(info: RunInfo) -> None:
    rows = [{"epoch": epoch, "lr": 0.1 / epoch, "train/loss": 1 / 3 / epoch} for epoch in (1, 2, 3)]
    table = session(info, [], rows)
    assert list(table.columns) == ["epoch", "lr", "train/loss"]
    assert table.to_dict("records") == rows
    assert (info.folder / "metrics.csv").read_text().splitlines()[0] == "epoch,lr,train/loss"


def test_a_later_column_is_empty_before_and_a_histogram_is_left_out(info: RunInfo) -> None:
    rows = [{"epoch": 1, "lr": 0.1}, {"epoch": 2, "val/acc1": 0.5, "mixing/lam": [1, 2]}, {"epoch": 3, "lr": 0.2}]
    table = session(info, [], rows)
    assert list(table.columns) == ["epoch", "lr", "val/acc1"]
    assert table["lr"].isna().tolist() == [False, True, False]
    assert table["val/acc1"].isna().tolist() == [True, False, True]


@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_resumed_run_has_each_epoch_once(info: RunInfo, before: int) -> None:
    """The earlier session was killed after its third epoch, and its last checkpoint is older."""
    rows = [{"epoch": epoch, "lr": 0.1 / epoch} for epoch in range(1, 5)]
    session(info, [], rows[:3])
    assert session(info, rows[:before], rows[before:]).to_dict("records") == rows


def test_what_a_link_leads_to_is_not_written(info: RunInfo, tmp_path: Path) -> None:
    info.folder.mkdir()
    (tmp_path / "outside").write_text("mine")
    (info.folder / "metrics.csv").symlink_to(tmp_path / "outside")
    session(info, [], [{"epoch": 1, "lr": 0.1}])
    assert (tmp_path / "outside").read_text() == "mine"
