"""Compare the keys of a dashboard's panels with those that the runs have logged: other panels would stay empty."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from vicinal.analysis.records import Run, flat
from vicinal.config.schema import suggest
from vicinal.errors import UserError
from vicinal.runs.files import DamagedError
from vicinal.runs.folder import RunFolder
from vicinal.runs.predictions import Predictions
from vicinal.tracking.wandb.charts import keys as chart_keys
from vicinal.tracking.wandb.run import IMAGES

PLACES = {"config:": "config", "summary:": "summary", "summary_metrics.": "summary"}
"""{prefix of a key in W&B's specifications: its place}; without a prefix it is in the history."""


@dataclass
class Keys:
    """The keys of some runs, by the places where W&B keeps them."""

    history: set[str] = field(default_factory=set)
    summary: set[str] = field(default_factory=set)
    config: set[str] = field(default_factory=set)
    media: set[str] = field(default_factory=set)
    table: set[str] = field(default_factory=set)

    def __ior__(self, other: Keys) -> Keys:
        for place, found in vars(self).items():
            found |= getattr(other, place)
        return self

    def has(self, place: str, key: str) -> bool:
        return key in getattr(self, place)


@dataclass(frozen=True)
class Named:
    """A key that a panel names.

    Attributes:
        panel: its title.
        place: ``history``, ``summary``, ``config``, ``media`` or ``table``.
        key: as the runs log it.
    """

    panel: str
    place: str
    key: str


def logged(runs: Iterable[Run]) -> Keys:
    """Return the keys that W&B has of these runs, by the records in their folders."""
    keys = Keys()
    for run in runs:
        rows = run.rows()
        history = {key for row in rows for key in row}
        parts = {f"test/{which}": scores for which, scores in run.test.items()} | {
            "val": run.val,
            "val_best": run.val_best,
        }
        summary = {f"{part}/{name}" for part, scores in parts.items() for name in scores or ()}
        config = {*flat(run.config), *(f"choices.{group}" for group in run.choices), "run_id", "cell_id", "git_commit"}
        images = {IMAGES} if rows and run.config.get("wandb", {}).get("images") else set()
        finals = {"best_epoch", "images_per_second"} if run.completed else set()
        keys |= Keys(history, history | summary | finals, config, images)
        with suppress(OSError, DamagedError):
            keys |= Keys(table=set(chart_keys(Predictions.load(RunFolder(run.folder).predictions))))
    return keys


def named(panels: Iterable[Mapping[str, Any]]) -> Iterator[Named]:
    """Yield the keys in panels of a W&B specification, such as those of :func:`panels_of`."""
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


def check(specification: Any, keys: Keys) -> None:
    """Refuse a specification with a panel that would stay empty.

    Raises:
        UserError: a panel names a key that no run has logged.
    """
    for item in named(panels_of(specification)):
        if not keys.has(item.place, item.key):
            known = suggest(item.key, sorted(getattr(keys, item.place)))
            raise UserError(f"panel '{item.panel}': no run logs {item.key} ({item.place}); {known}")
