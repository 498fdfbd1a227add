"""Make a comparison of the cells of some runs: with a baseline that the user names, or with cells that do not mix."""

from __future__ import annotations

from collections.abc import Sequence

from vicinal.analysis import caveats, origins
from vicinal.analysis.cells import STRATEGY, effective, fullest, group_of, make_cells
from vicinal.analysis.comparison import TESTED, Cell, Comparison
from vicinal.analysis.load import RunSet
from vicinal.analysis.records import same
from vicinal.analysis.summary import cell_table, chosen_table, pair_table
from vicinal.errors import UserError

PLAIN = ("mixup=none", "mixup.alpha=0")  # conditions for a cell that does not mix, the best first


def compare(
    run_set: RunSet,
    baseline: Sequence[str] = (),
    score: str = TESTED[0],
    swept: Sequence[str] = (),
    allow_confounded: bool = False,
) -> Comparison:
    """Summarise the cells, test their differences to a baseline and choose by validation.

    The arguments are those of ``make_cells`` and ``find_baselines``, where the sweep's own baseline, if it has one,
    comes before cells without mixing; ``score`` is the one of TESTED that is tested.
    Raises UserError: the cells of a folder differ in more than the swept keys, there is no such baseline, or the runs
    are of several tasks.
    """
    keys, cells, beyond = make_cells(run_set, swept, allow_confounded)
    if not baseline and run_set.baseline and any(cell.cell_id == run_set.baseline for cell in cells):
        baseline = [run_set.baseline]
    baselines = find_baselines(cells, baseline)
    against, unmatched = match(cells, baselines)
    table, pairs = cell_table(cells, keys), pair_table(cells, against, score)
    chosen = chosen_table(cells, keys, score)
    notes = [
        *beyond,
        *origins.other_code(cells),
        *origins.other_data(cells),
        *caveats.hidden_differences(cells, keys),
        *caveats.missing_metrics(cells),
        *caveats.simple_models(cells),
        *caveats.unfinished(cells),
        *run_set.notes,
        *caveats.baseline(cells, against, unmatched, score),
        *caveats.few_seeds(cells, against, pairs),
        *caveats.equal_scores(cells, table),
        *caveats.short_medians(cells),
        *caveats.tests(cells, against, pairs),
        *caveats.choice(cells, chosen, score),
    ]
    return Comparison(
        title=run_set.title,
        swept=keys,
        cells=cells,
        score=score,
        baseline=next(iter(baselines), None),
        table=table,
        pairs=pairs,
        chosen=chosen,
        notes=notes,
    )


def find_baselines(cells: Sequence[Cell], conditions: Sequence[str] = ()) -> list[Cell]:
    """Return the cell that the conditions name, else all cells without mixing, completed first, else the first cell.

    Conditions are one cell id, or ``key=value`` that all hold. Raises UserError if they hold for no cell, or for
    several.
    """
    first = sorted(cells, key=lambda cell: not cell.completed)
    if not conditions:
        plain = ([cell for cell in first if _holds(cell, condition)] for condition in PLAIN)
        return next(filter(None, plain), first[:1])
    found = [cell for cell in cells if all(_holds(cell, condition) for condition in conditions)]
    if len(found) == 1:
        return found
    options = " ".join(f"--baseline {condition}" for condition in conditions)
    names = ", ".join(cell.label for cell in found or cells)
    raise UserError(f"{options}: {'these are several cells' if found else 'no such cell; there are'}: {names}")


def match(cells: Sequence[Cell], baselines: Sequence[Cell]) -> tuple[dict[str, Cell], list[str]]:
    """Match each cell with the baseline that agrees with it in all but the mixing: {cell id: baseline}.

    Also return the labels of the cells that are compared with the first because none agrees, or several do.
    """
    against: dict[str, Cell] = {}
    unmatched = []
    for cell in cells:
        if any(cell is baseline for baseline in baselines) or not baselines:
            continue
        found = [baseline for baseline in baselines if _setting(baseline) == _setting(cell)]
        if len(found) > 1:
            found = [baseline for baseline in found if baseline.strategy == cell.strategy] or found
        against[cell.cell_id] = found[0] if len(found) == 1 else baselines[0]
        if len(found) != 1 and len(baselines) > 1:
            unmatched.append(cell.label)
    return against, unmatched


def _setting(cell: Cell) -> dict[str, str]:
    return {key: text for key, text in cell.values.items() if group_of(key) != STRATEGY}


def _holds(cell: Cell, condition: str) -> bool:
    key, equals, value = condition.partition("=")
    if not equals:
        return cell.cell_id == condition
    values = {**effective(fullest(cell.runs)), **cell.values}
    return key in values and same(values[key], value)
