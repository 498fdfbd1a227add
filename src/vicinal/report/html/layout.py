"""What the page of a running sweep and that of a finished one have in common."""

from __future__ import annotations

from importlib.resources import files as resources

from vicinal.report.figure_types import Picture, Style
from vicinal.report.html.markup import Markup, element


def document(title: str, policy: str, body: Markup, *head: Markup | None) -> str:
    """A page that stands alone.

    Args:
        title: of its tab.
        policy: what it may load.
        body: of the page.
        *head: more of it.
    """
    whole = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        *head,
        element("title", f"{title} · Vicinal"),
        element("link", rel="icon", href="data:,"),
        element("style", asset("page.css")),
    )
    return f"<!DOCTYPE html>\n{element('html', whole, body, lang='en')}\n"


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
    return Markup((resources("vicinal.report.html") / "assets" / name).read_text(encoding="utf-8"))
