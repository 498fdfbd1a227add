"""Text from outside stays text in CSV, Markdown, LaTeX and on terminals; the templates of HTML escape it themselves."""

from __future__ import annotations

import re
import unicodedata
from contextlib import suppress

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Characters that control a terminal, change the direction of text, or cannot be encoded."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # first characters of a cell that spreadsheets compute
LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "<": r"$<$",
    ">": r"$>$",
}


def visible(text: str, keep: str = "") -> str:
    r"""Escape for a line of a terminal: control characters become ``\x1b``, except those in ``keep``."""
    return CONTROL.sub(lambda char: char[0] if char[0] in keep else char[0].encode("unicode_escape").decode(), text)


def csv(value: object) -> object:
    """Escape for a cell: prefix a text that a spreadsheet would compute with an apostrophe; numbers stay numbers."""
    if not isinstance(value, str) or len(value) < 2:
        return value
    with suppress(ValueError):
        float(value)
        return value
    first = unicodedata.normalize("NFKC", value.lstrip(" \n\v\f")[:1])
    return f"'{value}" if first in FORMULA and first else value


def markdown(text: str) -> str:
    """Escape for a cell of a table or an item of a list: no end of either, no link, image, code or HTML."""
    text = re.sub(r"([\\`|])|<(?=[A-Za-z/!?])|&(?=#?\w+;)|(?<=\])(?=[(\[:])", r"\\\g<0>", visible(text))
    return re.sub(r"^(#|>|[-+](?= ))", r"\\\1", text)


def latex(text: str) -> str:
    """Escape for a cell or a caption."""
    return "".join(LATEX.get(character, character) for character in visible(text))
