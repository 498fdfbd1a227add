"""Make a workspace and a report from plain sections, with wandb-workspaces and without a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vicinal.dashboards.sections import Plot, Sections

if TYPE_CHECKING:
    import wandb_workspaces.reports.v2 as reports
    import wandb_workspaces.workspaces as workspaces

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
class Scope:
    """The runs of a dashboard by sweep and group, and its place at W&B.

    ``grouping`` has the keys of the config that tell the cells apart, such as ``choices.mixup``.
    """

    entity: str
    project: str
    sweep: str
    group: str
    grouping: tuple[str, ...]


def workspace(parts: Sections, scope: Scope) -> workspaces.Workspace:
    """Return a workspace with these sections; below them W&B shows all else that is logged, such as system metrics."""
    import wandb_workspaces.expr as expr
    import wandb_workspaces.workspaces as workspaces

    return workspaces.Workspace(
        entity=scope.entity,
        project=scope.project,
        name=scope.sweep.replace("+", ", "),  # wandb-workspaces takes + for an emoji
        sections=[
            workspaces.Section(name=name, panels=list(map(panel, plots)), is_open=True) for name, plots in parts.items()
        ],
        settings=workspaces.WorkspaceSettings(x_axis="epoch", max_runs=100),
        runset_settings=workspaces.RunsetSettings(
            filters=expr.And(expr.Metric("group") == scope.group), groupby=[expr.Config(key) for key in scope.grouping]
        ),
        auto_generate_panels=True,
    )


def report(parts: Sections, scope: Scope, tables: str) -> reports.Report:
    """Return a report with the sections' panels and the tables of the sweep's own report, in Markdown."""
    import wandb_workspaces.expr as expr
    import wandb_workspaces.reports.v2 as reports

    blocks = [reports.P(INTRODUCTION), reports.H2("Tables"), reports.MarkdownBlock(tables)]
    for name, plots in parts.items():
        runs = reports.Runset(  # without a project, so that its number need not be asked from W&B
            name=scope.sweep,
            filters=expr.And(expr.Metric("group") == scope.group),
            groupby=[f"config.{key}" for key in scope.grouping],
        )
        panels = [panel(plot) for plot in plots]
        for index, item in enumerate(panels):
            item.layout = reports.Layout(x=index % 2 * 12, y=index // 2 * 8, w=12, h=8)
        blocks += [reports.H2(name), reports.PanelGrid(runsets=[runs], panels=panels)]
    return reports.Report(entity=scope.entity, project=scope.project, title=scope.sweep, blocks=blocks, width="fluid")


def panel(plot: Plot) -> Any:
    """Return the panel of wandb-workspaces for a plot."""
    import wandb_workspaces.reports.v2 as reports

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


def specification(part: Any) -> dict[str, Any]:
    """Return a workspace or a report as it is sent to W&B, in plain containers. Needs neither a network nor a login."""
    spec: dict[str, Any] = part._to_model().spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return spec
