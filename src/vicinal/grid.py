"""The grid of a sweep: its runs, the keys that it sweeps, its folder, and the ``sweep.json`` there that says it all."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from vicinal.errors import written
from vicinal.experiment import Experiment
from vicinal.runs.environment import redact
from vicinal.runs.files import DamagedError, encode_json, make_folder, read, write

ABSENT = "-"
"""The value of a key that a run has no use for, such as alpha under ``none``."""
LONGEST_NAME = 60
"""Characters of a sweep's readable name; some file systems end at 255, and a run's W&B group at 128."""


@dataclass(frozen=True)
class Job:
    """One point of a grid: the words that ask for it, and what they mean."""

    overrides: tuple[str, ...]
    experiment: Experiment


def compose(
    loader: ConfigLoaderImpl, master: DictConfig, points: Sequence[Sequence[str]]
) -> Iterator[tuple[tuple[str, ...], DictConfig]]:
    """The words of each point of a grid and their config, as ``loader.load_sweep_config`` would compose it.

    Points that choose the same options differ in single values alone. So Hydra, which takes a tenth of a second,
    composes each choice of options once; the values are set on copies, with its own function.
    """

    @cache
    def chosen(*options: str) -> DictConfig:
        return loader.load_sweep_config(master, list(options))

    for point in points:
        options = _options(loader, point)
        config = deepcopy(chosen(*options))
        loader._apply_overrides_to_config([_parse(word) for word in point if word not in options], config)
        yield tuple(point), config


@cache
def _parse(word: str) -> Override:
    return OverridesParser.create().parse_override(word)


def _options(loader: ConfigLoaderImpl, point: Sequence[str]) -> list[str]:
    """The words of a point that choose an option of a group."""
    exists = loader.repository.group_exists
    parsed = {word: _parse(word) for word in point}
    return [word for word, each in parsed.items() if exists(each.key_or_group) and not isinstance(each.value(), dict)]


class Composer(ConfigLoaderImpl):
    """Composes the jobs of a sweep for a launcher as :func:`compose` does, from files that do not change any more."""

    _chosen: ClassVar[dict[tuple[str, ...], DictConfig]] = {}
    """A process's own, since a launcher may send the loader to its workers with every job; of one sweep."""

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        options = _options(self, sweep_overrides)
        places = [str(element.path) for element in self.get_search_path().get_path()]
        sweep = (*places, *master_config.hydra.overrides.hydra, str(master_config.hydra.job.config_name))
        key = (*sweep, "", *options)
        if key not in self._chosen:
            if any(known[: len(sweep)] != sweep for known in self._chosen):
                self._chosen.clear()
            self._chosen[key] = super().load_sweep_config(master_config, options)
        config = deepcopy(self._chosen[key])
        self._apply_overrides_to_config([_parse(word) for word in sweep_overrides if word not in options], config)
        with open_dict(config.hydra):
            config.hydra.overrides.task = list(sweep_overrides)
            config.hydra.job.override_dirname = self._dirname(config, sweep_overrides)
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config

    @staticmethod
    def _dirname(config: DictConfig, words: Sequence[str]) -> str:
        form = config.hydra.job.config.override_dirname
        parsed = [each for each in map(_parse, words) if not each.is_hydra_override()]
        return get_overrides_dirname(parsed, kv_sep=form.kv_sep, item_sep=form.item_sep, exclude_keys=form.exclude_keys)


def swept_keys(jobs: Sequence[Job]) -> list[str]:
    """Keys that differ between the jobs, in the order of the command line; not the seed."""
    values: dict[str, set[str]] = {}
    for job in jobs:
        for override in job.overrides:
            key, _, value = override.partition("=")
            values.setdefault(key.lstrip("+"), set()).add(value)
    return [key for key in values if len(values[key]) > 1 and key != "seed"]


def value(experiment: Experiment, key: str) -> str:
    """A swept key's value as tables show it: what the run really uses."""
    if key in experiment.choices:
        return experiment.choices[key]
    found: Any = experiment.settings()
    for name in key.split("."):
        found = found.get(name, ABSENT) if isinstance(found, Mapping) else ABSENT
    return written(found)


def sweep_folder(jobs: Sequence[Job]) -> Path:
    """``<output_dir>/sweeps/<swept keys>-<hash of the run ids>``: the same runs are the same sweep."""
    ids = sorted(job.experiment.run_id for job in jobs)
    identity = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:10]
    sweeps = Path(os.path.realpath(jobs[0].experiment.config["output_dir"])) / "sweeps"
    # As with runs, the identity decides, and the name before it is for people.
    return next(sweeps.glob(f"*-{identity}"), sweeps / f"{_name(jobs)}-{identity}")


def _name(jobs: Sequence[Job]) -> str:
    keys = swept_keys(jobs)
    short = [key.rpartition(".")[2] for key in keys]
    parts = [last if short.count(last) == 1 else key for key, last in zip(keys, short, strict=True)]
    name = "+".join(parts) or ("seed" if len(jobs) > 1 else "single")
    return re.sub(r"[^\w.+]+", "_", name, flags=re.ASCII)[:LONGEST_NAME].strip(".+")


def write_sweep(folder: Path, jobs: Sequence[Job]) -> None:
    """Write ``sweep.json``: the command, the swept keys and the runs, in the order of the grid.

    A run's folder is relative to ``runs`` beside ``sweeps``; if one of the two is elsewhere, it is absolute.
    """
    keys = swept_keys(jobs)
    command = [redact(word) for word in (Path(sys.argv[0]).name, *sys.argv[1:])]
    content = {"command": command, "swept": keys, "runs": [_entry(job, keys, folder) for job in jobs]}
    data, file = encode_json(content), folder / "sweep.json"
    if not _holds(file, data):  # a finished sweep can be looked at where nobody may write
        make_folder(folder)
        write(file, data)


def _holds(file: Path, data: bytes) -> bool:
    try:
        return read(file) == data
    except (FileNotFoundError, DamagedError):
        return False


def _entry(job: Job, keys: Sequence[str], folder: Path) -> dict[str, Any]:
    experiment, path = job.experiment, job.experiment.folder.path
    return {
        "run_id": experiment.run_id,
        "cell_id": experiment.cell_id,
        "seed": experiment.seed,
        "name": experiment.name,
        "folder": path.name if path.parent == folder.parents[1] / "runs" else str(path),
        "overrides": list(map(redact, job.overrides)),
        "values": {key: value(experiment, key) for key in keys},
    }
