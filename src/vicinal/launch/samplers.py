"""Optuna's samplers, asked so that a point depends on the seed and the trials before it alone.

A sampler draws from a generator of its own, and may keep notes in the study. So each key of each trial has a sampler of
its own, seeded by both, which sees a copy of the study.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from vicinal.launch.search_space import Axis

if TYPE_CHECKING:
    from optuna import Study
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

SAMPLERS = ("tpe", "random", "gp")
NAME = "search"  # of the only study of a search


def choose(name: str, seed: int, axes: Sequence[Axis], higher: bool, trials: Sequence[FrozenTrial]) -> dict[str, Any]:
    """Return the values of the trial that follows the given ones, {key: value}.

    Args:
        name: one of SAMPLERS.
        seed: of the search.
        axes: of its space.
        higher: whether a larger value of the objective is better.
        trials: all before, running ones too.
    """
    import optuna

    number = len(trials)
    with _quiet():
        copy = new_study(optuna.storages.InMemoryStorage(), higher)
        copy.add_trials([*trials, optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING)])
        trial = copy.get_trials(deepcopy=False)[number]
        together = sampler(name, seed, number)
        space = together.infer_relative_search_space(copy, trial)
        drawn = together.sample_relative(copy, trial, space)
        for place, axis in enumerate(axes, 1):
            if axis.key not in drawn:
                alone = sampler(name, seed, number, place)
                drawn[axis.key] = alone.sample_independent(copy, trial, axis.key, axis.distribution)
    return {axis.key: axis.settled(drawn[axis.key]) for axis in axes}


def sampler(name: str, seed: int, number: int = 0, place: int = 0) -> BaseSampler:
    """Return one of Optuna's samplers for a trial, and for one of its keys."""
    import optuna

    own = int(np.random.SeedSequence((seed, number, place)).generate_state(1)[0])
    with _quiet():
        if name == "tpe":  # which takes trials that are running for bad ones, so as not to try them twice
            return optuna.samplers.TPESampler(seed=own, constant_liar=True)
        if name == "gp":
            return optuna.samplers.GPSampler(seed=own)
        return optuna.samplers.RandomSampler(seed=own)


def new_study(storage: Any, higher: bool) -> Study:
    """Return a study that is made now."""
    import optuna

    direction = "maximize" if higher else "minimize"
    return optuna.create_study(storage=storage, sampler=unused(), study_name=NAME, direction=direction)


def unused() -> BaseSampler:
    """Return the sampler that a study must have, although each trial has one of its own."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.samplers.RandomSampler(seed=0)


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, Optuna does not warn that some of its parts may change."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
