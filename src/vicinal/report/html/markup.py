"""HTML in which text cannot become markup: whatever is not made here is escaped."""

from __future__ import annotations

import html
import json

VOID = ("br", "col", "img", "input", "link", "meta")


class Markup(str):
    """HTML that is put into a page as it is."""

    __slots__ = ()


def element(name: str, /, *content: object, **attributes: object) -> Markup:
    """``<name attribute="...">content</name>``.

    Args:
        name: of the element.
        content: Markup is taken as it is, all else as text; None is nothing.
        attributes: of None or False are left out, True has no value; ``data_value`` is data-value, ``class_`` class.
    """
    words = [name]
    for key, value in attributes.items():
        if value is not None and value is not False:
            word = key.strip("_").replace("_", "-")
            words.append(word if value is True else f'{word}="{html.escape(str(value))}"')
    opened = Markup(f"<{' '.join(words)}>")
    return opened if name in VOID else Markup(f"{opened}{join(*content)}</{name}>")


def join(*content: object) -> Markup:
    """One after the other, escaped like an element's content."""
    return Markup(
        "".join(part if isinstance(part, Markup) else html.escape(str(part)) for part in content if part is not None)
    )


def data(identity: str, content: object) -> Markup:
    """JSON for a script of the page to read. Raises ValueError for NaN, which JSON does not have."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")  # no </script> in it
    return element("script", Markup(text), type="application/json", id=identity)
