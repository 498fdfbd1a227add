"""The checked config of each job of a sweep: a small file per job, from which launchers start it.

So nothing is composed twice, and a file of ``conf/`` that is edited while the sweep runs changes none of its jobs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig, OmegaConf

from vicinal.config.composition import describe, literal
from vicinal.config.redaction import redacted
from vicinal.experiment import Experiment
from vicinal.runs.files import DamagedError, make_folder, read, sha256, write

WORD = "hydra.job.config_name"  # key of the word that names a job's file. Hydra's launchers print no words of ``hydra``
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times as fast
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class JobConfigs:
    """Config loader for launchers, which call only :meth:`load_sweep_config`, perhaps on other machines."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._secrets: dict[str, dict[str, Any]] = {}  # {file: groups that are not written to it}

    def add(self, experiment: Experiment) -> str:
        """Write the file of a job, and return the word that has to follow the job's own ones."""
        config = experiment.request()
        public = redacted(config)
        data = yaml.dump(public, Dumper=DUMPER, sort_keys=False, allow_unicode=True).encode()
        # Named by content: another process may run the same sweep with other settings of W&B.
        name = f"{experiment.run_id}-{sha256(data)[:10]}"
        if secrets := {group: value for group, value in config.items() if value != public[group]}:
            self._secrets[name] = secrets
        make_folder(self._folder)
        write(self._folder / f"{name}.yaml", data, durable=False)
        return f"{WORD}={name}"

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Return the config of a job, with Hydra's own node; its last word is from :meth:`add`. Raises DamagedError."""
        *words, last = sweep_overrides
        name = last.removeprefix(f"{WORD}=")
        file = self._folder / f"{name}.yaml"
        data = read(file)
        if not name.endswith(sha256(data)[:10]):
            raise DamagedError(file, "it is not what was written; rerun the same command to resume")
        config: DictConfig = OmegaConf.create(literal(yaml.load(data, LOADER) | self._secrets.get(name, {})))
        config.hydra = master_config.hydra  # a copy
        config.hydra.runtime.choices.update(config._choices_)
        describe(config.hydra, words)
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        OmegaConf.set_struct(config, True)
        return config
