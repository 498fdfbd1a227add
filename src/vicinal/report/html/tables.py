"""The tables of the HTML page. A number's element carries the whole of it in ``data-value``, its text is rounded."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vicinal.analysis.comparison import SCORES, Cell, Comparison, validation_of
from vicinal.analysis.records import Run
from vicinal.analysis.statistics import INTERVAL
from vicinal.report.html.markup import Markup, element, join

NOTHING = "–"
FILES = ("config.yaml", "train.log")
"""What the page links to of a run's folder, where it is there."""


def scores(comparison: Comparison) -> Markup:
    """A row a cell: seeds, the readings of validation and test side by side, failures."""
    rows = []
    best = set() if comparison.chosen.empty else set(comparison.chosen["cell"])
    failed = ["failed"] if (comparison.table["failed"] != "").any() else []
    for cell, row in zip(comparison.cells, comparison.table.to_dict("records"), strict=True):
        badges = [
            ("baseline", cell is comparison.baseline or cell.label in comparison.baselines),
            ("chosen", cell.label in best),
        ]
        marks = [element("span", text, class_="badge") for text, holds in badges if holds]
        names = [row[key] for key in comparison.swept] or [cell.label]
        cells = [element("th", names[0], *marks, scope="row"), *(element("td", text) for text in names[1:])]
        cells += [element("td", number("n", row["n"]))]
        cells += [_score(row, score) for score in SCORES]
        if failed:
            cells.append(element("td", row["failed"], class_="reason"))
        rows.append(element("tr", *cells, data_cell=cell.cell_id))
    head = [*(comparison.swept or ["cell"]), "n", *comparison.headings.values(), *failed]
    caption = (
        f"Top-1 accuracy in %: mean ± sample deviation over n seeds; below it the mean's {INTERVAL}. "
        "Three ways to read the test set, none of which chose anything."
    )
    return table("scores", caption, head, rows)


def differences(comparison: Comparison) -> Markup:
    """A row for each cell but the baseline: paired differences and their p-values."""
    rows = []
    remark = ["remark"] if (comparison.pairs["why"] != "").any() else []
    several = ["baseline"] if len(comparison.baselines) > 1 else []
    for row in comparison.pairs.to_dict("records"):
        cells = [
            element("th", row["cell"], scope="row"),
            *(element("td", row[name]) for name in several),
            element("td", number("n pairs", row["n pairs"])),
            element("td", number("difference", row["difference"], _points), _interval(row, "", _points)),
        ]
        for test in ("p t", "p wilcoxon"):
            raw = element("span", "uncorrected ", number(test, row[test], _p), class_="interval")
            cells.append(element("td", number(f"{test} holm", row[f"{test} holm"], _p), raw))
        if remark:
            cells.append(element("td", row["why"], class_="reason"))
        rows.append(element("tr", *cells, data_cell=row["cell id"]))
    caption = (
        f"Difference to {comparison.compared_with} in {comparison.headings[comparison.score]}, in percentage points of "
        "top-1, over the seeds that both have, with its 95 % t-interval; p-values corrected by Holm's method."
    )
    head = ["cell", *several, "pairs", "difference", "p, paired t", "p, signed-rank", *remark]
    return table("differences", caption, head, rows)


def chosen(comparison: Comparison) -> Markup:
    """A row a strategy: what validation chose, and what test says of it."""
    rows = []
    for row in comparison.chosen.to_dict("records"):
        cells = [element("th", row["mixup"], scope="row"), element("td", row["cell"])]
        cells += [element("td", number(what, row[what])) for what in ("of", "n")]
        rows.append(element("tr", *cells, *(_score(row, score) for score in SCORES), data_chosen=row["cell"]))
    caption = (
        "The cell of each strategy with the best mean validation accuracy "
        f"({comparison.headings[validation_of(comparison.score)]}). Its validation score "
        "is the best of several and so a little too good; its test scores are not."
    )
    return table("chosen", caption, ["strategy", "cell", "candidates", "n", *comparison.headings.values()], rows)


def runs(comparison: Comparison, page: Path) -> Markup:
    """A row a run: state, scores, links and where it was made; below it the environments."""
    places: dict[str, str] = {}
    rows = [_run(cell, run, page, places) for cell in comparison.cells for run in cell.runs]
    head = ["cell", "seed", "state", *comparison.headings.values(), "best epoch", "made on", "W&B", "files"]
    shown = table("runs", "All runs: top-1 accuracy in %, links to their folders and files.", head, rows)
    return join(shown, environments(places)) if places else shown


