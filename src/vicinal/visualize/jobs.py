"""Words of the command line, as ``train.py`` takes them, as checked jobs."""

from __future__ import annotations

from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from vicinal.config.schema import CONF, register
from vicinal.data import Images
from vicinal.errors import ConfigError
from vicinal.experiment import Experiment
from vicinal.launch.grid import Job

DEFAULTS = ("trainer.device=cpu", "trainer.compile=false", "wandb.mode=disabled")
"""The pictures need no GPU; words that come later win."""
STRATEGIES = ("none", "input", "manifold", "cutmix")  # that are drawn if the words name none


def jobs(words: Sequence[str]) -> list[Job]:
    """Return the different runs of a grid, in its order; with four strategies if the words name none.

    Raises ConfigError: names the key, the value and what is allowed. Raises HydraException: the words cannot be read or
    composed.
    """
    register()
    if not any(word.startswith("mixup=") for word in words):
        words = [f"mixup={','.join(STRATEGIES)}", *words]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())
        [points] = BasicSweeper.split_arguments(parser.parse_overrides([*DEFAULTS, *words]), max_batch_size=None)
        runs: dict[str, Job] = {}
        for point in points:
            experiment = Experiment.composed(compose("config", point, return_hydra_config=True))
            images_of(experiment)
            runs.setdefault(experiment.run_id, Job(tuple(point), experiment))
    return list(runs.values())


def images_of(experiment: Experiment) -> Images:
    """Return the kind of an experiment's images. Raises ConfigError if its data are no images with one class each."""
    inputs, task = experiment.sizes.inputs, experiment.task
    if not isinstance(inputs, Images) or not task.has_classes:
        values = experiment.dataset.values
        name = "inputs" if not isinstance(inputs, Images) else "task"
        raise ConfigError(f"dataset.{name}", values[name], "cannot be drawn: only classification of images can")
    return inputs
