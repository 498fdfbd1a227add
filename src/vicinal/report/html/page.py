"""The report as one HTML page that stands alone and loads nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vicinal.analysis.comparison import SCORES, Comparison, Shown, validation_of
from vicinal.analysis.statistics import INTERVAL
from vicinal.report.figures import pictures
from vicinal.report.html import mixed_images, mixing_stats, templating
from vicinal.report.html.drawing import figure
from vicinal.report.html.tables import run_rows
from vicinal.report.tables import other_columns
from vicinal.runs import files


def write(comparison: Comparison, file: Path) -> None:
    """Write the page; links to runs are relative to it. The same comparison gives the same bytes.

    Raises OSError: it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    files.write(file, render(comparison, file).encode())


def render(comparison: Comparison, file: Path) -> str:
    """Return the page as text, for the place ``file``."""
    cells, rows = comparison.cells, comparison.table.to_dict("records")
    runs, environments = run_rows((run for cell in cells for run in cell.runs), file)
    return templating.render(
        "report.html.j2",
        comparison=comparison,
        headings=comparison.headings,
        scores=SCORES,
        chosen_on=comparison.headings[validation_of(comparison.score)],
        interval_name=INTERVAL,
        other_columns=other_columns(comparison),
        cells=[
            (cell, [row[key] for key in comparison.swept] or [cell.label], row)
            for cell, row in zip(cells, rows, strict=True)
        ],
        pairs=comparison.pairs.to_dict("records"),
        chosen=comparison.chosen.to_dict("records"),
        runs=list(zip((cell.label for cell in cells for _ in cell.runs), runs, strict=True)),
        environments=environments,
        **shared(comparison),
    )


def shared(shown: Shown) -> dict[str, Any]:
    """Return what the report and the page of a running sweep both show of their cells."""
    return {
        "metric": shown.metric,
        "figures": [figure(picture) for picture in pictures(shown)],
        "shares": mixing_stats.SHARES,
        "mixing": mixing_stats.collect({cell.label: shown.curves(cell) for cell in shown.cells}),
        "images": mixed_images.collect({cell.label: [run.folder for run in cell.runs] for cell in shown.cells}),
    }
