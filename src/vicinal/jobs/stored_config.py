"""The ``config.yaml`` of a run is data, whoever wrote it: what it may name is checked before anything is imported.

A config on the command line is the user's own, and may name any code. A stored one may come from anywhere, so nothing
of it is Hydra's to run: no defaults, no ``hydra`` node, no interpolations, and only targets that are known or trusted.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vicinal.config.error_messages import explain
from vicinal.config.schema import CONF, NAMED, VIEWS, Config, register
from vicinal.errors import ConfigError, UserError
from vicinal.runs.files import DamagedError, parsing, read_yaml

OWN = {
    "dataset": ("vicinal.data",),
    "model": ("vicinal.models",),
    "mixup": ("vicinal.mixing",),
    "optimizer": ("torch.optim",),
    "scheduler": ("vicinal.training.schedules",),
    # Modules one by one: other trackers write to any file that they are given.
    "tracker": ("vicinal.tracking.csv_file", "vicinal.tracking.tensorboard", "vicinal.tracking.wandb.tracker"),
}
"""Where the components of each group come from; all else has to be trusted by name."""
HYDRAS = ("defaults", "hydra")
"""Keys of a primary config that are instructions to Hydra; those of a stored one are not followed."""
TARGET = re.compile(r"(^|\.)_target_($|[.\[])")
"""A key that is a target, or is inside one."""
NAME = "stored"
"""Of the config in Hydra's store."""


def stored_config(file: Path, overrides: Sequence[str] = (), trusted: Sequence[str] = ()) -> DictConfig:
    """A run's config, checked and composed again with Hydra's own node.

    Args:
        file: the ``config.yaml``.
        overrides: ``key=value``, the user's own.
        trusted: dotted prefixes of what it may name besides our own components.

    Raises:
        UserError: there is none, it is refused, or the code does not understand it any more.
    """
    name = offer(file, trusted)
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(name, list(overrides), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"{file}: {explain(error, overrides)}") from error


def offer(file: Path, trusted: Sequence[str] = ()) -> str:
    """Check a run's config, and name it as a primary config for Hydra, which never sees the file itself."""
    content = checked(file, trusted)
    register()
    primary = OmegaConf.load(CONF / "config.yaml")
    absent = [item for item in primary.defaults if OmegaConf.is_dict(item) and ({*VIEWS} - {*content}) & {*item}]
    hydras = [item for item in primary.defaults if "hydra/" in str(item)]
    defaults = ["schema", *absent, "_self_", *hydras]
    node = OmegaConf.create({"defaults": defaults, **content, "hydra": primary.hydra})
    ConfigStore.instance().store(name=NAME, node=node)
    return NAME


def checked(file: Path, trusted: Sequence[str] = ()) -> dict[str, Any]:
    """The content, of which nothing has been run, resolved or imported but what is known or trusted.

    Raises:
        UserError: it cannot be read, is no run's config, or names what it may not.
    """
    content = {key: value for key, value in _load(file).items() if key not in HYDRAS}
    known = [item.name for item in fields(Config)]
    if missing := [name for name in known if name not in (*content, *VIEWS)]:
        advice = "a config of your own goes with --config-dir FOLDER --config-name NAME"
        raise UserError(f"{file}: this is not the config of a run, it has no {missing[0]}; {advice}")
    for key, value in _leaves(content):
        if "${" in key or (isinstance(value, str) and "${" in value):
            raise _refused(file, key, value, "a stored config is resolved; there is nothing to look up in it")
    targets = {key: value for key, value in _leaves(content) if TARGET.search(key)}
    for key, target in targets.items():  # all of them, before the first import
        if not _within(str(target), _allowed(key, trusted)):
            package = str(target).partition(".")[0]
            raise _refused(
                file, key, target, f"nothing of ours; --trust {package} runs it, if you trust who wrote this"
            )
    for key, target in targets.items():
        if not _defined(target, _allowed(key, trusted)):
            raise _refused(file, key, target, "must be a class or function, by the module that defines or exports it")
    return content


def _load(file: Path) -> dict[str, Any]:
    try:
        text = read_yaml(file)
        with parsing(file, "it is not YAML"):
            content = OmegaConf.to_container(OmegaConf.create(text))
    except FileNotFoundError:
        raise UserError(f"{file} is missing; without it there is nothing to run again") from None
    if not isinstance(content, dict):
        raise DamagedError(file, "it is not a mapping")
    return {str(key): value for key, value in content.items()}


def _leaves(node: object, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no container, by its dotted key."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _leaves(value, f"{prefix}[{index}]")
    else:
        yield prefix, node


def _allowed(key: str, trusted: Sequence[str]) -> tuple[str, ...]:
    """Prefixes for a ``_target_``: those of its group, if it is the group's own and not one deeper in it."""
    group, *path = key.split(".")
    own = path[-1:] == ["_target_"] and len(path) == (2 if group in NAMED else 1)
    return (*(OWN.get(group, ()) if own else ()), *trusted)


def _within(name: str, prefixes: Sequence[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


@cache
def _defined(target: str, prefixes: tuple[str, ...]) -> bool:
    """Whether it is a public name of a module within the prefixes, and made there: not what that module imports."""
    module, _, name = target.rpartition(".")
    if name.startswith("_") or not _within(module, prefixes):
        return False
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return False
    made = inspect.isclass(found) or inspect.isfunction(found)
    return made and _within(str(found.__module__), prefixes)


def _refused(file: Path, key: str, value: object, reason: str) -> UserError:
    return UserError(f"{file}: {ConfigError(key, value, reason)}")
