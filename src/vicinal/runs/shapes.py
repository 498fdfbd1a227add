"""The shapes of what a run's files say: a right checksum says who wrote a file last, not that it makes sense."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Shape = Any
"""A type; ``(shape,)``, which may be None too; ``[shape]``, a list of such; a dictionary of shapes by key, in which a
key that ends in ``?`` may be missing and ``str`` stands for all others; or a function that says whether a value fits.
Keys that are not named may be there."""

LARGEST = 1e100
"""Squares of numbers can be added up."""


def misfit(value: Any, shape: Shape, name: str = "") -> str | None:
    """Where ``value`` has not the shape: the keys that lead there, such as ``test/last/acc1``; None if it has."""
    if isinstance(shape, tuple):
        return None if value is None else misfit(value, shape[0], name)
    if isinstance(shape, type):
        return None if isinstance(value, shape) else name
    if isinstance(shape, list):
        if not isinstance(value, list):
            return name
        parts: Iterator[tuple[str, Any, Shape]] = ((str(index), each, shape[0]) for index, each in enumerate(value))
    elif isinstance(shape, Mapping):
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            return name
        parts = _parts(value, shape)
    else:
        return None if shape(value) else name
    places = (misfit(each, own, f"{name}/{key}".lstrip("/")) for key, each, own in parts)
    return next((place for place in places if place is not None), None)


def _parts(value: Mapping[str, Any], shape: Mapping[Any, Shape]) -> Iterator[tuple[str, Any, Shape]]:
    """(key, value, shape) of the keys that have one; a missing key has a value that fits nothing."""
    named = {key.removesuffix("?"): own for key, own in shape.items() if key is not str}
    for key in named:
        if key in value or f"{key}?" not in shape:
            yield key, value.get(key, ...), named[key]
    if str in shape:
        yield from ((key, each, shape[str]) for key, each in value.items() if key not in named)


def number(value: Any) -> bool:
    """A finite number, and none so large that computing with it is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -LARGEST < value < LARGEST


def whole(value: Any) -> bool:
    """An integer >= 0."""
    return isinstance(value, int) and number(value) and value >= 0


def share(value: Any) -> bool:
    """A number in [0, 1], rounding aside."""
    return number(value) and -1e-6 <= value <= 1 + 1e-6


def plain(name: Any) -> bool:
    """A text that can be the name of a file."""
    return isinstance(name, str) and bool(name) and not set(name) & set("/\\\0") and len(name) < 250


def path(value: Any) -> bool:
    """A text that can be the path of a file."""
    return isinstance(value, str) and bool(value) and "\0" not in value


def histogram(value: Any) -> bool:
    """Counts or shares of equal bins of [0, 1]."""
    return isinstance(value, list) and bool(value) and all(number(each) and each >= 0 for each in value)


def anything(value: Any) -> bool:
    return True


SCORES: Shape = {"acc1": share, "acc5?": share, str: number}
CONFIG: Shape = {
    **{
        f"{group}?": dict
        for group in ("dataset", "model", "mixup", "optimizer", "scheduler", "trainer", "tracker", "wandb")
    },
    str: anything,
}
VERSIONS: Shape = {str: (str,)}
HARDWARE: Shape = {"device": str, "device_name?": str, "precision": str, "threads": whole, "compile?": anything}
HEADING: Shape = {
    "run_id": str,
    "cell_id": plain,
    "name": plain,
    "seed": whole,
    "choices": {str: str},
    "config": CONFIG,
}
RESULT: Shape = {"run_id": str, **{f"{key}?": own for key, own in HEADING.items()}, "status": str, "error?": str}
"""Of any ``result.json``."""
COMPLETED: Shape = {
    **HEADING,
    "status": str,
    "epochs": lambda value: whole(value) and value > 0,
    "best_epoch": (whole,),
    "val": (SCORES,),
    "val_best?": (SCORES,),
    "test": {"last": SCORES, "best_val": (SCORES,), "median10": SCORES},
    "seconds": {"epochs?": {str: [number]}, str: number},
    "images_per_second": number,
    "peak_memory?": (whole,),
    "hardware": HARDWARE,
    "versions": VERSIONS,
    "data?": {str: str},
    "changed": [str],
    "wandb": {"mode": str, "id": (str,)},
}
"""Of one whose status is "completed"."""
ROW: Shape = {"epoch": whole, "mixing/lam?": histogram, "mixing/lam_law?": histogram, str: number}
"""Of a line of ``metrics.jsonl``."""
ENVIRONMENT: Shape = {
    **{f"{name}?": own for name, own in HARDWARE.items()},
    "pid?": whole,
    "host?": str,
    "versions?": VERSIONS,
    "source?": str,
    "sources?": {str: str},
    "continued?": [dict],
    "checksum?": str,
}
SWEEP: Shape = {
    "swept": [str],
    "runs": [
        {"run_id": str, "cell_id": plain, "seed": whole, "name": plain, "folder": path, "values": {str: str}},
    ],
}
"""Of ``sweep.json``."""
