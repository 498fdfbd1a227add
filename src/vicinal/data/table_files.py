"""Files of tables as frames: checked, so that no column is shifted, doubled or half empty."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vicinal.data.text_files import ENCODING
from vicinal.errors import first_line

if TYPE_CHECKING:
    import pandas as pd


def read_frame(argument: str, file: Path) -> pd.DataFrame:
    """Return the rows of a CSV or parquet file; names and texts are without spaces around them.

    Raises ValueError, which begins with ``argument``, that of the source: the file cannot be read, has no rows, rows of
    another length than the line of names, two columns of a name or one without, or a cell without a value.
    """
    import pandas as pd

    try:
        frame = _parquet(file) if file.suffix.lower() == ".parquet" else _csv(file)
    except ImportError as error:  # pandas needs another package for parquet
        raise ValueError(f"{argument} must be a CSV file, since parquet needs pyarrow, got {file}") from error
    except Exception as error:  # any of the parsers' own
        reason = first_line(error)
        raise ValueError(f"{argument} must be a CSV or parquet file that can be read ({reason}), got {file}") from error
    names = [str(name).strip() for name in frame.columns]
    frame.columns = pd.Index(names)
    if "" in names:
        place = names.index("") + 1
        raise ValueError(f"{argument} must name every column: that of column {place} is empty, got {file}")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{argument} must have columns of different names, and there are several {twice}, got {file}")
    if not len(frame):
        raise ValueError(f"{argument} must have rows, got {file}")
    for name in names:
        if not pd.api.types.is_numeric_dtype(frame[name]):
            texts = frame[name].map(lambda value: value.strip() if isinstance(value, str) else value)
            frame[name] = texts.mask(texts == "")
    if missing := [name for name in names if frame[name].isna().any()]:
        count = int(frame[missing[0]].isna().sum())
        raise ValueError(f"{argument} must have a value in every cell: {count} of {missing[0]} are missing, got {file}")
    return frame


def first_text(values: pd.Series[str]) -> tuple[int, str]:
    """Return how many of the values are numbers, and the first that is none with its row: ``'?' in row 17``."""
    import pandas as pd

    numbers = pd.to_numeric(values.astype(str), errors="coerce").notna().to_numpy()
    row = int(numbers.argmin())
    return int(numbers.sum()), f"{str(values.iloc[row])[:40]!r} in row {row + 1}"


def _parquet(file: Path) -> pd.DataFrame:
    import pandas as pd

    frame = pd.read_parquet(file)
    named = [name for name in frame.index.names if name is not None]
    return (
        frame.reset_index(level=named) if named else frame
    )  # pandas takes such a column of the file for names of rows


def _csv(file: Path) -> pd.DataFrame:
    import pandas as pd

    # pandas takes the first column for names of rows where the rows are longer than the line of names, and renames
    # columns of one name; so that line is read as a row first, which the next must not exceed.
    head = pd.read_csv(file, header=None, nrows=2, dtype=str, keep_default_na=False, encoding=ENCODING)
    frame = pd.read_csv(file, index_col=False, low_memory=False, encoding=ENCODING)
    frame.columns = pd.Index(head.iloc[0])
    return frame
