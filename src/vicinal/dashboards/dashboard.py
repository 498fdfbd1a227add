"""The dashboard of one sweep: its workspace and its report, of keys that its runs have logged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vicinal.analysis.load import SWEEP, load_runs
from vicinal.analysis.records import Run, flat, task_of
from vicinal.dashboards import build
from vicinal.dashboards.sections import Key, available, sections
from vicinal.errors import UserError
from vicinal.runs.files import DamagedError, read
from vicinal.runs.folder import RunFolder
from vicinal.runs.predictions import Predictions
from vicinal.tracking.wandb.media import IMAGES, chart_keys


@dataclass(frozen=True)
class Dashboard:
    """A workspace and a report of wandb-workspaces, neither of them saved, and a note per plot that was left out."""

    workspace: Any
    report: Any
    notes: list[str]

    def specification(self) -> dict[str, Any]:
        """Return both as they are sent to W&B."""
        return {name: build.specification(getattr(self, name)) for name in ("workspace", "report")}


def make(sweep: Path, score: str = "", more: Sequence[str] = (), entity: str = "", project: str = "") -> Dashboard:
    """Make the dashboard of a sweep from its folder.

    Args:
        sweep: its folder, with ``sweep.json`` and ``report/``.
        score: key of the summary that alphas and strategies are compared by, if not the default.
        more: keys that get a panel of their own.
        entity: W&B user or team, if not the one in the config of the runs.
        project: W&B project, if not the one in the config of the runs.

    Raises:
        UserError: this is no sweep with a report, or no run has logged ``score`` or one of ``more``.
    """
    tables = sweep / "report" / "table.md"
    if not (sweep / SWEEP).exists() or not tables.exists():
        raise UserError(f"{sweep}: no folder of a sweep that has ended; it has no {SWEEP} or no report/{tables.name}")
    found = load_runs(sweep)
    parts, notes = available(sections(task_of(found.runs), score, more), logged(found.runs))
    name = sweep.resolve().name
    scope = build.Scope(
        entity=entity or _configured(found.runs, "entity"),
        project=project or _configured(found.runs, "project"),
        sweep=name,
        group=_configured(found.runs, "group") or name,
        grouping=tuple(key if "." in key else f"choices.{key}" for key in found.swept or () if key != "seed"),
    )
    text = read(tables).decode(errors="replace")
    return Dashboard(build.workspace(parts, scope), build.report(parts, scope, text), notes)


def logged(runs: Iterable[Run]) -> set[Key]:
    """Return the keys that W&B has of these runs, by the records in their folders."""
    keys: set[Key] = set()
    for run in runs:
        rows = run.rows()
        history = {key for row in rows for key in row}
        parts = {"val": run.val, "val_best": run.val_best, **{f"test/{which}": run.test[which] for which in run.test}}
        scores = {f"{part}/{name}" for part, numbers in parts.items() for name in numbers or ()}
        finals = {"best_epoch", "images_per_second"} if run.completed else set()
        config = {*flat(run.config), *(f"choices.{group}" for group in run.choices), "run_id", "cell_id", "git_commit"}
        images = {IMAGES} if rows and run.config.get("wandb", {}).get("images") else set()
        found = {"history": history, "summary": history | scores | finals, "config": config, "media": images}
        with suppress(OSError, DamagedError):
            found["table"] = set(chart_keys(Predictions.load(RunFolder(run.folder).predictions)))
        keys |= {(place, key) for place, names in found.items() for key in names}
    return keys


def _configured(runs: Sequence[Run], key: str) -> str:
    return next((str(value) for run in runs if (value := run.config.get("wandb", {}).get(key))), "")
