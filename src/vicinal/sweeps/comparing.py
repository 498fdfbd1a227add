"""From runs to a comparison of their cells."""

from __future__ import annotations

from collections.abc import Sequence

from vicinal.sweeps import doubts
from vicinal.sweeps.cells import make_cells, pick
from vicinal.sweeps.comparison import SCORES, Comparison
from vicinal.sweeps.finding import Found
from vicinal.sweeps.summaries import cell_table, chosen_table, pair_table


def compare(
    found: Found,
    baseline: Sequence[str] = (),
    score: str = SCORES[1],
    swept: Sequence[str] = (),
    anyway: bool = False,
) -> Comparison:
    """Summarise, test and choose.

    Args:
        found: the runs.
        baseline: conditions ``key=value`` for the cell that the others are compared with, or its id.
        score: the one of SCORES that is tested.
        swept: the keys by which the cells are meant to differ, if not those of the sweep.
        anyway: compare cells that differ in more than these.

    Raises:
        UserError: the cells of a folder differ in more than the swept keys, or there is no such baseline.
    """
    keys, cells, beyond = make_cells(found, swept, anyway)
    base = pick(cells, baseline)
    table, pairs, chosen = cell_table(cells, keys), pair_table(cells, base, score), chosen_table(cells, keys)
    notes = [
        *beyond,
        *doubts.hidden_differences(cells, keys),
        *doubts.unfinished(cells),
        *found.notes,
        *doubts.few_seeds(cells, base, pairs),
        *doubts.tests(cells, base, pairs),
        *doubts.choice(cells, chosen),
    ]
    return Comparison(found.title, keys, cells, base, score, table, pairs, chosen, notes)
