"""Find runs of a table whose code or data differ from the present ones, or from those of the other runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from vicinal.analysis.cells import effective
from vicinal.analysis.comparison import Cell
from vicinal.analysis.records import Run, grouped
from vicinal.runs.folder import RunFolder
from vicinal.runs.source import counterparts, few, of_package

Hashes = dict[str, str]
AGAIN = "rerun=true trains again"


def other_code(cells: Sequence[Cell]) -> list[str]:
    """Name runs made with other code than the files here; for files that are not here, say where the runs differ."""
    recorded = {name: files for name, run in _completed(cells) if (files := RunFolder(run.folder).sources())}
    here = code_here([run.folder for _, run in _completed(cells)])
    others: dict[str, Hashes] = {}
    for run, files in recorded.items():
        both = (files.keys() | of_package()) & here.keys()
        if other := {name: files.get(name, "") for name in sorted(both) if files.get(name) != here[name]}:
            others[run] = other
    elsewhere = {run: {name: files[name] for name in files if name not in here} for run, files in recorded.items()}
    lines = _not_the_same("code", elsewhere)
    if others:
        names = few(sorted(set(chain.from_iterable(others.values()))))
        alike = all(other == next(iter(others.values())) for other in others.values())
        also = "" if alike else ", and not all with the same"
        lines.insert(0, f"made with other code than here ({names}){also}: {few(others)}; {AGAIN}")
    return lines


def code_here(folders: Sequence[Path]) -> Hashes:
    """Hash each file here that some run of the folders was made with, and all files of the package."""
    return counterparts(set(chain.from_iterable(RunFolder(folder).sources() for folder in folders)))


def other_data(cells: Sequence[Cell]) -> list[str]:
    """Name runs that ask for the same data and did not get the same."""
    requests: dict[str, dict[str, Hashes]] = {}
    for name, run in _completed(cells):
        request = sorted(item for item in effective(run).items() if item[0].startswith("dataset"))
        requests.setdefault(str(request), {})[name] = run.data
    return list(chain.from_iterable(_not_the_same("data", runs) for runs in requests.values()))


def _not_the_same(what: str, runs: Mapping[str, Hashes]) -> list[str]:
    """Return one line that names what differs and groups the runs by it; none where all recorded hashes agree."""
    hashes = grouped(chain.from_iterable(files.items() for files in runs.values()))
    names = sorted(name for name, found in hashes.items() if len(set(found)) > 1)
    own = {run: [(name, files[name]) for name in names if name in files] for run, files in runs.items()}
    groups = "; ".join(map(few, grouped((str(found), run) for run, found in own.items() if found).values()))
    return [f"not all runs were made with the same {what} ({few(names)}): {groups}; {AGAIN}"] if names else []


def _completed(cells: Sequence[Cell]) -> list[tuple[str, Run]]:
    return [(f"{cell.label} seed {run.seed}", run) for cell in cells for run in cell.completed]
