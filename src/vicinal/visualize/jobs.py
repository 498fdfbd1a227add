"""From words of the command line, as ``train.py`` takes them, to the checked jobs that they ask for."""

from __future__ import annotations

from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from vicinal.config.schema import CONF, register
from vicinal.experiment import Experiment
from vicinal.launch.grid import Job

HERE = ("trainer.device=cpu", "trainer.compile=false", "wandb.mode=disabled")
"""Nothing is trained; words that come later win."""


USUAL = ("none", "input", "manifold", "cutmix")


def strategies() -> list[str]:
    """The options of ``mixup`` in the usual order, then those that are not ours."""
    there = sorted(file.stem for file in (CONF / "mixup").glob("*.yaml"))
    return sorted(there, key=lambda name: USUAL.index(name) if name in USUAL else len(USUAL))


def jobs(words: Sequence[str]) -> list[Job]:
    """The different runs of the grid that the words span, in its order; all strategies where none is named.

    Raises:
        ConfigError: names the key, the value and what is allowed.
        HydraException: the words cannot be read or composed.
    """
    register()
    named = any(word.startswith("mixup=") for word in words)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())
        overrides = parser.parse_overrides([*HERE, *([] if named else [f"mixup={','.join(strategies())}"]), *words])
        [points] = BasicSweeper.split_arguments(overrides, max_batch_size=None)
        found: dict[str, Job] = {}
        for point in points:
            experiment = Experiment.composed(compose("config", point, return_hydra_config=True))
            found.setdefault(experiment.run_id, Job(tuple(point), experiment))
    return list(found.values())
