"""A sweep's table on the terminal."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vicinal.sweeps.collect import SCORES

HEADINGS = dict(zip(SCORES, ("val", "test, last epoch", "test, best by val", "test, median of last 10"), strict=True))


def show(table: pd.DataFrame, folder: Path, console: Console | None = None) -> None:
    """Print a row a cell: top-1 accuracy in percent, mean ± standard deviation over seeds, and the folder."""
    # A pipe has no width of its own; the folders must stay whole to be of use.
    console = console or Console(width=None if Console().is_terminal else 200)
    shown = Table(title=f"top-1 accuracy in %, mean ± std over n seeds ({folder})", title_justify="left")
    keys = list(table.columns[: table.columns.get_loc("n")])
    for key in keys:
        shown.add_column(key)
    shown.add_column("n", justify="right")
    scores = [score for score in SCORES if table[f"{score} mean"].notna().any()]
    for score in scores:
        shown.add_column(HEADINGS[score], justify="right")
    failures = (table["failed"] != "").any()
    if failures:
        shown.add_column("failed", overflow="fold", style="red")
    shown.add_column("folder", overflow="fold")
    for _, row in table.iterrows():
        values = [percent(row[f"{score} mean"], row[f"{score} std"]) for score in scores]
        values += [row["failed"]] if failures else []
        cells = [*(str(row[key]) for key in keys), str(row["n"]), *values, Path(row["folder"]).name]
        shown.add_row(*map(escape, cells))
    console.print(shown)


def percent(mean: float, std: float) -> str:
    if math.isnan(mean):
        return "-"
    return f"{100 * mean:.2f}" if math.isnan(std) else f"{100 * mean:.2f} ± {100 * std:.2f}"
