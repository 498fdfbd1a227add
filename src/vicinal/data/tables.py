"""Tables: files of rows, and scikit-learn's diabetes data."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vicinal.data.contents import reads, saved_hashes, stamp, warn_of_shared, warn_once
from vicinal.data.samples import Samples, Source
from vicinal.data.sources import embedded
from vicinal.data.splits import stratified
from vicinal.data.table_files import first_text, read_frame
from vicinal.errors import suggest

if TYPE_CHECKING:
    import pandas as pd

DIABETES_TEST_SIZE = 142  # of 442 patients
TEST_SEED = 0
TEST_SHARE = 0.2
LARGEST = 1e38  # number that a table may have, below that of float32
MOST_CATEGORIES = 1000  # of one column: a column of names or texts is no feature


def _diabetes_files() -> list[Path]:
    return [embedded("diabetes_data_raw.csv.gz"), embedded("diabetes_target.csv.gz")]


def _diabetes() -> Source:
    rows, targets = (torch.from_numpy(np.loadtxt(file)).float() for file in _diabetes_files())
    order = torch.from_numpy(np.random.RandomState(TEST_SEED).permutation(len(rows)))
    parts = [order[DIABETES_TEST_SIZE:].sort().values, order[:DIABETES_TEST_SIZE].sort().values]
    train, test = (Samples(rows[part], targets[part, None]) for part in parts)
    return Source(train, test, ("progression",))


@reads(_diabetes_files, preview=_diabetes)
def diabetes() -> Source:
    """Load the 442 patients that are embedded in scikit-learn: 10 numbers each, and the disease's progress in a year.

    Efron et al., "Least angle regression" (2004), section 1. There is no official test set: 142 patients, the same for
    every run, are held out as one.
    """
    return _diabetes()


def _files(file: str, test_file: str | None) -> list[Path]:
    return [Path(name).expanduser() for name in (file, test_file) if name]


def _fingerprint(file: str, test_file: str | None, cache_dir: str, **_: Any) -> dict[str, str]:
    keys = ("file", "test_file")
    paths = dict(zip(keys, _files(file, test_file), strict=False))
    missing = [key for key, path in paths.items() if not path.is_file()]
    if missing:
        raise ValueError(f"{missing[0]} must be a CSV or parquet file, and there is none, got {paths[missing[0]]}")
    return {
        key: saved_hashes(Path(cache_dir), str(path.absolute().parent)).sha256(str(path.absolute()))
        for key, path in paths.items()
    }


def _preview(
    file: str,
    test_file: str | None,
    target: Sequence[str],
    task: Any,
    cache_dir: str,
    test_share: float = TEST_SHARE,
    unit: str = "",
) -> Source:
    _fingerprint(file, test_file, cache_dir)
    stamps = tuple((str(path), *stamp(path.stat())) for path in _files(file, test_file))
    return _table(stamps, tuple(target), task if isinstance(task, str) else "", test_share, unit)


def _unused(test_file: str | None, task: Any, **_: Any) -> set[str]:
    """Return the arguments without effect: a share where a file says which rows test, and the unit of classes."""
    return {*(["test_share"] if test_file else []), *(["unit"] if task in ("classification", "multilabel") else [])}


@reads(
    lambda file, test_file, **_: _files(file, test_file),
    preview=_preview,
    fingerprint=_fingerprint,
    unused=_unused,
)
def table(
    file: str,
    target: list[str],
    task: Any,
    cache_dir: str,
    test_file: str | None = None,
    test_share: float = TEST_SHARE,
    unit: str = "",
) -> Source:
    """Load the rows of a CSV or parquet file: numbers less their mean, any other column as one column per category.

    The means are those of ``file``, taken off before numbers become float32, so that a time keeps its seconds; those of
    the targets of ``regression`` are the source's ``offset``. Raises ValueError: a file cannot be read
    (:func:`read_frame`), a column is not there, a number is not finite, or a class has too few rows to be cut.

    Args:
        file: with a line of names; its ending tells the format, ``.parquet`` or else CSV.
        target: columns that are predicted; the others are the features.
        task: ``classification`` takes one target, of any values; ``multilabel`` and others take numbers.
        cache_dir: for hashes of the files.
        test_file: with the same columns; None to hold out ``test_share`` of the rows. Rows of both are counted in a
            warning.
        test_share: in (0, 1), stratified for classification, the same rows for every run.
        unit: of the targets.
    """
    return _preview(file, test_file, target, task, cache_dir, test_share, unit)


@lru_cache(maxsize=4)
def _table(
    stamps: tuple[tuple[Any, ...], ...], target: tuple[str, ...], kind: str, test_share: float, unit: str
) -> Source:
    names = ("file", "test_file")
    frames = [read_frame(name, Path(path)) for name, (path, *_) in zip(names, stamps, strict=False)]
    offset: tuple[float, ...] = ()
    classes = kind == "classification"
    for name, frame in zip(names, frames, strict=False):
        for column in target:
            if column not in frame.columns:
                where = Path(stamps[names.index(name)][0]).name
                raise ValueError(f"target must name columns of {where}: no {column}; {suggest(column, frame.columns)}")
    if not target or (classes and len(target) != 1):
        raise ValueError(f"target must be {'one column' if classes else 'one column or more'}, got {list(target)}")
    if len({*target}) != len(target):
        raise ValueError(f"target must name each column once, got {list(target)}")
    features = [column for column in frames[0].columns if column not in target]
    if not features:
        raise ValueError(f"file must have columns beside target, got {frames[0].columns.tolist()}")
    for column in features:
        if any(column not in frame.columns for frame in frames):
            raise ValueError(f"test_file must have the columns of file: no {column}, got {stamps[1][0]}")
    inputs = _features([frame[features] for frame in frames])
    if classes:
        known = sorted(frames[0][target[0]].unique(), key=lambda value: (isinstance(value, str), value))
        labels = [_labels(name, frame[target[0]], known) for name, frame in zip(names, frames, strict=False)]
        class_names = tuple(map(str, known))
        if len(known) < 2:
            raise ValueError(f"target must have two classes or more, got {class_names[0]} alone")
        targets = labels
    else:
        class_names = target
        numbers = [_numbers(name, frame[list(target)]) for name, frame in zip(names, frames, strict=False)]
        if kind == "regression":
            numbers, offset = _centred(numbers, "targets")
        targets = [torch.tensor(part, dtype=torch.float32) for part in numbers]
    if len(frames) == 2:
        shown = {
            part: [*map(repr, frame[[*features, *target]].itertuples(index=False))]
            for part, frame in zip(("train", "test"), frames, strict=True)
        }
        warn_of_shared(f"{stamps[1][0]}", "rows", shown, "value by value")
        train, test = (Samples(*part) for part in zip(inputs, targets, strict=True))
        return Source(train, test, class_names, unit=unit, offset=offset)
    rows, y = inputs[0], targets[0]
    kept, held_out = _held_out(y, class_names if kind == "classification" else None, test_share)
    train, test = (Samples(rows[part], y[part]) for part in (kept, held_out))
    return Source(train, test, class_names, unit=unit, offset=offset)


def _features(frames: Sequence[pd.DataFrame]) -> list[Tensor]:
    """Return the rows of each frame, (N, F) float32; means and categories are those of the first."""
    import pandas as pd

    columns: list[list[Any]] = [[] for _ in frames]
    for name in frames[0].columns:
        values = [frame[name] for frame in frames]
        numeric = [pd.api.types.is_numeric_dtype(part) for part in values]
        if numeric[0] and not all(numeric):
            raise ValueError(f"test_file must have numbers in column {name}, as file has, got others")
        if all(numeric):
            numbers = [part.to_numpy(np.float64)[:, None] for part in values]
            for own, part in zip(columns, _centred(numbers, "features")[0], strict=True):
                own.append(part)
            continue
        known = sorted(map(str, values[0].unique()))
        if len(known) > MOST_CATEGORIES:
            raise ValueError(f"file: column {name} has {len(known):,} different texts, and a feature at most 1,000")
        count, text = first_text(values[0])
        if count:
            line = "column %s has %d numbers, but %s, so it becomes %d columns, one per value"
            warn_once(line % (name, count, text, len(known)))
        for own, part in zip(columns, values, strict=True):
            own.append((part.astype(str).to_numpy()[:, None] == np.array(known)).astype(np.float64))
    return [torch.tensor(np.concatenate(own, axis=1), dtype=torch.float32) for own in columns]


def _centred(parts: Sequence[NDArray[np.float64]], what: str) -> tuple[list[NDArray[np.float64]], tuple[float, ...]]:
    """Return columns (N, D) of each file less the means of the first, and these means.

    A float32 has seven digits, and those of a time or of a year should not be spent on what all rows have in common.
    """
    if not all((np.abs(part) < LARGEST).all() for part in parts):
        raise ValueError(f"file must have finite numbers below 1e38 in its {what}, got others")
    offset = parts[0].mean(axis=0)
    return [part - offset for part in parts], tuple(offset.tolist())


def _labels(name: str, values: pd.Series[Any], known: Sequence[Any]) -> Tensor:
    places = {value: place for place, value in enumerate(known)}
    if others := [value for value in values.unique() if value not in places]:
        raise ValueError(f"{name} must have the classes of file: {others[0]} is none")
    return torch.tensor([places[value] for value in values], dtype=torch.int64)


def _numbers(name: str, values: pd.DataFrame) -> NDArray[np.float64]:
    import pandas as pd

    for column in values.columns:
        if not pd.api.types.is_numeric_dtype(values[column]):
            _, text = first_text(values[column])
            raise ValueError(f"target must be numbers for this task: {column} of {name} has {text}")
    numbers: NDArray[np.float64] = values.to_numpy(np.float64)
    return numbers


def _held_out(y: Tensor, class_names: Sequence[str] | None, share: float) -> tuple[Tensor, Tensor]:
    """Return the rows to train on and the others, both ascending; of classes, each has its share of both."""
    size = round(share * len(y))
    if not 0 < size < len(y):
        raise ValueError(f"test_share must leave rows on both sides of {len(y)}, got {share}")
    if class_names is None:
        order = torch.from_numpy(np.random.RandomState(TEST_SEED).permutation(len(y)))
        return order[size:].sort().values, order[:size].sort().values
    counts, classes = y.bincount(), len(class_names)
    if counts.min() >= 2 and classes <= size <= len(y) - classes:
        kept, held_out = stratified(y, size, TEST_SEED)
        if y[kept].bincount(minlength=classes).min() > 0:
            return kept, held_out
    least = int(counts.argmin())
    rarest = f"{class_names[least]} has {counts[least]} of the {len(y)}"
    raise ValueError(
        f"test_share must leave rows of each of {classes} classes on both sides, and {rarest} rows; test_file says"
        f" which rows test, got {share}"
    )
