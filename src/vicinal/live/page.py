"""The page of a sweep that is still running: small, since it is written every few seconds beside the training."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vicinal.analysis.cells import make_cells
from vicinal.analysis.comparison import TESTED, Cell, headings
from vicinal.analysis.load import RunSet
from vicinal.live.progress import Job, Progress
from vicinal.report.figure_types import Picture
from vicinal.report.figures import pictures
from vicinal.report.html import mixed_images, mixing_stats, svg, tables
from vicinal.report.html.layout import asset, document, legend_of, section, words_of
from vicinal.report.html.markup import Markup, element
from vicinal.report.html.plotly_json import swatch
from vicinal.report.html.tables import NOTHING, number, percent
from vicinal.utils.durations import duration

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; frame-src 'self' file:"
)
"""The page may load itself, which is how an open tab sees what has been written since."""
SIGNS = {"running": "●", "completed": "✓", "failed": "✕", "stopped": "■", "planned": "○"}
"""Of the states, beside their names; in the order in which they are counted."""
SECTIONS = ("response", "cells", "learning")


@dataclass(frozen=True)
class Running:
    """What pictures are drawn of while nobody has compared anything yet."""

    swept: list[str]
    cells: list[Cell]
    rows: Mapping[str, list[dict[str, Any]]]
    score: str = TESTED[0]
    best: tuple[str, ...] = ()

    @property
    def headings(self) -> dict[str, str]:
        return headings(self.cells)

    def curves(self, cell: Cell) -> list[list[dict[str, Any]]]:
        """The epochs of the cell's runs that have begun."""
        return [rows for run in cell.runs if (rows := self.rows[run.run_id])]


def render(progress: Progress, file: Path, every: float, over: bool) -> str:
    """The page as text, for a place ``file``.

    Args:
        progress: to show.
        file: links are relative to it.
        every: seconds after which there is a new one at the latest.
        over: there will be no new one.
    """
    running = _running(progress)
    done, count = progress.count("completed"), len(progress.jobs)
    body = element(
        "body",
        _header(progress, over),
        element("p", id="stale", role="status", hidden=True),
        element("main", *_sections(progress, running, file)),
        element("script", asset("live.js")),
        data_written=f"{progress.at:.3f}",
        data_every=f"{every:g}",
        data_over=str(over).lower(),
        data_again=f"python scripts/report.py {file.parents[1]}",
    )
    again = None if over else element("noscript", element("meta", http_equiv="refresh", content=f"{every:g}"))
    return document(f"{done}/{count} · {progress.title}", POLICY, body, again)


def _running(progress: Progress) -> Running:
    values = {job.run.cell_id: job.values for job in progress.jobs}
    found = RunSet(progress.title, [job.run for job in progress.jobs], progress.swept, values)
    keys, cells, _ = make_cells(found)
    return Running(keys, cells, {job.run.run_id: job.rows for job in progress.jobs})


def _header(progress: Progress, over: bool) -> Markup:
    counts = [(status, n) for status in SIGNS if (n := progress.count(status))]
    epochs, done = (sum(getattr(job, what) for job in progress.jobs) for what in ("epochs", "done"))
    left = [] if over or progress.left is None else [f" · about {duration(progress.left)} left"]
    written = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(progress.at))
    return element(
        "header",
        element("h1", progress.title),
        element(
            "p",
            "The sweep has ended before all was done" if over else "The sweep is running",
            *left,
            id="state",
        ),
        element(
            "ul",
            *(element("li", _sign(status), f" {n} {status}", class_=f"state {status}") for status, n in counts),
            id="counts",
        ),
        element("progress", f"{done} of {epochs} epochs", value=done, max=epochs, aria_label="epochs of all runs"),
        element(
            "p",
            number("epochs done", done),
            f" of {epochs} epochs. Written at ",
            element("time", written, datetime=written.replace(" ", "T")),
            element("span", id="age"),
            ".",
        ),
    )


def _sections(progress: Progress, running: Running, file: Path) -> list[Markup]:
    drawn = [picture for picture in pictures(running) if picture.name in SECTIONS]
    curves = {cell.label: running.curves(cell) for cell in running.cells}
    places: dict[str, str] = {}
    parts = [
        _failures(progress),
        section("Jobs", _jobs(progress, file, places), identity="jobs-section"),
        *(section(picture.title, _figure(picture), identity=picture.name) for picture in drawn),
        mixing_stats.section(curves),
        mixed_images.section({cell.label: [run.folder for run in cell.runs] for cell in running.cells}),
        section("Environment", tables.environments(places), identity="environment") if places else None,
    ]
    return [part for part in parts if part is not None]


def _failures(progress: Progress) -> Markup | None:
    lines = [
        element("li", f"{_name(job)}: {job.run.status}: {job.run.error}")
        for job in progress.jobs
        if job.run.status in ("failed", "stopped")
    ]
    return section("Read this first", element("ul", *lines), identity="notes") if lines else None


def _name(job: Job) -> str:
    return f"{job.run.name}, seed {job.run.seed}"


def _jobs(progress: Progress, file: Path, places: dict[str, str]) -> Markup:
    rows = [_job(job, progress.swept, file, places) for job in progress.jobs]
    head = [*(progress.swept or ["run"]), "seed", "state", "epochs", "accuracy", "test", "time left"]
    of = "validation" if any("val/acc1" in row for job in progress.jobs for row in job.rows[-1:]) else "test"
    caption = f"Top-1 accuracy in %, of the last epoch so far on {of}, and of the last epoch of finished runs on test."
    return tables.table("jobs", caption, [*head, "made on", "files"], rows)


def _job(job: Job, swept: list[str], file: Path, places: dict[str, str]) -> Markup:
    run = job.run
    first, *others = [job.values[key] for key in swept] or [run.name]
    made = tables.made(run)
    test, accuracy = run.score("test/last"), job.score
    cells = [
        element("th", first, scope="row"),
        *(element("td", text) for text in others),
        element("td", number("seed", run.seed)),
        element("td", _sign(run.status), " ", run.status, class_=f"state {run.status}"),
        element(
            "td",
            element("progress", value=job.done, max=job.epochs, aria_label=f"epochs of {_name(job)}"),
            " ",
            number("epochs", job.done),
            f" of {job.epochs}",
        ),
        element("td", number("accuracy", math.nan if accuracy is None else accuracy, percent)),
        element("td", number("test/last", math.nan if test is None else test, percent)),
        element("td", NOTHING if job.left is None else duration(job.left)),
        element("td", places.setdefault(made, tables.letter(len(places))) if made else NOTHING),
        element("td", *tables.links(run, file)),
    ]
    return element("tr", *cells, data_run=run.run_id, data_state=run.status)


def _sign(status: str) -> Markup:
    return element("span", SIGNS[status], aria_hidden="true", class_="sign")


def _figure(picture: Picture) -> Markup:
    panels = [
        element(
            "div",
            element("p", panel.y.title, class_="axis", aria_hidden="true") if panel.y.title else None,
            svg.draw(panel, words_of(picture, index)),
        )
        for index, panel in enumerate(picture.panels)
    ]
    names = [
        element("span", swatch(style), name, class_="name")
        for name, (style, shown) in legend_of(picture).items()
        if shown
    ]
    named = any(panel.y.ticks for panel in picture.panels)
    return element(
        "figure",
        element("div", *panels, class_="panels"),
        None if named else element("div", *names, class_="legend"),
        element("figcaption", picture.caption),
    )
