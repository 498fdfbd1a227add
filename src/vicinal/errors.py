"""Errors that a user can correct: one line, and never a traceback."""

import difflib
import re
from collections.abc import Iterable, Mapping


class UserError(Exception):
    """A mistake of the user, or a circumstance that they can change; its text is one line that says what to do."""


class ConfigError(UserError):
    """A key of the config has a value that it cannot have: ``key=value: allowed``, as on the command line."""

    def __init__(self, key: str, value: object, allowed: str) -> None:
        super().__init__(key, value, allowed)
        self._text = f"{key}={written(value)}: {allowed}"

    def __str__(self) -> str:
        return self._text


def written(value: object) -> str:
    """Return a value as the command line spells it."""
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(written, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{written(item)}" for name, item in value.items()) + "}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.12g}" if isinstance(value, float) else str(value) or "''"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text that is not blank; the name of its type if it has none."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def reason_of(error: BaseException) -> str:
    """Return an error's first line, after the name of its type unless that is ValueError, which says nothing more."""
    line, name = " ".join(first_line(error).split()), type(error).__name__
    return line if isinstance(error, ValueError) or line == name else f"{name}: {line}"


def suggest(word: str, known: Iterable[str], elsewhere: Iterable[str] = ()) -> str:
    """Return ``did you mean a? allowed: a, b, c`` for an unknown word, or a dotted key or a path that ends in it."""
    known = [name for name in known if not name.startswith("_")]
    close = difflib.get_close_matches(word, known, n=1)
    if not close:
        last = {re.split("[./]", name)[-1]: name for name in reversed([*known, *elsewhere]) if name != word}
        close = [last[name] for name in difflib.get_close_matches(word, last, n=1, cutoff=0.8)]
    allowed = "allowed: " + ", ".join(known) if known else "it takes none"
    return (f"did you mean {close[0]}? " if close else "") + allowed
