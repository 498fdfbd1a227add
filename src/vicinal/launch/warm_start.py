"""Points of a space that completed runs have tried already, which a new search begins with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from vicinal.config.error_messages import is_mistake
from vicinal.errors import written
from vicinal.launch.grid import Job
from vicinal.launch.search import Goal
from vicinal.launch.search_space import Axis
from vicinal.launch.study import Known
from vicinal.runs.files import DamagedError
from vicinal.runs.folder import RunFolder
from vicinal.runs.names import setting


def known_points(
    runs: Path, axes: Sequence[Axis], chosen_by: Goal, jobs: Callable[[Mapping[str, str]], list[Job]]
) -> list[Known]:
    """Return the points of a space all of whose runs are completed, in an order that depends on the points alone.

    Args:
        runs: folder of the runs.
        axes: of the space.
        chosen_by: what the search chooses by.
        jobs: the runs of a point, one per seed; it may refuse one.
    """
    points = {tuple(values.items()): values for config in _configs(runs) if (values := _point(config, axes))}
    known = []
    for values in map(points.__getitem__, sorted(points)):
        try:
            experiments = [job.experiment for job in jobs(values)]
        except Exception as error:  # the values were those of another config, with which they went together
            if not is_mistake(error):
                raise
            continue
        results = [result for each in experiments if (result := each.folder.completed()) is not None]
        if len(results) == len(experiments) and all(map(chosen_by.is_in, results)):
            known.append(Known(values, chosen_by.of(results), tuple(each.run_id for each in experiments)))
    return known


def _configs(runs: Path) -> Iterator[dict[str, Any]]:
    """Yield the config of each completed run, with the options of its groups."""
    for file in sorted(runs.glob("*/result.json")):
        with suppress(OSError, DamagedError):  # named where the result is needed
            result = RunFolder(file.parent).load_result()
            if result["status"] == "completed":
                yield {**result["config"], **result["choices"], "config": result["config"]}


def _point(config: Mapping[str, Any], axes: Sequence[Axis]) -> dict[str, str]:
    """Return the values of a run, as the command line spells them; {} if they are not all in the space."""
    values = {}
    for axis in axes:
        key = axis.name
        found = config[key] if key in config else setting(config["config"], key, None)
        value = None if found is None or isinstance(found, Mapping) else axis.value(written(found))
        if value is None:
            return {}
        values[axis.key] = axis.text(value)
    return values
