"""What has been read of a file that no test changes is copied when it is read again.

Parsing the files in ``conf/`` is a third of what Hydra does for each command line; reading the embedded digits, which
are text, is a tenth of a small run.
"""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from hydra._internal.config_repository import ConfigRepository
from hydra.core.object_type import ObjectType

from vicinal.config.schema import CONF, register
from vicinal.data.sources import digits, embedded

FOLDERS = {"pkg://hydra.conf", f"file://{CONF}"}  # not what is registered, such as the config of a run
EMBEDDED = embedded("digits.csv.gz").parent


def patches() -> list[tuple[object, str, Callable[..., Any]]]:
    """What has a memory: owner, name and the function in its place."""
    return [
        (ConfigRepository, "load_config", _configs(ConfigRepository.load_config)),
        (np, "loadtxt", _tables(np.loadtxt)),
    ]


def _configs(original: Callable[..., Any]) -> Callable[..., Any]:
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


def _tables(original: Callable[..., Any]) -> Callable[..., Any]:
    read: dict[object, Any] = {}

    def loadtxt(file: Any, *args: Any, **keys: Any) -> Any:
        if not isinstance(file, Path) or file.parent != EMBEDDED:
            return original(file, *args, **keys)
        key = file, args, *sorted(keys.items())
        if key not in read:
            read[key] = original(file, *args, **keys)
        return read[key].copy()

    return loadtxt


def parse() -> None:
    """Let the processes that are forked from this one find what the default job reads."""
    for owner, name, remembering in patches():
        setattr(owner, name, remembering)
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        compose("config", return_hydra_config=True)
    digits()
