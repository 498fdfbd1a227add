"""The dashboard of one sweep, made with wandb-workspaces and without a network: a workspace and a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import wandb_workspaces.expr as expr
import wandb_workspaces.reports.v2 as reports
import wandb_workspaces.workspaces as workspaces

from vicinal.analysis.load import SWEEP, load_runs
from vicinal.analysis.records import Run, shown_task
from vicinal.dashboards.sections import Plot, Sections, available, logged, sections
from vicinal.errors import UserError
from vicinal.runs.files import read

CHARTS: dict[str, tuple[str, dict[str, str]]] = {
    "confusion": (
        "wandb/confusion_matrix/v1",
        {"Actual": "Actual", "Predicted": "Predicted", "nPredictions": "nPredictions"},
    ),
    "bars": ("wandb/bar/v0", {"label": "class", "value": "accuracy"}),
    "lines": ("wandb/lineseries/v0", {"step": "step", "lineKey": "lineKey", "lineVal": "lineVal"}),
}
"""{kind: (W&B's own chart, {field of the chart: column of the table that the runs log})}."""
INTRODUCTION = (
    "Means over seeds with 95 % intervals, and each cell against the baseline on the same seeds. Alpha and epoch are "
    "chosen on validation; the test set is read for reporting alone."
)


@dataclass(frozen=True)
class Dashboard:
    """A workspace and a report about the runs of a sweep, neither of them saved."""

    parts: Sections
    notes: list[str]  # one line per plot that was left out
    tables: str  # of the sweep's own report, in Markdown
    entity: str
    project: str
    sweep: str
    group: str
    grouping: list[str]  # keys of the config that tell the cells apart, such as ``choices.mixup``

    @cached_property
    def workspace(self) -> workspaces.Workspace:
        """The sections; below them W&B shows all else that is logged, such as system metrics."""
        return workspaces.Workspace(
            entity=self.entity,
            project=self.project,
            name=self.sweep.replace("+", ", "),  # wandb-workspaces takes + for an emoji
            sections=[
                workspaces.Section(name=name, panels=list(map(panel, plots)), is_open=True)
                for name, plots in self.parts.items()
            ],
            settings=workspaces.WorkspaceSettings(x_axis="epoch", max_runs=100),
            runset_settings=workspaces.RunsetSettings(
                filters=expr.And(expr.Metric("group") == self.group), groupby=list(map(expr.Config, self.grouping))
            ),
            auto_generate_panels=True,
        )

    @cached_property
    def report(self) -> reports.Report:
        """The tables and the sections' panels."""
        blocks = [reports.P(INTRODUCTION), reports.H2("Tables"), reports.MarkdownBlock(self.tables)]
        for name, plots in self.parts.items():
            runs = reports.Runset(  # without a project, so that its number need not be asked from W&B
                name=self.sweep,
                filters=expr.And(expr.Metric("group") == self.group),
                groupby=[f"config.{key}" for key in self.grouping],
            )
            panels = [panel(plot) for plot in plots]
            for index, item in enumerate(panels):
                item.layout = reports.Layout(x=index % 2 * 12, y=index // 2 * 8, w=12, h=8)
            blocks += [reports.H2(name), reports.PanelGrid(runsets=[runs], panels=panels)]
        return reports.Report(entity=self.entity, project=self.project, title=self.sweep, blocks=blocks, width="fluid")

    def specification(self) -> dict[str, Any]:
        """Return both as they are sent to W&B, in plain containers. Needs neither a network nor a login."""
        parts = {"workspace": self.workspace, "report": self.report}
        return {
            name: part._to_model().spec.model_dump(mode="json", by_alias=True, exclude_none=True)
            for name, part in parts.items()
        }


def make(sweep: Path, score: str = "", more: Sequence[str] = (), entity: str = "", project: str = "") -> Dashboard:
    """Make the dashboard of a sweep from its folder, with ``sweep.json`` and ``report/``.

    Alphas and strategies are compared by the key `score` of the summary; the keys in `more` get a panel of their own;
    `entity` and `project` replace those in the config of the runs. Raises UserError if this is no sweep with a report,
    or no run has logged one of these keys.
    """
    tables = sweep / "report" / "table.md"
    if not (sweep / SWEEP).exists() or not tables.exists():
        raise UserError(f"{sweep}: no folder of a sweep that has ended; it has no {SWEEP} or no report/{tables.name}")
    loaded = load_runs(sweep)
    runs, swept = loaded.runs, loaded.swept or ()
    parts, notes = available(sections(shown_task(runs), score, more), logged(runs))
    name = sweep.resolve().name
    return Dashboard(
        parts,
        notes,
        tables=read(tables).decode(errors="replace"),
        entity=entity or _configured(runs, "entity"),
        project=project or _configured(runs, "project"),
        sweep=name,
        group=_configured(runs, "group") or name,
        grouping=[key if "." in key else f"choices.{key}" for key in swept if key != "seed"],
    )


def panel(plot: Plot) -> Any:
    """Return the panel of wandb-workspaces for a plot."""
    title, first = plot.title, plot.keys[0]
    seeds: dict[str, Any] = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
    match plot.kind:
        case "alpha":
            return reports.ScatterPlot(title=title, x=reports.Config("mixup.alpha"), y=reports.SummaryMetric(first))
        case "strategies":
            bars, strategy = [reports.SummaryMetric(first)], reports.Config("choices.mixup")
            return reports.BarPlot(title=title, metrics=bars, groupby=strategy, **seeds)
        case "curves":
            cell = reports.Config("cell_id")
            return reports.LinePlot(title=title, x="epoch", y=list(plot.keys), groupby=cell, **seeds)
        case "media":
            return reports.MediaBrowser(title=title, media_keys=list(plot.keys))
        case _:
            name, fields = CHARTS[plot.kind]
            query = {"summaryTable": {"tableKey": first}}
            return reports.CustomChart(
                query=query, chart_name=name, chart_fields=fields, chart_strings={"title": title}
            )


def _configured(runs: Sequence[Run], key: str) -> str:
    return next((str(value) for run in runs if (value := run.config.get("wandb", {}).get(key))), "")
