"""Check the shape of the content of a run's files: a right checksum does not mean that it makes sense."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vicinal.tasks import TASKS

Shape = Any
"""A type; ``(shape,)``, which may be None too; ``[shape]``, a list; a dictionary of shapes by key, in which a key that
ends in ``?`` may be missing and ``str`` stands for all other keys; or a function that returns whether a value fits.
Other keys may be there."""
LARGEST = 1e100  # largest number; its square is still finite


def misfit(value: Any, shape: Shape, name: str = "") -> str | None:
    """Return the keys that lead to a value that has not the shape, such as ``test/last/acc1``; None if all have."""
    if isinstance(shape, tuple):
        return None if value is None else misfit(value, shape[0], name)
    if isinstance(shape, list) and isinstance(value, list):
        parts: Iterator[tuple[str, Any, Shape]] = ((str(index), item, shape[0]) for index, item in enumerate(value))
    elif isinstance(shape, dict) and isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        parts = _parts(value, shape)
    else:
        fits = isinstance(value, shape) if isinstance(shape, type) else callable(shape) and shape(value)
        return None if fits else name
    misfits = (misfit(part, own, f"{name}/{key}".lstrip("/")) for key, part, own in parts)
    return next((key for key in misfits if key is not None), None)


def _parts(value: Mapping[str, Any], shape: Mapping[Any, Shape]) -> Iterator[tuple[str, Any, Shape]]:
    """Yield (key, value, shape) of the keys that have a shape; a missing key has a value that fits nothing."""
    named = {key.removesuffix("?"): own for key, own in shape.items() if key is not str}
    for key, own in named.items():
        if key in value or f"{key}?" not in shape:
            yield key, value.get(key, ...), own
    if str in shape:
        yield from ((key, part, shape[str]) for key, part in value.items() if key not in named)


def number(value: Any) -> bool:
    """Return whether it is a finite number of moderate size."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -LARGEST < value < LARGEST


def whole(value: Any) -> bool:
    return isinstance(value, int) and number(value) and value >= 0


def share(value: Any) -> bool:
    return number(value) and -1e-6 <= value <= 1 + 1e-6  # up to rounding


def plain(name: Any) -> bool:
    """Return whether it can be the name of a file."""
    return isinstance(name, str) and bool(name) and not set(name) & set("/\\\0") and len(name) < 250


def path(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and "\0" not in value


def histogram(value: Any) -> bool:
    """Return whether it can be counts or fractions of equal bins."""
    return isinstance(value, list) and bool(value) and all(number(count) and count >= 0 for count in value)


def text(value: Any) -> bool:
    return isinstance(value, str) and len(value) < 250


def task(value: Any) -> bool:
    """Return whether it can be what ``tasks.recorded`` returns."""
    if isinstance(value, str):
        return value in TASKS
    if misfit(value, {"name": text, "selection": text, "score": (text,), "metrics": [METRIC]}) is not None:
        return False
    keys = [metric["key"] for metric in value["metrics"]]
    return value["selection"] in keys and value["score"] in (None, *keys)


METRIC: Shape = {
    **dict.fromkeys(("key", "title", "unit", "short"), text),
    "better": lambda value: value in ("higher", "lower"),
}
PERCENT = {metric.key for item in TASKS.values() for metric in item.metrics if metric.percent}
SCORES: Shape = {**{f"{key}?": share for key in PERCENT}, str: number}
"""Scores by metric; results of older versions lack some."""
GROUPS = ("dataset", "model", "mixup", "optimizer", "scheduler", "trainer", "tracker", "wandb")
CONFIG: Shape = {f"{group}?": dict for group in GROUPS}
VERSIONS: Shape = {str: (str,)}
HARDWARE: Shape = {"device": str, "device_name?": str, "precision": str, "tf32?": str, "threads": whole}
HEADING: Shape = {
    "run_id": str,
    "cell_id": plain,
    "name": plain,
    "seed": whole,
    "task?": task,
    "choices": {str: str},
    "config": CONFIG,
}
RESULT: Shape = {"run_id": str, **{f"{key}?": own for key, own in HEADING.items()}, "status": str, "error?": str}
"""Any ``result.json``."""
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
    "class_counts?": [whole],
    "noisy_labels?": whole,
    "baseline?": ({"name": text, "test": SCORES},),
    "changed": [str],
    "wandb": {"mode": str, "id": (str,)},
}
"""A ``result.json`` whose status is "completed"."""
ROW: Shape = {"epoch": whole, "mixing/lam?": histogram, "mixing/lam_law?": histogram, str: number}
"""A line of ``metrics.jsonl``."""
ENVIRONMENT: Shape = {
    **{f"{name}?": own for name, own in HARDWARE.items()},
    "task?": task,
    "pid?": whole,
    "host?": str,
    "versions?": VERSIONS,
    "source?": str,
    "sources?": {str: str},
    "continued?": [dict],
    "checksum?": str,
}
RUN: Shape = {"run_id": str, "cell_id": plain, "seed": whole, "name": plain, "folder": path, "values": {str: str}}
SWEEP: Shape = {"swept": [str], "runs": [RUN], "baseline?": plain}  # ``sweep.json``
