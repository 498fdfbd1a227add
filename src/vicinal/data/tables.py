"""Tables: files of rows, and scikit-learn's diabetes data."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vicinal.data.contents import reads, saved_hashes, stamp
from vicinal.data.samples import Samples, Source
from vicinal.data.sources import embedded
from vicinal.data.splits import stratified
from vicinal.errors import first_line, suggest

if TYPE_CHECKING:
    import pandas as pd

DIABETES_TEST_SIZE = 142  # of 442 patients
TEST_SEED = 0
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
    file: str, test_file: str | None, target: Sequence[str], task: Any, test_share: float, unit: str, cache_dir: str
) -> Source:
    _fingerprint(file, test_file, cache_dir)
    stamps = tuple((str(path), *stamp(path.stat())) for path in _files(file, test_file))
    return _table(stamps, tuple(target), task == "classification", test_share, unit)


@reads(
    lambda file, test_file, **_: _files(file, test_file),
    preview=_preview,
    fingerprint=_fingerprint,
)
def table(
    file: str,
    target: list[str],
    task: Any,
    cache_dir: str,
    test_file: str | None = None,
    test_share: float = 0.2,
    unit: str = "",
) -> Source:
    """Load the rows of a CSV or parquet file: numbers as they are, any other column as one column per category.

    Raises ValueError: a file cannot be read, a column is not there, or a value is missing or no finite number.

    Args:
        file: with a line of names; its ending tells the format, ``.parquet`` or else CSV.
        target: columns that are predicted; the others are the features.
        task: ``classification`` takes one target, of any values; ``multilabel`` and others take numbers.
        cache_dir: for hashes of the files.
        test_file: with the same columns; None to hold out ``test_share`` of the rows.
        test_share: in (0, 1), stratified for classification, the same rows for every run.
        unit: of the targets.
    """
    return _preview(file, test_file, target, task, test_share, unit, cache_dir)


@lru_cache(maxsize=4)
def _table(
    stamps: tuple[tuple[Any, ...], ...], target: tuple[str, ...], classes: bool, test_share: float, unit: str
) -> Source:
    names = ("file", "test_file")
    frames = [_frame(name, Path(path)) for name, (path, *_) in zip(names, stamps, strict=False)]
    for name, frame in zip(names, frames, strict=False):
        for column in target:
            if column not in frame.columns:
                where = Path(stamps[names.index(name)][0]).name
                raise ValueError(f"target must name columns of {where}: no {column}; {suggest(column, frame.columns)}")
    if not target or (classes and len(target) != 1):
        raise ValueError(f"target must be {'one column' if classes else 'one column or more'}, got {list(target)}")
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
        targets = [_numbers(name, frame[list(target)]) for name, frame in zip(names, frames, strict=False)]
    if len(frames) == 2:
        train, test = (Samples(*part) for part in zip(inputs, targets, strict=True))
        return Source(train, test, class_names, unit=unit)
    rows, y = inputs[0], targets[0]
    size = round(test_share * len(rows))
    if not 0 < size < len(rows):
        raise ValueError(f"test_share must leave rows on both sides of {len(rows)}, got {test_share}")
    if classes and y.bincount().min() >= 2 and len(known) <= size <= len(rows) - len(known):
        kept, held_out = stratified(y, size, TEST_SEED)
    else:
        order = torch.from_numpy(np.random.RandomState(TEST_SEED).permutation(len(rows)))
        kept, held_out = order[size:].sort().values, order[:size].sort().values
    return Source(Samples(rows[kept], y[kept]), Samples(rows[held_out], y[held_out]), class_names, unit=unit)


def _frame(name: str, path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except ImportError as error:  # pandas needs another package for parquet
        raise ValueError(f"{name} must be a CSV file, since parquet needs pyarrow, got {path}") from error
    except Exception as error:  # any of the parsers' own
        reason = first_line(error)
        raise ValueError(f"{name} must be a CSV or parquet file that can be read ({reason}), got {path}") from error
    if not len(frame):
        raise ValueError(f"{name} must have rows, got {path}")
    if missing := [str(column) for column in frame.columns if frame[column].isna().any()]:
        count = int(frame[missing[0]].isna().sum())
        raise ValueError(f"{name} must have a value in every cell: {count} of {missing[0]} are missing, got {path}")
    return frame


def _features(frames: Sequence[pd.DataFrame]) -> list[Tensor]:
    """Return the rows of each frame, (N, F) float32; categories are those of the first."""
    import pandas as pd

    columns: list[list[Any]] = [[] for _ in frames]
    for name in frames[0].columns:
        values = [frame[name] for frame in frames]
        numeric = [pd.api.types.is_numeric_dtype(part) for part in values]
        if numeric[0] and not all(numeric):
            raise ValueError(f"test_file must have numbers in column {name}, as file has, got others")
        if all(numeric):
            for own, part in zip(columns, values, strict=True):
                own.append(part.to_numpy(np.float64)[:, None])
            continue
        known = sorted(map(str, values[0].unique()))
        if len(known) > MOST_CATEGORIES:
            raise ValueError(f"file: column {name} has {len(known):,} different texts, and a feature at most 1,000")
        for own, part in zip(columns, values, strict=True):
            own.append((part.astype(str).to_numpy()[:, None] == np.array(known)).astype(np.float64))
    rows = [torch.tensor(np.concatenate(own, axis=1), dtype=torch.float32) for own in columns]
    if not all(part.isfinite().all() for part in rows):
        raise ValueError("file must have finite numbers below 1e38 in its features, got others")
    return rows


def _labels(name: str, values: pd.Series[Any], known: Sequence[Any]) -> Tensor:
    places = {value: place for place, value in enumerate(known)}
    if others := [value for value in values.unique() if value not in places]:
        raise ValueError(f"{name} must have the classes of file: {others[0]} is none")
    return torch.tensor([places[value] for value in values], dtype=torch.int64)


def _numbers(name: str, values: pd.DataFrame) -> Tensor:
    import pandas as pd

    for column in values.columns:
        if not pd.api.types.is_numeric_dtype(values[column]):
            raise ValueError(f"target must be numbers for this task: {column} of {name} has others")
    return torch.tensor(values.to_numpy(np.float64), dtype=torch.float32)
