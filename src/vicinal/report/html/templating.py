"""HTML from templates in which text cannot become markup: jinja escapes whatever they insert."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from vicinal.report.html import tables
from vicinal.utils.durations import duration

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **context: Any) -> str:
    """Return the page that a template makes of its context."""
    return environment().get_template(template).render(context)


@cache
def environment() -> Environment:
    """Return the templates, with the filters that they use."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("vicinal.report.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}  # JSON has no NaN
    found.filters |= {"exact": tables.exact, "rounded": tables.rounded, "duration": duration}
    found.tests["missing"] = tables.missing
    found.globals["NOTHING"] = tables.NOTHING
    return found
