"""The page of a sweep that is still running: small, since it is written every few seconds beside the training."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vicinal.analysis.cells import make_cells
from vicinal.analysis.comparison import Cell, Shown
from vicinal.analysis.load import RunSet
from vicinal.live.progress import Progress
from vicinal.report.html import templating
from vicinal.report.html.page import shared
from vicinal.report.html.tables import run_rows


@dataclass(frozen=True, kw_only=True)
class Running(Shown):
    """The cells of a sweep that is not compared yet, and the epochs of its runs by their id."""

    rows: Mapping[str, list[dict[str, Any]]]

    def curves(self, cell: Cell) -> list[list[dict[str, Any]]]:
        """Return the epochs of the cell's runs that have begun."""
        return [rows for run in cell.runs if (rows := self.rows[run.run_id])]


def render(progress: Progress, file: Path, seconds: float, over: bool) -> str:
    """Return the page as text, with links relative to `file`; the next follows within `seconds` unless it is `over`."""
    jobs = progress.jobs
    runs = RunSet(
        progress.title, [job.run for job in jobs], progress.swept, {job.run.cell_id: job.values for job in jobs}
    )
    swept, cells, _ = make_cells(runs)
    running = Running(swept=swept, cells=cells, rows={job.run.run_id: job.rows for job in jobs})
    rows, environments = run_rows(runs.runs, file)
    names = [[job.values[key] for key in progress.swept] or [job.run.name] for job in jobs]
    validated = any(key.startswith("val/") for job in jobs for row in job.rows[-1:] for key in row)
    return templating.render(
        "live.html.j2",
        progress=progress,
        seconds=f"{seconds:g}",
        over=over,
        command=f"python scripts/report.py {file.parents[1]}",
        written=time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(progress.at)),
        selected_on="validation" if validated else "test",
        failures=[
            f"{run.name}, seed {run.seed}: {run.status}: {run.error}"
            for run in runs.runs
            if run.status in ("failed", "stopped")
        ],
        jobs=list(zip(jobs, names, rows, strict=True)),
        environments=environments,
        **shared(running),
    )
