"""What the page of a running sweep and that of a finished one have in common."""

from __future__ import annotations

from importlib.resources import files as resources

from vicinal.sweeps.figures import Picture, Style
from vicinal.sweeps.markup import Markup, element


def section(title: str, *content: Markup | None, identity: str | None = None) -> Markup:
    """Content under a heading."""
    return element("section", element("h2", title), *content, id=identity)


def words_of(picture: Picture, index: int) -> str:
    """What a panel shows, for who cannot see it."""
    panel = picture.panels[index]
    return f"{picture.title}: {panel.y.title or 'cells'} against {panel.x.title}. The numbers are in the tables."


def legend_of(picture: Picture) -> dict[str, tuple[Style, bool]]:
    """{name: its style, and whether it is shown at first}."""
    every = [series for panel in picture.panels for series in panel.series if series.kind != "bound"]
    return {series.name: (series.style, series.shown) for series in every}


def asset(name: str) -> Markup:
    """A file of ``assets``."""
    return Markup((resources("vicinal.sweeps") / "assets" / name).read_text(encoding="utf-8"))
