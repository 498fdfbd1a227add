"""What Hydra has read of a file in ``conf/``, which no test changes, is copied when it reads the file again.

Parsing these files is a third of composing.
"""

import pickle
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.config_repository import ConfigRepository
from hydra.core.object_type import ObjectType

from vicinal.config.schema import CONF, register

FOLDERS = {"pkg://hydra.conf", f"file://{CONF}", "structured://"}


def remembering(original: Any) -> Any:
    """``ConfigRepository.load_config`` with a memory."""
    read: dict[object, bytes] = {}

    def load_config(self: ConfigRepository, config_path: str) -> Any:
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None or source.full_path() not in FOLDERS:
            return original(self, config_path)
        key = config_path, source.full_path(), source.provider
        if key not in read:
            read[key] = pickle.dumps(original(self, config_path))
        return pickle.loads(read[key])

    return load_config


def parse() -> None:
    """Let the processes that are forked from this one find the files of the default config parsed."""
    ConfigRepository.load_config = remembering(ConfigRepository.load_config)  # type: ignore[method-assign]
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        compose("config", return_hydra_config=True)
