"""Refuse what a data set of one's own may return by mistake, before anything is made of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vicinal.data.encoded import EncodedImages
from vicinal.data.inputs import Inputs
from vicinal.data.samples import Samples, Source


def checked_source(source: Source, inputs: Inputs, has_classes: bool) -> Source:
    """Return the source, with tuples for lists, if its parts fit: types, a target per sample, labels that are classes.

    Args:
        source: of the data set; a function may have put anything into it.
        inputs: their kind.
        has_classes: whether a target is one of the classes, int64.

    Raises:
        ValueError: something is of another kind; the reason begins with "must".
    """
    names = source.class_names
    if not (isinstance(names, tuple | list) and names and all(isinstance(name, str) for name in names)):
        raise ValueError(f"must return class_names as a tuple of strings, not {names!r:.60}")
    if not isinstance(source.skipped, tuple | list):
        raise ValueError(f"must return skipped as a tuple of files, not {_kind(source.skipped)}")
    shape = None
    for name, part in (("train", source.train), ("val", source.val), ("test", source.test)):
        if part is None and name == "val":
            continue
        if not isinstance(part, Samples):
            raise ValueError(f"must return {name} as vicinal.data.Samples, not {_kind(part)}")
        _check_samples(name, part, inputs)
        if shape is not None and part.inputs.shape[1:] != shape:
            raise ValueError(
                f"must return inputs of one shape: {[*shape]} in train, {[*part.inputs.shape[1:]]} in {name}"
            )
        shape = part.inputs.shape[1:]
        if has_classes:
            _check_labels(name, part.targets, len(names))
    return source._replace(class_names=tuple(names), skipped=tuple(source.skipped))


def _check_samples(name: str, part: Samples, inputs: Inputs) -> None:
    encoded = isinstance(part.inputs, EncodedImages)
    if not (encoded or _is_dense(part.inputs)) or part.inputs.dtype != inputs.dtype or len(part.inputs.shape) < 2:
        wanted = f"{inputs.noun} as {_written(inputs.dtype)} tensors"
        raise ValueError(f"must return {wanted}, not {_kind(part.inputs)} in {name}")
    if not _is_dense(part.targets) or part.targets.dim() == 0:
        raise ValueError(f"must return targets as tensors (N, ...), not {_kind(part.targets)} in {name}")
    count = len(part.inputs)
    if part.rows is not None:
        if not _is_dense(part.rows) or part.rows.dtype != torch.int64 or part.rows.dim() != 1:
            raise ValueError(f"must return rows as int64 tensors (N,), not {_kind(part.rows)} in {name}")
        if len(part.rows) and not 0 <= part.rows.min() <= part.rows.max() < count:
            raise ValueError(f"must return rows from 0 to {count - 1}, not others in {name}")
        count = len(part.rows)
    if not count:
        raise ValueError(f"must return {inputs.noun} in {name}, not none")
    if len(part.targets) != count:
        raise ValueError(f"must return one target per sample, not {len(part.targets)} for {count} in {name}")


def _check_labels(name: str, labels: Tensor, classes: int) -> None:
    if labels.dim() != 1 or labels.is_floating_point():
        return  # the task says what it needs
    if labels.dtype != torch.int64:
        raise ValueError(f"must return labels as int64 tensors, not {_kind(labels)} in {name}")
    least, largest = int(labels.min()), int(labels.max())
    if not 0 <= least <= largest < classes:
        raise ValueError(f"must return labels from 0 to {classes - 1}, not {least} to {largest} in {name}")


def _is_dense(value: Any) -> bool:
    """Return whether a value is a tensor in the memory of the host, with all its numbers."""
    return isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"


def _kind(value: Any) -> str:
    """Describe a value by its type; a tensor by that of its numbers, its shape, and where it is if that is unusual."""
    if isinstance(value, Tensor):
        place = "" if _is_dense(value) else f" {_written(value.layout)} on {value.device.type}"
        return f"{_written(value.dtype)} {[*value.shape]}{place}"
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def _written(name: torch.dtype | torch.layout) -> str:
    return str(name).removeprefix("torch.")
