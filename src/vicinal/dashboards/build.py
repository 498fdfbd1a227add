"""A workspace and a report out of plain sections, with wandb-workspaces. Nothing here asks W&B for anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vicinal.dashboards.sections import Plot, Section

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
"""W&B's own charts, and which column of the table each of their fields is: as the runs log them."""
INTRODUCTION = (
    "Means over seeds with 95 % intervals, and each cell against the baseline on the same seeds. Alpha and epoch are "
    "chosen on validation; the test set is read for reporting alone."
)


@dataclass(frozen=True)
class Scope:
    """What a dashboard is about, and where it belongs.

    Attributes:
        entity: W&B user or team.
        project: W&B project.
        sweep: its name.
        group: of its runs at W&B.
        grouping: keys of the config that tell its cells apart, such as ``choices.mixup``.
    """

    entity: str
    project: str
    sweep: str
    group: str
    grouping: tuple[str, ...]


def workspace(parts: Sequence[Section], scope: Scope) -> workspaces.Workspace:
    """A workspace with these sections; below them W&B shows what else is logged, such as its system metrics."""
    import wandb_workspaces.expr as expr
    import wandb_workspaces.workspaces as workspaces

    return workspaces.Workspace(
        entity=scope.entity,
        project=scope.project,
        name=scope.sweep.replace("+", ", "),  # which wandb-workspaces takes for an emoji
        sections=[
            workspaces.Section(name=part.name, panels=[panel(plot) for plot in part.plots], is_open=True)
            for part in parts
        ],
        settings=workspaces.WorkspaceSettings(x_axis="epoch", max_runs=100),
        runset_settings=workspaces.RunsetSettings(
            filters=expr.And(expr.Metric("group") == scope.group), groupby=[expr.Config(key) for key in scope.grouping]
        ),
        auto_generate_panels=True,
    )


def report(parts: Sequence[Section], scope: Scope, tables: str) -> reports.Report:
    """A report with a sweep's tables and the sections' panels.

    Args:
        parts: of the panels.
        scope: of the panels' runs.
        tables: Markdown, as the sweep's own report has them, with their notes.
    """
    import wandb_workspaces.expr as expr
    import wandb_workspaces.reports.v2 as reports

    def grid(part: Section) -> Any:
        runs = reports.Runset(  # without a project: it is the report's own, and W&B need not be asked for its number
            name=scope.sweep,
            filters=expr.And(expr.Metric("group") == scope.group),
            groupby=[f"config.{key}" for key in scope.grouping],
        )
        panels = [panel(plot) for plot in part.plots]
        for index, each in enumerate(panels):
            each.layout = reports.Layout(x=index % 2 * 12, y=index // 2 * 8, w=12, h=8)
        return reports.PanelGrid(runsets=[runs], panels=panels)

    blocks = [reports.P(INTRODUCTION), reports.H2("Tables"), reports.MarkdownBlock(tables)]
    for part in parts:
        blocks += [reports.H2(part.name), grid(part)]
    return reports.Report(entity=scope.entity, project=scope.project, title=scope.sweep, blocks=blocks, width="fluid")


def panel(plot: Plot) -> Any:
    """The panel of wandb-workspaces for a plot."""
    import wandb_workspaces.reports.v2 as reports

    match plot.kind:
        case "alpha":
            return reports.ScatterPlot(
                title=plot.title, x=reports.Config("mixup.alpha"), y=reports.SummaryMetric(plot.keys[0])
            )
        case "strategies":
            return reports.BarPlot(
                title=plot.title,
                metrics=[reports.SummaryMetric(plot.keys[0])],
                groupby=reports.Config("choices.mixup"),
                groupby_aggfunc="mean",
                groupby_rangefunc="stddev",
            )
        case "curves":
            return reports.LinePlot(
                title=plot.title,
                x="epoch",
                y=list(plot.keys),
                groupby=reports.Config("cell_id"),
                groupby_aggfunc="mean",
                groupby_rangefunc="stddev",
            )
        case "media":
            return reports.MediaBrowser(title=plot.title, media_keys=list(plot.keys))
        case _:
            name, fields = CHARTS[plot.kind]
            query = {"summaryTable": {"tableKey": plot.keys[0]}}
            return reports.CustomChart(
                query=query, chart_name=name, chart_fields=fields, chart_strings={"title": plot.title}
            )


def specification(made: Any) -> dict[str, Any]:
    """What W&B is sent of a workspace or a report, as plain containers. Needs neither a network nor a login."""
    spec: dict[str, Any] = made._to_model().spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return spec
