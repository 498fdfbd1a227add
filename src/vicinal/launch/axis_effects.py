"""Which axes of a search change a run: one that changes none would have the same run tried again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product

from vicinal.config.error_messages import is_mistake
from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.launch.search_space import Axis

MOST = 1000  # runs that are composed for one axis; one without an effect on so many is taken to have one elsewhere
Run = Callable[[Mapping[str, str]], Experiment]


def check_effects(axes: Sequence[Axis], run: Run) -> None:
    """Raise UserError for an axis whose values are all the same run, whatever the other axes are.

    One that has an effect with some options of another alone, as alpha beside ``mixup=none,input``, is fine.

    Args:
        axes: of the space; the ends of each have been checked.
        run: returns the run of a point, {key: text}; it may refuse one whose values do not go together.
    """
    for axis in axes:
        key, values = axis.name, axis.probes
        if len({*values}) == 1:
            only = f"{values[0]} is its only value, so there is nothing to choose"
            raise UserError(f"{key}: {only}; write {key}={values[0]}")
        alike: list[Experiment] = []
        for number, others in enumerate(_points(axis, axes)):
            runs = _composed(run, [{**others, axis.key: text} for text in values])
            if len({each.run_id for each in runs}) > 1 or number * len(values) > MOST:
                break
            alike += runs[1:]  # of a single one it is not known
        else:
            if alike:
                raise UserError(f"{key}: {_reason(key, alike)}, so there is nothing to choose; leave it out")


def _points(axis: Axis, axes: Sequence[Axis]) -> Iterator[dict[str, str]]:
    """Yield points of the other axes, first those that differ in options of the axis's own group: they decide mostly.

    Of an interval, one number inside stands for all: hardly a trial has an end.
    """

    def likely(other: Axis) -> tuple[bool, bool]:
        return other.name.partition(".")[0] == axis.name.partition(".")[0], bool(other.options)

    others = sorted((other for other in axes if other is not axis), key=likely)  # the last one varies fastest
    for texts in product(*(other.probes[-1:] if other.continuous else other.probes for other in others)):
        yield {other.key: text for other, text in zip(others, texts, strict=True)}


def _composed(run: Run, points: Sequence[Mapping[str, str]]) -> list[Experiment]:
    """Return the runs of the points that are not refused, up to the first one that differs."""
    found: list[Experiment] = []
    for point in points:
        try:
            found.append(run(point))
        except Exception as error:
            if isinstance(error, OSError) or not is_mistake(error):
                raise
            continue
        if found[-1].run_id != found[0].run_id:
            break
    return found


def _reason(key: str, alike: Sequence[Experiment]) -> str:
    """Say why a key changes none of these runs."""
    targets = {
        component.target: None
        for experiment in alike
        for component in experiment.components
        if key in {f"{component.group}.{name}" for name in component.ineffective}
    }
    return f"has no effect with {', '.join(targets)}" if targets else "changes the result of no run"
