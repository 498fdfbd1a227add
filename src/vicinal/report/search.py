"""The report of a search: its trials, how the objective depends on each key, and the choice on new seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from vicinal.analysis.load import SWEEP, load_runs, read_sweep
from vicinal.errors import UserError
from vicinal.report.figure_types import COLORS, MARKERS, Axis, Panel, Picture, Series, Style
from vicinal.report.terminal import Grid, show
from vicinal.runs.files import DamagedError, read_json, write
from vicinal.runs.shapes import Shape, number, plain, task, text, whole
from vicinal.tasks import Metric, task_named
from vicinal.utils.escaping import csv, visible

RECORD = "search.json"  # in the folder of a search: its space and its trials
FOLDER, PAGE = "report", "report.html"
NAMES = ("best_so_far", "slices")  # of the pictures
SHOWN = 10  # trials in the terminal's table, the best ones
STATES = ("running", "completed", "pruned", "failed")
MOST_TICKS = 8  # of an axis
AXIS: Shape = {"key": text, "shown": str, "options": [str], "low": number, "high": number, "log": bool}
TRIAL: Shape = {
    "number": whole,
    "values": {str: str},
    "state": STATES.__contains__,
    "value": (number,),
    "warm": bool,
    "runs": [str],
    "reason": str,
}
SHAPE: Shape = {
    "objective": {"name": text, "higher": bool},
    "task": task,
    "sampler": text,
    "pruner": (text,),
    "seeds": whole,
    "space": [AXIS],
    "trials": [TRIAL],
    "best": (whole,),
    "confirm": (plain,),
}


@dataclass(frozen=True)
class Search:
    """What ``search.json`` says."""

    folder: Path
    content: dict[str, Any]

    @property
    def keys(self) -> list[str]:
        return [axis["key"] for axis in self.content["space"]]

    @property
    def objective(self) -> str:
        return str(self.content["objective"]["name"])

    @cached_property
    def metric(self) -> Metric:
        return task_named(self.content["task"]).metric(self.objective.partition("/")[2])

    @property
    def completed(self) -> list[dict[str, Any]]:
        """The trials with a value, in their order."""
        return [trial for trial in self.content["trials"] if trial["state"] == "completed"]

    @property
    def ranked(self) -> list[dict[str, Any]]:
        """The trials with a value, the best first; of equals the first."""
        sign = -1 if self.content["objective"]["higher"] else 1
        return sorted(self.completed, key=lambda trial: sign * trial["value"])

    @property
    def better(self) -> Callable[..., float]:
        return max if self.content["objective"]["higher"] else min

    @property
    def best(self) -> dict[str, Any] | None:
        return next((trial for trial in self.content["trials"] if trial["number"] == self.content["best"]), None)

    @property
    def confirm(self) -> Path | None:
        """Folder of the sweep of the choice on new seeds, if there is one."""
        name = self.content["confirm"]
        folder = self.folder.parent / name if name else None
        return folder if folder is not None and (folder / SWEEP).exists() else None


def read(folder: Path) -> Search:
    """Read the record of a search. Raises UserError if it is damaged."""
    try:
        content = read_json(folder / RECORD, SHAPE)
        trials = [set(trial["values"]) for trial in content["trials"]]
        keys = {axis["key"] for axis in content["space"]}
        ends = [(axis["low"], axis["high"]) for axis in content["space"] if not axis["options"]]
        lows = [axis["low"] for axis in content["space"] if axis["log"]]
        if any(found != keys for found in trials) or any(low > high for low, high in ends) or min(lows, default=1) <= 0:
            raise DamagedError(folder / RECORD, "it is not what was written")
        search = Search(folder, content)
        _ = search.metric
    except (DamagedError, KeyError):
        raise UserError(f"{folder / RECORD} is damaged; the command of the search writes it again") from None
    return search


def finish(folder: Path, console: Console | None = None) -> Path:
    """Print the best trials of a search, write its report, and return the report's folder.

    Raises UserError: ``search.json`` is damaged. Raises OSError: the folder cannot be written to.
    """
    from vicinal.report import matplotlib_plots
    from vicinal.report.html import search_page

    search, place = read(folder), folder / FOLDER
    if place.is_symlink():
        raise UserError(f"{place}: is a link; a report replaces files, and only in a folder of the search's own")
    remarks = notes(search)
    show([grid(search)], remarks, console)
    place.mkdir(parents=True, exist_ok=True)
    write(place / "notes.txt", "".join(f"{visible(note)}\n" for note in remarks).encode())
    write(place / "trials.csv", table(search).encode())
    matplotlib_plots.draw_pictures(pictures(search), NAMES, place)
    write(place / PAGE, search_page.render(search, remarks, place / PAGE).encode())
    (console or Console()).print(f"report: {place / PAGE}", markup=False, highlight=False, soft_wrap=True)
    return place


def grid(search: Search) -> Grid:
    """Return the best trials as a table of text."""
    from vicinal.report.tables import number as shown

    heading = f"{search.objective}, {search.metric.heading}"
    rows = [
        [str(trial["number"]), *(trial["values"][key] for key in search.keys), shown(search.metric, trial["value"])]
        for trial in search.ranked[:SHOWN]
    ]
    count = f"the {len(rows)} best of " if len(rows) < len(search.content["trials"]) else ""
    title = f"{count}{len(search.content['trials'])} trials by {search.content['sampler']} ({search.folder.name})"
    return Grid(title, ["trial", *search.keys, heading], ["trial", heading], rows)


def table(search: Search) -> str:
    """Return all trials as CSV, values with all their digits."""
    import pandas as pd

    rows = [
        {
            "trial": trial["number"],
            **{csv(key): csv(trial["values"][key]) for key in search.keys},
            "state": trial["state"],
            search.objective: trial["value"],
            "runs": " ".join(trial["runs"]),
            "reason": csv(trial["reason"]),
        }
        for trial in search.content["trials"]
    ]
    return str(pd.DataFrame(rows).to_csv(index=False))


def notes(search: Search) -> list[str]:
    """Return what a reader has to know, one line each."""
    from vicinal.report.tables import number as shown

    trials, best = search.content["trials"], search.best
    counts = {state: sum(trial["state"] == state for trial in trials) for state in STATES}
    found = []
    if best is not None and best["value"] is not None:
        value, unit = shown(search.metric, best["value"]), f" {search.metric.unit}" if search.metric.unit else ""
        found.append(
            f"the search's own best, {search.objective} {value}{unit} (trial {best['number']}), is optimistic: it is "
            f"the best of {counts['completed'] + counts['pruned']} on the samples that it was chosen by"
        )
        found.append(_confirmed(search))
    if known := sum(trial["warm"] for trial in trials):
        found.append(f"trials that were completed before the search began: {known}")
    if counts["pruned"]:
        pruner = search.content["pruner"]
        found.append(f"trials that were stopped early ({pruner}) and have no value: {counts['pruned']}")
    if counts["failed"]:
        reasons = dict.fromkeys(trial["reason"] for trial in trials if trial["state"] == "failed")
        found.append(f"trials that failed: {counts['failed']} ({'; '.join(reasons)})")
    if counts["running"]:
        found.append(f"trials that are not finished: {counts['running']}; the same command goes on")
    return found


def _confirmed(search: Search) -> str:
    if search.confirm is None:
        return "the choice was not trained on new seeds (hydra.sweeper.confirm), so what it gains is not known"
    cells = {run["cell_id"] for run in read_sweep(search.confirm).runs}
    if len(cells) == 1:
        return "the choice is the config without the space: there is nothing to compare it with"
    report = Path(search.confirm.name, FOLDER, PAGE)
    return f"what the choice gains over the config without the space is told by the new seeds: {report}"


def pictures(search: Search) -> list[Picture]:
    """Return the best value so far over the trials, and the objective against each key; none without two values."""
    if len(search.completed) < 2:
        return []
    y = Axis(f"{search.objective}, {search.metric.title}", search.metric.percent)
    style = {name: Style(color, marker, "-") for name, color, marker in zip("tb", COLORS, MARKERS, strict=False)}
    numbers = tuple(float(trial["number"]) for trial in search.completed)
    values = tuple(float(trial["value"]) for trial in search.completed)
    so_far = tuple(search.better(values[: count + 1]) for count in range(len(values)))
    hover = tuple(f"trial {trial['number']}" for trial in search.completed)
    over = (
        Series("best so far", style["b"], "curve", numbers, so_far, hover=hover),
        Series("trial", style["t"], "dots", numbers, values, hover=hover),
    )
    panels = []
    for axis in search.content["space"]:
        texts = [trial["values"][axis["key"]] for trial in search.completed]
        if len(set(texts)) > 1:
            x, places = _axis(axis, texts)
            told = tuple(f"{trial}: {axis['key']}={text}" for trial, text in zip(hover, texts, strict=True))
            across, up = (x, places), (y, values)
            if axis["options"]:  # their names have more room beside the drawing than below it
                across, up = up, across
            dots = Series("trial", style["t"], "dots", across[1], up[1], hover=told)
            panels.append(Panel(across[0], up[0], (dots,)))
    found = [Picture(NAMES[0], "Best so far", "", (Panel(Axis("trial", whole=True), y, over),))]
    caption = "One point per trial; the other keys differ between them too."
    return found + ([Picture(NAMES[1], "The objective against each key", caption, tuple(panels))] if panels else [])


def _axis(axis: Mapping[str, Any], texts: Sequence[str]) -> tuple[Axis, tuple[float, ...]]:
    """Return the axis of a key, as wide as the space, and the place of each value."""
    if options := axis["options"]:
        ticks = tuple((float(place), option) for place, option in enumerate(options))
        places = tuple(float(options.index(value)) if value in options else -1.0 for value in texts)
        return Axis(axis["key"], ticks=ticks, ends=(-0.5, len(options) - 0.5)), places
    low, high, values = axis["low"], axis["high"], tuple(map(float, texts))
    if not axis["log"]:
        room = (high - low) / 20
        return Axis(axis["key"], ends=(low - room, high + room)), values
    room = (high / low) ** 0.05
    return Axis(axis["key"], log=True, ticks=_log_ticks(low, high), ends=(low / room, high * room)), values


def _log_ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    """Return the powers of ten between two numbers, and 2 and 5 times them if there is room; else the ends."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        ticks = [tick for power in powers for factor in factors if low <= (tick := factor * 10.0**power) <= high]
        if len(ticks) <= MOST_TICKS:
            break
    ticks = ticks[:: math.ceil(len(ticks) / MOST_TICKS)] if len(ticks) > 1 else [low, high]
    return tuple((tick, f"{tick:.4g}") for tick in ticks)


def comparison_grids(search: Search) -> list[Grid]:
    """Return the tables of the choice on new seeds beside the config without the space; none without these runs."""
    from vicinal.analysis.compare import compare
    from vicinal.report.tables import grids

    if search.confirm is None:
        return []
    cells, *others = grids(compare(load_runs(search.confirm)))
    return [cells, *(grid for grid in others if "difference" in grid.headings)]
