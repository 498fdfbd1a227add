"""HTML from templates in which text cannot become markup: jinja escapes whatever they insert."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from vicinal.utils.durations import duration

if TYPE_CHECKING:
    from jinja2 import Environment

NOTHING = "–"
FORMATS: dict[str, Callable[[Any], str]] = {
    "plain": str,
    "number": "{:.4g}".format,
    "signed": "{:+.4g}".format,
    "percent": lambda value: f"{100 * value:.2f}",
    "points": lambda value: f"{100 * value:+.2f}".replace("-", "−"),
    "p": lambda value: "< 0.001" if value < 0.001 else f"{value:.3f}",
    "nats": "{:.3f}".format,
}


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
    found.filters |= {"exact": exact, "rounded": rounded, "duration": duration}
    found.tests["missing"] = missing
    found.globals["NOTHING"] = NOTHING
    return found


def missing(value: object) -> bool:
    """Return whether a number is undefined."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def exact(value: object) -> str:
    """Return all digits of a number, as a CSV file has them; "" if it is undefined."""
    return "" if missing(value) else repr(value)


def rounded(value: object, style: str = "plain") -> str:
    """Return a number for readers, in one of the FORMATS."""
    return NOTHING if missing(value) else FORMATS[style](value)
