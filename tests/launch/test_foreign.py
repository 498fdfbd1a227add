"""Sweepers of Hydra's plugins that need a result of each run: what would give none is refused before it trains."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from vicinal.experiment import Experiment
from vicinal.launch.foreign import NoResultError, check_results

Compose = Callable[..., Experiment]
OPTUNA = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"


def hydra(sweeper: str, launcher: str = "hydra._internal.core_plugins.basic_launcher.BasicLauncher") -> Any:
    choices = {"hydra/sweeper": "optuna"}
    return SimpleNamespace(
        sweeper={"_target_": sweeper}, launcher={"_target_": launcher}, runtime=SimpleNamespace(choices=choices)
    )


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("dry_run=true", "dry_run=true: hydra/sweeper=optuna needs results"),
        ("dataset.val_size=0", "dataset.val_size=0: hydra/sweeper=optuna chooses by validation; must be >= 1"),
        ("busy=skip", "busy=skip: hydra/sweeper=optuna needs results; must be wait"),
    ],
)
def test_what_returns_nothing_is_refused_in_a_line(word: str, line: str, compose: Compose) -> None:
    with pytest.raises(NoResultError) as refused:
        check_results(compose(word), hydra(OPTUNA))
    assert (str(refused.value), refused.value.of_all) == (line, True)
    with pytest.raises(NoResultError) as refused:
        check_results(compose(word), hydra(OPTUNA, "hydra_plugins.vicinal_launcher.ParallelLauncher"))
    assert not refused.value.of_all  # a worker cannot end the command


def test_other_sweepers_and_requests_are_let_through(compose: Compose) -> None:
    check_results(compose("seed=1"), hydra(OPTUNA))
    check_results(compose("dry_run=true"), hydra("hydra._internal.core_plugins.basic_sweeper.BasicSweeper"))
    check_results(compose("dry_run=true"), hydra("hydra_plugins.vicinal_sweeper.GridSweeper"))
