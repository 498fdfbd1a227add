"""What Hydra has composed once is copied when a test composes it again, which saves a tenth of a second each time.

Only what comes of the files in ``conf/`` alone, which no test changes: with other folders, and of the stored config of
a run, Hydra composes itself.
"""

import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.utils import JobRuntime
from omegaconf import DictConfig, open_dict

from tests import parsed
from vicinal.config.schema import CONF, register

FOLDERS = {*parsed.FOLDERS, str(CONF), "structured://"}
OUTPUT = re.compile(r"output_dir=/[\w./-]+", re.ASCII)
"""Word that names the test's own folder, which is the same config in another place."""


@pytest.fixture(scope="session", autouse=True)
def composed_once() -> Iterator[None]:
    register()
    with pytest.MonkeyPatch.context() as patch:
        for owner, name, remembering in parsed.patches():
            patch.setattr(owner, name, remembering)
        patch.setattr(ConfigLoaderImpl, "load_configuration", _remembering(ConfigLoaderImpl.load_configuration))
        yield


def _remembering(original: Any) -> Any:
    made: dict[object, bytes] = {}

    def load_configuration(
        self: ConfigLoaderImpl, config_name: str, overrides: list[str], *args: Any, **keys: Any
    ) -> DictConfig:
        folders = {path.path for path in self.get_search_path().get_path()}
        elsewhere = any("hydra.searchpath" in word or "env_copy" in word for word in overrides)
        if config_name != "config" or not folders <= FOLDERS or elsewhere:
            return original(self, config_name, overrides, *args, **keys)
        words = [OUTPUT.sub("output_dir=outputs", word) if OUTPUT.fullmatch(word) else word for word in overrides]
        key = config_name, *words, JobRuntime().get("name"), *args, *sorted(keys.items())
        if key not in made:
            made[key] = pickle.dumps(original(self, config_name, words, *args, **keys))
        config: DictConfig = pickle.loads(made[key])
        with open_dict(config.hydra):
            config.hydra.runtime.cwd = str(Path.cwd())
            for word, own in zip(words, overrides, strict=True):
                if word != own:
                    config.output_dir = own.partition("=")[2]
                    task = config.hydra.overrides.task
                    task[task.index(word)] = own
                    config.hydra.job.override_dirname = config.hydra.job.override_dirname.replace(word, own)
        return config

    return load_configuration
