"""Sweepers from plugins of Hydra's that choose by what a run returns, and so need a result of each."""

from __future__ import annotations

from typing import Any

from vicinal.errors import UserError
from vicinal.experiment import Experiment

PLUGINS = ("hydra_optuna_sweeper", "hydra_ax_sweeper", "hydra_nevergrad_sweeper")  # modules of ``hydra_plugins``


class NoResultError(UserError):
    """No run of the sweep would have a result. ``of_all`` if the whole command can end with the process of the job."""

    def __init__(self, reason: str, of_all: bool) -> None:
        super().__init__(reason)
        self.of_all = of_all


def check_results(experiment: Experiment, hydra: Any) -> None:
    """Raise NoResultError before the training if the sweeper in Hydra's own node would get no result of it."""
    target = str(hydra.sweeper.get("_target_"))
    if not any(map(target.__contains__, PLUGINS)):
        return
    config, name = experiment.config, f"hydra/sweeper={hydra.runtime.choices['hydra/sweeper']}"
    reason = None
    if config["dry_run"]:
        reason = f"dry_run=true: {name} needs results"
    elif experiment.dataset.values["val_size"] == 0:
        reason = f"dataset.val_size=0: {name} chooses by validation; must be >= 1"
    elif config["busy"] != "wait":
        reason = f"busy={config['busy']}: {name} needs results; must be wait"
    if reason is not None:
        raise NoResultError(reason, of_all=str(hydra.launcher.get("_target_")).endswith(".BasicLauncher"))