def environments(places: Mapping[str, str]) -> Markup:
    """A row a kind of place: {what it is: its letter}."""
    rows = [element("tr", element("th", name, scope="row"), element("td", text)) for text, name in places.items()]
    return table("environments", "Hardware and versions.", ["made on", "what"], rows)


def number(column: str, value: float, shown: Callable[[float], str] = str) -> Markup:
    """The whole number for machines, as a CSV has it, and a rounded one to read."""
    undefined = isinstance(value, float) and math.isnan(value)
    text = NOTHING if undefined else shown(value)
    return element("span", text, data_column=column, data_value="" if undefined else repr(value))


def _score(row: Mapping[str, Any], score: str) -> Markup:
    """One seed has no deviation and no interval, and then there is nothing to read."""
    mean, std = (number(f"{score} {what}", row[f"{score} {what}"], percent) for what in ("mean", "std"))
    deviation = (" ± ", std) if math.isfinite(row[f"{score} std"]) else ()
    return element("td", mean, *deviation, _interval(row, f"{score} ", percent))


def _interval(row: Mapping[str, Any], of: str, shown: Callable[[float], str]) -> Markup | None:
    low, high = (number(f"{of}{end}", row[f"{of}{end}"], shown) for end in ("low", "high"))
    return element("span", low, " to ", high, class_="interval") if math.isfinite(row[f"{of}low"]) else None


def _run(cell: Cell, run: Run, page: Path, places: dict[str, str]) -> Markup:
    doubts = [run.error, *(f"resumed: {text}" for text in run.changed)]
    reasons = [element("span", doubt, class_="reason") for doubt in doubts if doubt]
    cells = [
        element("th", cell.label, scope="row"),
        element("td", number("seed", run.seed)),
        element("td", run.status, *reasons, class_=f"state {run.status}"),
    ]
    for score in SCORES:
        value = run.score(score)
        cells.append(element("td", number(score, math.nan if value is None else value, percent)))
    cells.append(element("td", NOTHING if run.best_epoch is None else run.best_epoch))
    where = made(run)
    cells.append(element("td", places.setdefault(where, letter(len(places))) if where else NOTHING))
    wandb = " ".join(str(run.wandb[key]) for key in ("mode", "id") if run.wandb.get(key))
    cells.append(element("td", wandb or NOTHING))
    cells.append(element("td", *links(run, page)))
    return element("tr", *cells, data_run=run.run_id)


def links(run: Run, page: Path) -> list[Markup | str]:
    """To the run's folder and files."""
    if not run.folder.is_dir():
        return [NOTHING]
    found = [link(run.folder, page, "folder")]
    found += [link(run.folder / name, page, name) for name in FILES if (run.folder / name).is_file()]
    return [element("span", each, class_="file") for each in found]


def made(run: Run) -> str:
    """Hardware and versions in a line."""
    return ", ".join(f"{name} {value}" for name, value in {**run.hardware, **run.versions}.items())


def letter(index: int) -> str:
    """A, B, ..., Z, AA, ..."""
    return chr(ord("A") + index) if index < 26 else f"{letter(index // 26 - 1)}{letter(index % 26)}"


def link(target: Path, page: Path, text: str) -> Markup:
    """Relative to where the page is."""
    relative = Path(os.path.relpath(target, page.parent)).as_posix()
    return element("a", text, href=quote(relative) + ("/" if target.is_dir() else ""))


def table(identity: str, caption: str, head: Sequence[str], rows: Sequence[Markup]) -> Markup:
    """A table with a caption, in a frame in which it scrolls."""
    titles = element("tr", *(element("th", title, scope="col") for title in head))
    label = element("caption", element("span", caption), id=f"{identity}-caption")
    table = element("table", label, element("thead", titles), element("tbody", *rows), id=identity)
    # A wide table scrolls in a frame of its own, which the keyboard must be able to reach.
    return element("div", table, class_="wide", role="region", tabindex=0, aria_labelledby=f"{identity}-caption")


def percent(value: float) -> str:
    """A fraction as a text, without the sign."""
    return f"{100 * value:.2f}"


def _points(value: float) -> str:
    return f"{100 * value:+.2f}".replace("-", "−")


def _p(value: float) -> str:
    return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")
