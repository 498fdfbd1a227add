"""Make a comparison of the cells of some runs."""

from __future__ import annotations

from collections.abc import Sequence

from vicinal.analysis import caveats, origins
from vicinal.analysis.baselines import find_baselines, match
from vicinal.analysis.cells import make_cells
from vicinal.analysis.comparison import TESTED, Comparison
from vicinal.analysis.load import RunSet
from vicinal.analysis.summary import cell_table, chosen_table, pair_table


def compare(
    run_set: RunSet,
    baseline: Sequence[str] = (),
    score: str = TESTED[0],
    swept: Sequence[str] = (),
    allow_confounded: bool = False,
) -> Comparison:
    """Summarise the cells, test their differences to a baseline and choose by validation.

    The arguments are those of ``make_cells`` and ``find_baselines``; ``score`` is the one of TESTED that is tested.

    Raises:
        UserError: the cells of a folder differ in more than the swept keys, there is no such baseline, or the runs are
            of several tasks.
    """
    keys, cells, beyond = make_cells(run_set, swept, allow_confounded)
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
        *caveats.unfinished(cells),
        *run_set.notes,
        *caveats.baseline(cells, against, unmatched, score),
        *caveats.few_seeds(cells, against, pairs),
        *caveats.equal_scores(cells, table),
        *caveats.short_medians(cells),
        *caveats.tests(cells, against, pairs),
        *caveats.choice(cells, chosen, score),
    ]
    return Comparison(run_set.title, keys, cells, next(iter(baselines), None), score, table, pairs, chosen, notes)
