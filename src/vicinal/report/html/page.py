"""The report as one HTML page that needs nothing else: plotly is in it, and it asks no network for anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vicinal.analysis.comparison import Comparison
from vicinal.report.figure_types import Picture
from vicinal.report.figures import pictures
from vicinal.report.html import mixed_images, mixing_stats, plotly_json, tables
from vicinal.report.html.layout import asset, document, legend_of, section, words_of
from vicinal.report.html.markup import Markup, data, element
from vicinal.runs import files

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""Held up by the browser: what is in the page is all there is."""
LOUD = 8
"""Notes that are seen at once; a sweep that has just begun has one for every run."""


def write(comparison: Comparison, file: Path) -> None:
    """Write the page; links to runs are relative to it. The same comparison gives the same bytes.

    Raises:
        OSError: it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    files.write(file, render(comparison, file).encode())


def render(comparison: Comparison, file: Path) -> str:
    """The page as text, for a place ``file``."""
    from plotly.offline import get_plotlyjs

    drawn = pictures(comparison)
    body = element(
        "body",
        element("header", element("h1", comparison.title), element("p", _summary(comparison))),
        element("main", _notes(comparison.notes), *_sections(comparison, drawn, file)),
        data("pictures", {picture.name: _spec(picture) for picture in drawn}),
        element("script", Markup(get_plotlyjs())),
        element("script", asset("page.js")),
    )
    return document(comparison.title, POLICY, body)


def _sections(comparison: Comparison, drawn: Sequence[Picture], file: Path) -> list[Markup]:
    sections = []
    if not comparison.chosen.empty:
        sections.append(section("Chosen on validation", tables.chosen(comparison)))
    sections += [section(picture.title, _figure(picture)) for picture in drawn]
    sections.append(section("Scores", tables.scores(comparison)))
    if not comparison.pairs.empty:
        sections.append(section("Differences to the baseline", tables.differences(comparison)))
    curves = {cell.label: comparison.curves(cell) for cell in comparison.cells}
    images = mixed_images.section({cell.label: [run.folder for run in cell.runs] for cell in comparison.cells})
    sections += [part for part in (mixing_stats.section(curves), images) if part is not None]
    sections.append(section("Runs", tables.runs(comparison, file)))
    return sections


def _summary(comparison: Comparison) -> str:
    runs = [run for cell in comparison.cells for run in cell.runs]
    done, cells = sum(run.completed for run in runs), len(comparison.cells)
    words = f"{cells} {'cell' if cells == 1 else 'cells'}, {done} of {len(runs)} runs completed"
    if comparison.baseline is None or comparison.pairs.empty:
        return f"{words}."
    return f"{words}; compared with {comparison.compared_with} on {comparison.headings[comparison.score]}."


def _notes(notes: Sequence[str]) -> Markup | None:
    if not notes:
        return None
    first, rest = (element("ul", *(element("li", note) for note in part)) for part in (notes[:LOUD], notes[LOUD:]))
    more = element("details", element("summary", f"and {len(notes) - LOUD} more"), rest) if notes[LOUD:] else None
    return element("section", element("h2", "Read this first"), first, more, id="notes")


def _figure(picture: Picture) -> Markup:
    panels = [
        element("div", class_="plot", id=f"{picture.name}-{index}", role="img", aria_label=words_of(picture, index))
        for index in range(len(picture.panels))
    ]
    legend = [
        element(
            "button", plotly_json.swatch(style), name, type="button", aria_pressed=str(shown).lower(), data_series=index
        )
        for index, (name, (style, shown)) in enumerate(legend_of(picture).items())
    ]
    named = len(legend) == 1 or any(panel.y.ticks for panel in picture.panels)  # without a legend
    press = "Drag" if named else "Press a name to hide or show it; drag"
    return element(
        "figure",
        element("div", *panels, class_="panels"),
        None if named else element("div", *legend, class_="legend", role="group", aria_label="Legend"),
        element("figcaption", f"{picture.caption} {press} to look closer, double-click to go back."),
        data_picture=picture.name,
    )


def _spec(picture: Picture) -> list[dict[str, Any]]:
    names = list(legend_of(picture))
    return [plotly_json.draw(panel, names) for panel in picture.panels]
