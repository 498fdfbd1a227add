"""Group runs into cells: by the keys in which they are meant to differ, with a label each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from itertools import chain
from typing import Any

from vicinal.analysis.comparison import Cell
from vicinal.analysis.load import RunSet
from vicinal.analysis.records import ABSENT, Run, flat, grouped
from vicinal.config.identity import later_keys, without_effect
from vicinal.config.schema import GROUPS, SCHEMAS, VIEWS, Config, TrainerConfig
from vicinal.errors import UserError, suggest, written

STRATEGY = "mixup"  # group whose options and keys tell the cells of a folder apart by default
Known = dict[str, dict[str, str]]  # {cell id: {key: text}} of everything that can change a result


def make_cells(
    run_set: RunSet, swept: Sequence[str] = (), allow_confounded: bool = False
) -> tuple[list[str], list[Cell], list[str]]:
    """Group runs by cell: return the swept keys, the cells in grid order, and a line on more keys in which they differ.

    The keys by which cells are meant to differ are `swept`, else those of the sweep, else those of the strategy; a
    group's option stands for all keys of the group. The cells of a folder may differ in more if `allow_confounded`:
    these keys are added. Raises UserError if no cell has a swept key, or if the cells differ in more and may not.
    """
    runs = grouped((run.cell_id, run) for run in run_set.runs)
    known = _known([fullest(seeds) for seeds in runs.values()])
    differing = _differing(known)
    for key in swept:
        names = dict.fromkeys(chain.from_iterable(known.values()))
        if key not in names:
            raise UserError(f"--swept {key}: no run has this key; {suggest(key, names)}")
    declared = list(swept) or run_set.swept
    keys = [key for key in differing if group_of(key) == STRATEGY] if declared is None else declared
    covered = {*keys, STRATEGY} if declared is None else {*keys}
    also = {key: texts for key, texts in differing.items() if not {key, group_of(key)} & covered}
    beyond = ", ".join(f"{key} ({', '.join(texts)})" for key, texts in also.items())
    if also and run_set.swept is None and not allow_confounded:
        every = ",".join([*keys, *also])
        raise UserError(
            f"these cells differ also in {beyond}: say --swept {every}, or --allow-confounded, or fewer with --where"
        )
    if run_set.swept is None:
        keys = [*keys, *also]
    texts_of = known if swept else known | run_set.values
    shown = {cell: {key: texts_of.get(cell, {}).get(key, ABSENT) for key in keys} for cell in runs}
    cells = _labelled(runs, shown, keys)
    if run_set.swept is None:
        cells.sort(key=lambda cell: [_order(cell.strategy), *map(_order, cell.values.values())])
    return keys, cells, [f"the cells differ in more than the swept keys: {beyond}"] if also else []


def effective(run: Run) -> dict[str, str]:
    """Return {key: text} of everything but the seed that can change a run's result; empty if its config is unknown."""
    schemas: dict[str, Any] = {"": Config, "trainer.": TrainerConfig} | {f"{name}.": GROUPS[name] for name in GROUPS}
    items = [(prefix, item) for prefix, schema in schemas.items() for item in fields(schema)]
    neutral = {f"{prefix}{item.name}" for prefix, item in items if item.metadata.get("neutral")}
    values: dict[str, str] = {}
    for group, value in run.config.items():
        if group in ("seed", *VIEWS) or group.startswith("_") or group in neutral:
            continue
        if not isinstance(value, Mapping):
            values[group] = written(value)
            continue
        if group in run.choices or "_target_" in value:
            values[group] = run.choices.get(group) or str(value["_target_"])
        values |= {key: text for key, text in flat(value, f"{group}.").items() if key not in neutral}
    later = grouped((group_of(key), (key, default)) for key, default in later_keys().items())
    for group, keys in later.items():
        if isinstance(value := run.config.get(group), Mapping):
            defaults = {key.removeprefix(f"{group}."): default for key, default in keys}
            for name in defaults.keys() - without_effect(SCHEMAS[group], {**defaults, **value}):
                values.setdefault(f"{group}.{name}", written(defaults[name]))
    return {key: text for key, text in values.items() if not key.endswith("._target_")}


def _known(runs: Sequence[Run]) -> Known:
    """Return what is effective in each run with a config, by cell.

    The default of a key that older runs lack is given to options that have the key: some run of the option records it.
    """
    recorded: dict[tuple[str, str], set[str]] = {}
    for run in runs:
        for group in run.config:
            recorded.setdefault((group, _option(run, group)), set()).update(flat({group: run.config[group]}))
    later = later_keys()
    return {
        run.cell_id: {
            key: text
            for key, text in values.items()
            if key not in later or key in recorded[group_of(key), _option(run, group_of(key))]
        }
        for run in runs
        if (values := effective(run))
    }


def _option(run: Run, group: str) -> str:
    """Return what takes the keys of a group: its option, or its target where the option is not known."""
    value = run.config.get(group)
    return run.choices.get(group) or str(value.get("_target_", group) if isinstance(value, Mapping) else group)


def fullest(runs: Iterable[Run]) -> Run:
    """Return the run that says most about its cell."""
    return max(runs, key=lambda run: (run.completed, bool(run.config)))


def group_of(key: str) -> str:
    """Return the group of a key; a group's name is its own."""
    return key.partition(".")[0]


def _differing(known: Known) -> dict[str, list[str]]:
    """Return {key: its values} of the keys that differ between the cells that have them.

    A key that only some cells have is no difference by itself: another key decides whether it has an effect. Where the
    options of a group differ, the keys of the options do not count too.
    """
    texts = grouped(item for values in known.values() for item in values.items())
    found = {key: unique for key, values in texts.items() if len(unique := list(dict.fromkeys(values))) > 1}
    return {
        key: values for key, values in found.items() if group_of(key) in (key, STRATEGY) or group_of(key) not in found
    }


def _labelled(runs: Mapping[str, list[Run]], values: Known, keys: Sequence[str]) -> list[Cell]:
    last = [key.rpartition(".")[2] for key in keys]
    short = {key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)}
    cells = []
    for cell, own in values.items():
        best = fullest(runs[cell])
        strategy = own.get(STRATEGY) or best.choices.get(STRATEGY)
        words = [strategy] if strategy else []
        for key, text in own.items():
            if key != STRATEGY and text != ABSENT:
                words.append(f"{short[key]}={text}" if "." in key else text)  # the name of an option suffices
        cells.append(Cell(cell, " ".join(words) or best.name, own, best.choices, best.config, runs[cell]))
    labels = [cell.label for cell in cells]
    return [
        cell if labels.count(cell.label) == 1 else replace(cell, label=f"{cell.label} ({cell.cell_id})")
        for cell in cells
    ]


def _order(text: str) -> tuple[int, float, str]:
    """Return a sorting key: none first, then numbers, then texts."""
    if text in ("none", ABSENT):
        return 0, 0.0, text
    try:
        return 1, float(text), text
    except ValueError:
        return 2, 0.0, text
