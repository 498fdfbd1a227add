"""The dashboard of one sweep: its workspace and its report, of keys that its runs have logged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vicinal.analysis.load import SWEEP, load_runs
from vicinal.analysis.records import Run, task_of
from vicinal.dashboards import build
from vicinal.dashboards.keys import logged
from vicinal.dashboards.sections import available, sections
from vicinal.errors import UserError
from vicinal.runs.files import read


@dataclass(frozen=True)
class Dashboard:
    """A workspace and a report of wandb-workspaces, neither of them saved.

    Attributes:
        notes: plots that were left out, one line each.
    """

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


def _configured(runs: Sequence[Run], key: str) -> str:
    return next((str(value) for run in runs if (value := run.config.get("wandb", {}).get(key))), "")
