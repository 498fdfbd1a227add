"""Read the keys that the panels of a W&B specification name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from vicinal.dashboards.sections import Key

PLACES = {"config:": "config", "summary:": "summary", "summary_metrics.": "summary"}
"""{prefix of a key in W&B's specifications: its place}; without a prefix it is in the history."""


class Named(NamedTuple):
    panel: str
    place: str
    key: str


def named(panels: Iterable[Mapping[str, Any]]) -> Iterator[Named]:
    """Yield the keys in panels such as those of :func:`panels_of`."""
    for panel in panels:
        config = panel["config"]
        title = config.get("chartTitle") or panel["viewType"]
        words = [*config.get("metrics", ()), *(config[axis] for axis in ("xAxis", "yAxis", "zAxis") if axis in config)]
        words += [column["accessor"] for column in config.get("columns", ())]
        for word in words:
            start = next((start for start in PLACES if word.startswith(start)), "")
            place = PLACES.get(start, "history")
            key = word.removeprefix(start)
            yield Named(title, place, plain(key) if place == "config" else key)
        if "groupBy" in config:
            yield Named(title, "config", plain(config["groupBy"]))
        for key in config.get("mediaKeys", ()):
            yield Named(title, "media", key)
        for query in config.get("userQuery", {}).get("queryFields", ()):
            for item in query["fields"]:
                yield from (Named(title, "table", str(arg["value"])) for arg in item.get("args", ()))


def plain(key: str) -> str:
    """Return ``mixup.alpha`` for ``mixup.value.alpha``, as W&B stores a config."""
    return key.replace(".value", "", 1)


def panels_of(specification: Any) -> Iterator[Mapping[str, Any]]:
    """Yield all panels in the specification of a workspace or a report."""
    if isinstance(specification, Mapping):
        if "viewType" in specification:
            yield specification
        else:
            for value in specification.values():
                yield from panels_of(value)
    elif isinstance(specification, Sequence) and not isinstance(specification, str):
        for value in specification:
            yield from panels_of(value)


def unknown(specification: Any, keys: Collection[Key]) -> list[str]:
    """Return the keys that panels name and that are not logged."""
    return [item.key for item in named(panels_of(specification)) if (item.place, item.key) not in keys]
