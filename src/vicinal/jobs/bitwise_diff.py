"""Find where two runs of one config differ: rows, weights, scores and environment, value by value and bit by bit."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vicinal.runs import checkpoint
from vicinal.runs.folder import RunFolder
from vicinal.tracking.run_files import TIME_FIELDS
from vicinal.utils.nested import flat

SCORES = ("epochs", "best_epoch", "val", "test")  # compared keys of ``result.json``
SPLITS = ("val/", "test/")  # what evaluation has found; a later version may have more metrics
IRRELEVANT = ("pid", "host", "started", "command", "continued", "checksum")  # uncompared keys of ``environment.json``


@dataclass(frozen=True)
class Part:
    """The comparison of one part of two runs: metrics, weights, best weights or scores."""

    name: str
    extent: str = ""  # amount that was compared, such as "3 epochs, 39 values"
    parting: str | None = None  # the first place where the two differ; None where they are equal to the last bit
    missing: str = ""  # reason why it could not be compared; "" if it was

    @property
    def identical(self) -> bool:
        return self.parting is None and not self.missing


def compare(then: RunFolder, now: RunFolder, damage: Sequence[str]) -> list[Part]:
    """Compare two completed runs, part by part; the damage is that of the original, ``then``."""
    rows_lost, weights_lost = (
        next((line for line in damage if line.startswith(f"{file} ")), "") for file in (then.metrics, then.checkpoint)
    )
    parts = [Part("metrics", missing=rows_lost) if rows_lost else metrics(then.rows(), now.rows())]
    if weights_lost:
        parts.append(Part("weights", missing=weights_lost))
    else:
        old, new = (checkpoint.load(run.checkpoint, checkpoint.WEIGHTS) for run in (then, now))
        parts += [weights("weights", old["model"], new["model"])]
        parts += [weights("best weights", old["best_model"], new["best_model"])]
    return [*parts, scores(then.completed() or {}, now.completed() or {})]


def metrics(then: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> Part:
    """Compare rows of ``metrics.jsonl``, except times and metrics that the older rows lack, to the last digit."""
    old, new = ([{name: row[name] for name in row if name not in TIME_FIELDS} for row in rows] for rows in (then, now))
    added = {key for row in new for key in row if key.startswith(SPLITS)} - {key for row in old for key in row}
    new = [{key: row[key] for key in row if key not in added} for row in new]
    extent = f"{len(old)} epochs, {sum(map(len, old))} values{_not_compared(added)}"
    for epoch, rows in enumerate(zip(old, new, strict=False), start=1):
        if parting := _first_difference(*rows):
            return Part("metrics", extent, f"epoch {epoch}: {parting}")
    if len(old) != len(new):
        return Part("metrics", extent, f"metrics: {len(old)} epochs != {len(new)}")
    return Part("metrics", extent)


def weights(name: str, then: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> Part:
    """Compare tensors of a network by name: type, shape and every bit."""
    extent = f"{len(then)} tensors, {sum(value.numel() for value in then.values())} values"
    for key in dict.fromkeys([*then, *now]):
        if key not in then or key not in now:
            owner = "the original" if key in then else "the reproduction"
            return Part(name, extent, f"{name}: only {owner} has {key}")
        old, new = then[key], now[key]
        if (old.dtype, old.shape) != (new.dtype, new.shape):
            kinds = [f"{value.dtype} {tuple(value.shape)}".removeprefix("torch.") for value in (old, new)]
            return Part(name, extent, f"{name}: {key}, {' != '.join(kinds)}")
        old_bits, new_bits = _bytes(old), _bytes(new)
        if different := int((old_bits != new_bits).any(1).sum()):
            largest = (old.double() - new.double()).abs().max().item()
            counts = f"{different} of {old.numel()} values, largest difference {largest:.3g}"
            return Part(name, extent, f"{name}: {key}, {counts}")
    return Part(name, extent)


def _bytes(tensor: Tensor) -> Tensor:
    """Return the bytes of each value, (values, bytes per value), in the order of the indices."""
    values = tensor.flatten().clone(memory_format=torch.contiguous_format)  # contiguous() keeps odd strides of size 1
    return values.view(torch.uint8).view(tensor.numel(), tensor.element_size())


def scores(then: Mapping[str, Any], now: Mapping[str, Any]) -> Part:
    """Compare the scores in two ``result.json``, except those that the older one lacks, to the last digit."""
    old, new = (flat({name: result.get(name) for name in SCORES}) for result in (then, now))
    added = new.keys() - old.keys()
    parting = _first_difference(old, {key: new[key] for key in new if key not in added})
    return Part("scores", f"{len(old)} values{_not_compared(added)}", parting and f"scores: {parting}")


def _not_compared(added: Collection[str]) -> str:
    """Name what a later version has added, such as a metric."""
    return f", without {', '.join(sorted(added))}, which the original does not have" if added else ""


def environments(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield (name, then, now) of all that differs between two ``environment.json``; ``then`` may be incomplete."""
    old, new = flat(then), flat(now)
    for name in new:
        if name in IRRELEVANT or name not in old or name.startswith("sources/"):  # "source" is all of these
            continue
        if old[name] != new[name]:
            shown = ("one", "another") if name == "git/diff" else (str(old[name]), str(new[name]))
            yield name.removeprefix("versions/").replace("/", " "), *shown


def _first_difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return such as ``name 0.5 != 0.6``; JSON writes two floats the same only if they are the same bits."""
    for name in dict.fromkeys([*then, *now]):
        old, new = (json.dumps(values[name]) if name in values else "nothing" for values in (then, now))
        if old != new:
            return f"{name} {old} != {new}"
    return None
