"""Find runs of a table whose code or data differ from the present ones, or from those of the other runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from vicinal.analysis.cells import effective
from vicinal.analysis.comparison import Cell
from vicinal.analysis.records import Run
from vicinal.runs.folder import RunFolder
from vicinal.runs.source import counterparts, few, of_package

Hashes = dict[str, str]
AGAIN = "rerun=true trains again"


def other_code(cells: Sequence[Cell]) -> list[str]:
    """Runs made with other code than there is here; of files that are not here, where the runs differ."""
    made = {name: files for name, run in _completed(cells) if (files := RunFolder(run.folder).sources())}
    here = code_here([run.folder for _, run in _completed(cells)])
    others: dict[str, Hashes] = {}
    for run, files in made.items():
        both = (files.keys() | of_package()) & here.keys()
        if other := {name: files.get(name, "") for name in sorted(both) if files.get(name) != here[name]}:
            others[run] = other
    elsewhere = {run: {name: files[name] for name in files if name not in here} for run, files in made.items()}
    lines = _not_the_same("code", elsewhere)
    if others:
        names = few(sorted(set(chain.from_iterable(others.values()))))
        alike = all(other == next(iter(others.values())) for other in others.values())
        also = "" if alike else ", and not all with the same"
        lines.insert(0, f"made with other code than here ({names}){also}: {few(others)}; {AGAIN}")
    return lines


def code_here(folders: Sequence[Path]) -> Hashes:
    """Hash of each file here that some run of the folders was made with, and of all of the package."""
    return counterparts(set(chain.from_iterable(RunFolder(folder).sources() for folder in folders)))


def other_data(cells: Sequence[Cell]) -> list[str]:
    """Runs that ask for the same data and did not get the same."""
    asked: dict[str, dict[str, Hashes]] = {}
    for name, run in _completed(cells):
        about = sorted(item for item in effective(run).items() if item[0].startswith("dataset"))
        asked.setdefault(str(about), {})[name] = run.data
    return list(chain.from_iterable(_not_the_same("data", made) for made in asked.values()))


def _not_the_same(what: str, made: Mapping[str, Hashes]) -> list[str]:
    """One line that names what differs and groups the runs by it; none where all recorded hashes agree."""
    said: dict[str, set[str]] = {}
    for name, each in chain.from_iterable(hashes.items() for hashes in made.values()):
        said.setdefault(name, set()).add(each)
    names = sorted(name for name, found in said.items() if len(found) > 1)
    groups: dict[str, list[str]] = {}
    for run, hashes in made.items():
        if own := [(name, hashes[name]) for name in names if name in hashes]:
            groups.setdefault(str(own), []).append(run)
    those = "; ".join(map(few, groups.values()))
    return [f"not all runs were made with the same {what} ({few(names)}): {those}; {AGAIN}"] if names else []


def _completed(cells: Sequence[Cell]) -> list[tuple[str, Run]]:
    return [(f"{cell.label} seed {run.seed}", run) for cell in cells for run in cell.completed]
