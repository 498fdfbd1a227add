"""Where two runs of one config part: rows, weights, scores and environment, value by value and bit by bit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vicinal.runs import checkpoint
from vicinal.runs.folder import RunFolder
from vicinal.tracking.jsonlines import TIME_FIELDS

SCORES = ("epochs", "best_epoch", "val", "test")
"""Of a ``result.json``."""

ABSENT = "nothing"

IRRELEVANT = ("pid", "host", "started", "command", "continued", "checksum")
"""What of an ``environment.json`` is about one session alone."""


@dataclass(frozen=True)
class Part:
    """One part of two runs.

    Attributes:
        name: metrics, weights, best weights or scores.
        extent: how much was compared, such as "3 epochs, 39 values".
        parting: the first place where the two differ; None where they are equal to the last bit.
        missing: why it could not be compared; "" if it was.
    """

    name: str
    extent: str = ""
    parting: str | None = None
    missing: str = ""

    @property
    def identical(self) -> bool:
        return self.parting is None and not self.missing


def compare(then: RunFolder, now: RunFolder, damage: Sequence[str]) -> list[Part]:
    """Compare two completed runs, in the order in which they came to be.

    Args:
        then: the original.
        now: the same once more.
        damage: what is wrong with the files of ``then``, as :meth:`RunFolder.damage` says it.
    """
    why = {file: line for file in (then.metrics, then.checkpoint) for line in damage if line.startswith(f"{file} ")}
    lost = why.get(then.metrics)
    parts = [Part("metrics", missing=lost) if lost else metrics(then.rows(), now.rows())]
    if then.checkpoint in why:
        parts.append(Part("weights", missing=why[then.checkpoint]))
    else:
        saved, again = (checkpoint.load(run.checkpoint, checkpoint.WEIGHTS) for run in (then, now))
        for name, key in {"weights": "model", "best weights": "best_model"}.items():
            parts.append(weights(name, saved[key], again[key]))
    return [*parts, scores(then.completed() or {}, now.completed() or {})]


def metrics(then: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> Part:
    """Rows of ``metrics.jsonl``: every key but those of time, to the last digit."""
    names = [[name for name in row if name not in TIME_FIELDS] for row in then]
    extent = f"{len(then)} epochs, {sum(map(len, names))} values"
    for epoch, (old, new) in enumerate(zip(then, now, strict=False), start=1):
        for name in dict.fromkeys([*old, *new]):
            if name not in TIME_FIELDS and (parting := _values(name, old, new)):
                return Part("metrics", extent, f"epoch {epoch}: {parting}")
    if len(then) != len(now):
        return Part("metrics", extent, f"metrics: {len(then)} epochs != {len(now)}")
    return Part("metrics", extent)


def weights(name: str, then: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> Part:
    """Tensors of a network by name: type, shape and every bit."""
    extent = f"{len(then)} tensors, {sum(value.numel() for value in then.values())} values"
    for key in dict.fromkeys([*then, *now]):
        if key not in then or key not in now:
            there = "the original" if key in then else "the reproduction"
            return Part(name, extent, f"{name}: only {there} has {key}")
        old, new = then[key], now[key]
        if (old.dtype, old.shape) != (new.dtype, new.shape):
            kinds = [f"{value.dtype} {tuple(value.shape)}".removeprefix("torch.") for value in (old, new)]
            return Part(name, extent, f"{name}: {key}, {' != '.join(kinds)}")
        different = (_bits(old) != _bits(new)).any(1)
        if different.any():
            largest = (old.double() - new.double()).abs().max().item()
            how = f"{int(different.sum())} of {old.numel()} values, largest difference {largest:.3g}"
            return Part(name, extent, f"{name}: {key}, {how}")
    return Part(name, extent)


def scores(then: Mapping[str, Any], now: Mapping[str, Any]) -> Part:
    """What two ``result.json`` say of the scores, to the last digit."""
    old, new = (flat({name: result.get(name) for name in SCORES}) for result in (then, now))
    partings = (_values(name, old, new) for name in dict.fromkeys([*old, *new]))
    first = next(filter(None, partings), None)
    return Part("scores", f"{len(old)} values", first and f"scores: {first}")


def environments(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(name, then, now) of all that differs between the contents of two ``environment.json``.

    Args:
        then: may be less: what a ``result.json`` records.
        now: all of it.
    """
    old, new = flat(then), flat(now)
    for name in new:
        if name in IRRELEVANT or name not in old or name.startswith("sources/"):  # "source" is all of these
            continue
        if old[name] != new[name]:
            shown = ("one", "another") if name == "git/diff" else (str(old[name]), str(new[name]))
            yield name.removeprefix("versions/").replace("/", " "), *shown


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"test": {"last": {"acc1": .98}}} as {"test/last/acc1": .98}."""
    values: dict[str, Any] = {}
    for name, value in content.items():
        values |= flat(value, f"{prefix}{name}/") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return values


def _values(name: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """``name 0.5 != 0.6``, if that is so; JSON writes two floats alike only if they are the same bits."""
    old, new = (json.dumps(values[name]) if name in values else ABSENT for values in (then, now))
    return None if old == new else f"{name} {old} != {new}"


def _bits(value: Tensor) -> Tensor:
    """(values, bytes of each)."""
    return value.contiguous().reshape(-1, 1).view(torch.uint8)
