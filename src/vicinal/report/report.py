"""Write a comparison to files and to the terminal. A report that is up to date is printed again, not computed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from vicinal import analysis, report, tasks
from vicinal.analysis.comparison import TESTED
from vicinal.analysis.load import load_runs, read_sweep
from vicinal.analysis.origins import code_here
from vicinal.errors import UserError
from vicinal.report import search
from vicinal.report.terminal import Grid, show
from vicinal.runs.files import DamagedError, read, read_json, safe_name, sha256, write, write_json
from vicinal.runs.folder import RunFolder
from vicinal.runs.shapes import Shape, plain
from vicinal.utils.escaping import visible
from vicinal.utils.gc_pause import without_collections

if TYPE_CHECKING:
    from vicinal.analysis.comparison import Comparison

REPORT = "report"  # folder of the report in that of a sweep; options are appended to the name
MAX_NAME_CHARACTERS = 200  # length of a folder's name; file systems allow 255 bytes
READ = (
    *("result.json", "result.json.damaged", "SHA256SUMS", "metrics.jsonl"),
    *("config.yaml", "environment.json", "mixed.png"),
)
"""Files of a run that a report depends on, present or not."""
PAGE = "report.html"
RECORD = "report.json"  # file with the printed tables and a digest of all that they were made from
GRID: Shape = {"title": str, "headings": [str], "numbers": [str], "rows": [[str]], "spare": [str]}
SHAPE: Shape = {"made from": str, "files": [plain], "grids": [GRID], "notes": [str]}  # shape of the record


def finish(sweep: Path, baseline: Sequence[str] = (), score: str = TESTED[0], console: Console | None = None) -> Path:
    """Print the tables of a sweep, write ``report/``, or with other arguments a folder of its own, and return it.

    A second call prints the same from ``report.json`` in it, unless a run, this program or the arguments have changed.
    `baseline` has conditions for the cell to compare with, by default the one without mixing; `score`, one of TESTED,
    is tested. Raises UserError if ``sweep.json`` is damaged or there is no such baseline, and OSError if the folder
    cannot be written to; the tables have been printed by then.
    """
    folder = sweep / name(REPORT, baseline, score)
    if name(REPORT, baseline, score) == REPORT and (sweep / search.RECORD).exists():
        return search.finish(sweep, console)
    if folder.is_symlink():
        raise UserError(f"{folder}: is a link; a report replaces files, and only in a folder of the sweep's own")
    made_from = _digest(sweep, [*baseline, score])
    shown = _recorded(folder, made_from)
    if shown is None:
        with without_collections("matplotlib"):
            from vicinal.analysis.compare import compare

            publish(compare(load_runs(sweep), baseline, score), folder, made_from, console)
    else:
        show(*shown, console)
        _tell(folder, console)
    return folder


def name(
    start: str, baseline: Sequence[str], score: str, swept: Sequence[str] = (), allow_confounded: bool = False
) -> str:
    """Return the name of a report's folder, which differs between options, so that no report replaces another."""
    options = {"baseline": "+".join(baseline), "score": score if score != TESTED[0] else "", "swept": "+".join(swept)}
    words = [start, *(f"{key}={value}" for key, value in options.items() if value)]
    words += ["allow-confounded"] * allow_confounded
    return safe_name("-".join(words).replace("/", "-"), MAX_NAME_CHARACTERS)


def publish(comparison: Comparison, folder: Path, made_from: str = "", console: Console | None = None) -> None:
    """Print a comparison, then write tables, notes, plots and the page to a folder, and last ``report.json``."""
    from vicinal.report import matplotlib_plots, tables
    from vicinal.report.html import page

    grids, notes = tables.grids(comparison), comparison.notes
    show(grids, notes, console)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).unlink(missing_ok=True)  # it describes the files that are now replaced
    texts = {
        "table.md": tables.markdown(grids, notes),
        "table.tex": tables.latex(grids, notes),
        "notes.txt": "".join(f"{visible(note)}\n" for note in notes),
    }
    for file_name, text in texts.items():
        write(folder / file_name, text.encode())
    files = [*tables.write_csv(comparison, folder), *matplotlib_plots.draw(comparison, folder)]
    page.write(comparison, folder / PAGE)
    names = sorted([*texts, PAGE, *(file.name for file in files)])
    record = {"made from": made_from, "files": names, "grids": [asdict(grid) for grid in grids], "notes": notes}
    write_json(folder / RECORD, record)
    _tell(folder, console)


def _tell(folder: Path, console: Console | None) -> None:
    (console or Console()).print(f"report: {folder / PAGE}", markup=False, highlight=False, soft_wrap=True)


def _digest(sweep: Path, arguments: Sequence[str]) -> str:
    """Hash all that a report on a sweep depends on: the arguments, this program, the sweep's runs and their files."""
    content = read_sweep(sweep)
    folders = [content.folder_of(run) for run in content.runs]
    packages = (Path(folder) for package in (analysis, report, tasks) for folder in package.__path__)
    own = (file for package in packages for file in package.rglob("*") if file.is_file() and file.suffix != ".pyc")
    facts: list[Any] = [*arguments, content.baseline, content.swept]
    facts.append([(run["run_id"], run["values"]) for run in content.runs])
    facts += [code_here(folders), *((file.name, _fingerprint(file)) for file in sorted(own))]
    for folder in folders:
        facts += [(name, _fingerprint(folder / name)) for name in READ]
        facts.append(_fingerprint(RunFolder(folder).checkpoint, whole=False))  # it is large
        if not (folder / "result.json").exists():
            facts.append(str(RunFolder(folder).locked()))  # running, or stopped
    return sha256(json.dumps(facts).encode())


def _fingerprint(file: Path, whole: bool = True) -> str:
    """Return the hash of a file, or its size and time without reading it, or the error."""
    try:
        return sha256(read(file)) if whole else f"{file.stat().st_size} {file.stat().st_mtime_ns}"
    except (OSError, DamagedError) as error:
        return str(error)


def _recorded(folder: Path, made_from: str) -> tuple[list[Grid], list[str]] | None:
    """Return the printed tables and notes, if they were made from the same and the files still exist."""
    try:
        record = read_json(folder / RECORD, SHAPE)
    except (OSError, DamagedError):
        return None
    if record["made from"] != made_from or not all((folder / name).exists() for name in record["files"]):
        return None
    grids = [Grid(**{name: grid[name] for name in GRID}) for grid in record["grids"]]
    return (grids, record["notes"]) if all(map(_can_be_shown, grids)) else None


def _can_be_shown(grid: Grid) -> bool:
    known = bool(grid.numbers) and {*grid.numbers} <= {*grid.headings}
    return known and all(len(row) == len(grid.headings) for row in grid.rows)
