"""Runs as the tables of both pages show them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from vicinal.analysis.records import Run
from vicinal.report.html.templating import NOTHING

FILES = ("config.yaml", "train.log")  # files of a run's folder that the page links to, where they exist


class RunRow(NamedTuple):
    run: Run
    environment: str  # letter of its hardware and versions
    links: list[tuple[str, str]]  # (address relative to the page, text)


def run_rows(runs: Iterable[Run], page: Path) -> tuple[list[RunRow], dict[str, str]]:
    """Return the rows of some runs on a page, and {letter: hardware and versions}."""
    letters: dict[str, str] = {}
    rows = []
    for run in runs:
        text = ", ".join(f"{name} {value}" for name, value in {**run.hardware, **run.versions}.items())
        environment = letters.setdefault(text, letter(len(letters))) if text else NOTHING
        rows.append(RunRow(run, environment, _links(run.folder, page)))
    return rows, {name: text for text, name in letters.items()}


def _links(folder: Path, page: Path) -> list[tuple[str, str]]:
    if not folder.is_dir():
        return []
    address = quote(Path(os.path.relpath(folder, page.parent)).as_posix())
    return [(f"{address}/", "folder"), *((f"{address}/{name}", name) for name in FILES if (folder / name).is_file())]


def letter(index: int) -> str:
    """Return A, B, ..., Z, AA, ..."""
    return chr(ord("A") + index) if index < 26 else f"{letter(index // 26 - 1)}{letter(index % 26)}"
