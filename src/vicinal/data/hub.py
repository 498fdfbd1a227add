"""Files of a data set of the Hugging Face Hub: which belong to a split, and their download."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from vicinal.data.arrow_files import ENDINGS, PARQUET
from vicinal.errors import UserError, first_line, suggest

log = logging.getLogger(__name__)

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
SHARD = re.compile(r"-(\d+)-of-(\d+).*$")  # end of the name of a file that is one of several
NUMBERED = re.compile(r"\d*|data")  # stems of files whose split is the name of their folder
CONVERTED = "refs/convert/parquet"  # branch that the Hub adds to data sets in other forms


def files_of_splits(folder: Path, config: str | None, splits: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    """Return the parquet or arrow files of each split, in their order.

    A folder is what ``save_to_disk`` writes, or has files called after their splits: ``train-00000-of-00002.parquet``,
    ``train.parquet`` or ``train/0000.parquet``, perhaps in ``data/``, or in a folder per config. A split that ends in
    ``.parquet`` or ``.arrow`` is a pattern of files below the folder.

    Raises ValueError: a split or config has no files, or one of several files is missing.
    """
    place = folder / config if config else folder
    if not place.is_dir():
        names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        raise ValueError(f"config: no folder {config} in {folder}; {suggest(config or '', names)}")
    patterns = [name for name in splits if name.endswith(ENDINGS)]
    found = {name: _matching(place, name) for name in patterns}
    if len(patterns) < len(splits):
        found |= _saved(place) or _named(place, splits)
    for name in splits:
        if not found.get(name):
            if name in patterns:
                raise ValueError(f"splits: no file {name} in {place}")
            raise ValueError(f"splits: {place} has no split {name}; {suggest(name, [*found])}")
        if name not in patterns:
            _refuse_missing(place, name, found[name])
    return {name: found[name] for name in splits}


def _matching(place: Path, pattern: str) -> tuple[Path, ...]:
    try:
        return tuple(sorted(place.glob(pattern)))
    except (NotImplementedError, ValueError) as error:  # an absolute path, or stars that are no pattern
        raise ValueError(f"splits: {pattern} is no pattern of files below {place} ({first_line(error)})") from None


def _refuse_missing(place: Path, split: str, files: Sequence[Path]) -> None:
    """Refuse a split of whose files, which say how many they are, some are not there."""
    shards = [(SHARD.sub("", file.stem), found) for file in files if (found := SHARD.search(file.stem))]
    numbers: dict[tuple[str, int], set[int]] = {}
    for stem, found in shards:
        numbers.setdefault((stem, int(found[2])), set()).add(int(found[1]))
    for (_, total), there in numbers.items():
        if missing := sorted({*range(total)} - there):
            raise ValueError(
                f"path: {place} has {len(there)} of {total} files of the split {split}, and not the one of number "
                f"{missing[0]}; dataset.splits takes a pattern of files too"
            )


def _saved(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Return the files of each split of what ``save_to_disk`` wrote; none if it did not write this folder."""
    try:
        if (index := folder / "dataset_dict.json").is_file():
            return {name: _shards(folder / name) for name in json.loads(index.read_bytes())["splits"]}
        return {"train": _shards(folder)} if (folder / "state.json").is_file() else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"path: {folder} cannot be read as save_to_disk writes it ({first_line(error)})") from error


def _shards(folder: Path) -> tuple[Path, ...]:
    state = json.loads((folder / "state.json").read_bytes())
    if state.get("_indices_data_files"):
        raise ValueError(f"{folder.name} has chosen rows; save it again after flatten_indices()")
    return tuple(folder / shard["filename"] for shard in state["_data_files"])


def _named(folder: Path, splits: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    """Return the files of each split by the names of files and folders."""
    found: dict[str, dict[str, list[Path]]] = {}  # {folder of a config: {split: files}}
    for file in sorted(path for path in folder.rglob("*") if path.suffix in ENDINGS):
        parents = list(file.relative_to(folder).parts[:-1])
        if any(name.startswith(".") for name in (*parents, file.name)):
            continue
        stem = SHARD.sub("", file.stem)
        if NUMBERED.fullmatch(stem) and parents:
            stem = parents.pop()
        if parents and parents[-1] == "data":
            parents.pop()
        found.setdefault("/".join(parents), {}).setdefault(stem, []).append(file)
    if not found:
        raise ValueError(
            f"path: no parquet or arrow file in {folder}; trees of images are read by dataset=imagefolder, "
            f"and of the Hub, dataset.revision={CONVERTED} has parquet files of most data sets"
        )
    fitting = [place for place, own in found.items() if any(name in own for name in splits)] or [*found]
    if len(fitting) > 1:
        raise ValueError(f"config: {folder} has several; name one of {', '.join(sorted(fitting))}")
    return {name: tuple(files) for name, files in found[fitting[0]].items()}


known: dict[tuple[str, str | None, str | None, tuple[str, ...]], Path] = {}
"""What this process has fetched, by the arguments of :func:`fetched`."""


def fetched(repository: str, revision: str | None, config: str | None, splits: tuple[str, ...]) -> Path:
    """Return the folder with the parquet files of some splits of a data set, downloaded into the Hub's own cache.

    It is called as the commit. The Hub is asked once for a revision, so that a branch is one commit to all runs of a
    process. Raises UserError: a package is not installed, or the Hub cannot be reached, does not have it or asks for a
    login.
    """
    if (asked := (repository, revision, config, splits)) not in known:
        folder = _fetch(*asked)
        known[asked] = known[(repository, folder.name, config, splits)] = folder
    return known[asked]


def _fetch(repository: str, revision: str | None, config: str | None, splits: tuple[str, ...]) -> Path:
    if find_spec("huggingface_hub") is None:
        raise UserError(
            f"dataset.path={repository} needs huggingface_hub, which is not installed: pip install 'vicinal[hf]'"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    within = f"{config}/" if config else ""
    wanted = [within + (name if name.endswith(PARQUET) else f"*{name}*{PARQUET}") for name in splits]
    log.info("looking for %s of the Hub, and fetching what is not here yet", repository)
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        folder = snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=wanted)
    except Exception as error:  # of several libraries: no network, no such repository, no right to read it
        at = f" --revision {revision}" if revision else ""
        raise UserError(
            f"dataset.path={repository}: cannot be had from the Hub ({first_line(error)}); where there is a network, "
            f"`hf download --repo-type dataset {repository}{at} --local-dir FOLDER`, then dataset.path=FOLDER"
        ) from error
    finally:
        if shown:
            enable_progress_bars()
    log.info("%s: commit %s", repository, Path(folder).name)
    if not Path(folder).is_dir():  # the Hub makes it for the first file
        raise UserError(
            f"dataset.path={repository}: the Hub has no file {' or '.join(wanted)} at commit {Path(folder).name}; "
            f"of most data sets in other forms, dataset.revision={CONVERTED} has parquet files"
        )
    return Path(folder)
