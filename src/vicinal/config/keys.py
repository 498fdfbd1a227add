"""A key of the config: its default, unit, range, and what it means for a run's identity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from typing import Any

MANY, BILLION = 10**6, 10**9  # bounds of unlimited numbers: far above use, far below overflow and endless loops
LARGEST = 2**63 - 1  # the largest integer that torch, NumPy and the files of a run can hold


def key(
    default: Any,
    doc: str,  # one line, with the unit
    *,
    low: float | None = None,  # least allowed number, or item of a list
    high: float | None = None,  # largest allowed number
    above: float | None = None,  # the number must be larger than this
    below: float | None = None,  # the number must be less than this
    choices: Iterable[str] = (),  # allowed strings
    length: int | None = None,  # required number of items of a list
    neutral: bool = False,  # the key cannot change a result, so it is no part of a run's identity
    needs: str = "",  # switches of the same group, `key` or `key=value,value`; where one is off, the key has no effect
    own: bool = False,  # there only where the component takes it as an argument
    since: str = "",  # version that added the key, if runs are older
    path: bool = False,  # of a file or folder; a leading ``~`` is the user's home
) -> Any:
    """Return a field of the schema.

    The default of a key with ``since`` must mean what older runs did; at its default it is no part of the identity, so
    that they keep theirs. A key without effect is no part of it either.
    """
    metadata = {**locals(), "choices": tuple(choices)}  # all of the arguments
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)
