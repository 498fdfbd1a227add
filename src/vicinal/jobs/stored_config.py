"""Check the ``config.yaml`` of a run as untrusted data, before anything that it names is imported.

A config on the command line is the user's own, and may name any code. A stored one may come from anywhere, so Hydra
follows nothing in it: no defaults, no ``hydra`` node, no interpolations, and only targets that are known or trusted.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Sequence
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
from vicinal.config.validation import leaves
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
}  # packages of the components of each group; all others have to be trusted by name
NESTED = ("mixup",)  # groups whose components are made of others; nothing in their package reads or writes files
HYDRAS = ("defaults", "hydra")  # instructions to Hydra, which are not followed in a stored config
TARGET = re.compile(r"(^|\.)_target_($|[.\[])")  # key that is a target, or is inside one
NAME = "stored"  # name of the config in Hydra's store


def stored_config(file: Path, overrides: Sequence[str] = (), trusted: Sequence[str] = ()) -> DictConfig:
    """Return a run's config, checked and composed again with Hydra's own node and the user's overrides.

    ``trusted`` are dotted prefixes of what the file may name besides our own components. Raises UserError if there is
    no such file, if it is refused, or if today's code does not understand it.
    """
    name = offer(file, trusted)
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(name, list(overrides), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"{file}: {explain(error, overrides)}") from error


def offer(file: Path, trusted: Sequence[str] = ()) -> str:
    """Check a run's config, and store it as a primary config for Hydra, which never reads the file. Return its name."""
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
    """Return the content, or raise UserError. Only code that is known or trusted is imported; nothing is resolved."""
    try:
        text = read_yaml(file)
    except FileNotFoundError:
        raise UserError(f"{file} is missing; without it there is nothing to run again") from None
    with parsing(file, "it is not YAML"):
        loaded = OmegaConf.to_container(OmegaConf.create(text))
    if not isinstance(loaded, dict):
        raise DamagedError(file, "it is not a mapping")
    content = {str(key): value for key, value in loaded.items() if key not in HYDRAS}
    if missing := [item.name for item in fields(Config) if item.name not in (*content, *VIEWS)]:
        advice = "a config of your own goes with --config-dir FOLDER --config-name NAME"
        raise UserError(f"{file}: this is not the config of a run, it has no {missing[0]}; {advice}")

    def refused(key: str, value: object, reason: str) -> UserError:
        return UserError(f"{file}: {ConfigError(key, value, reason)}")

    values = list(leaves(content))
    for key, value in values:
        if "${" in key or (isinstance(value, str) and "${" in value):
            raise refused(key, value, "a stored config is resolved; there is nothing to look up in it")
    targets = [(key, value, _allowed(key, trusted)) for key, value in values if TARGET.search(key)]
    for key, target, allowed in targets:  # all of them, before the first import
        if not _within(str(target), allowed):
            package = str(target).partition(".")[0]
            raise refused(key, target, f"nothing of ours; --trust {package} runs it, if you trust who wrote this")
    for key, target, allowed in targets:
        if not _defined(target, allowed):
            raise refused(key, target, "must be a class or function, by the module that defines or exports it")
    return content


def _allowed(key: str, trusted: Sequence[str]) -> tuple[str, ...]:
    """Return the prefixes allowed for a ``_target_``: our own for the group's, and deeper only where it has parts."""
    group, *path = key.split(".")
    own = path[-1:] == ["_target_"] and (group in NESTED or len(path) == (2 if group in NAMED else 1))
    return (*(OWN.get(group, ()) if own else ()), *trusted)


def _within(name: str, prefixes: Sequence[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


@cache
def _defined(target: str, prefixes: tuple[str, ...]) -> bool:
    """Return whether it is a public class or function that is defined within the prefixes, not imported there."""
    module, _, name = target.rpartition(".")
    if name.startswith("_") or not _within(module, prefixes):
        return False
    try:
        component = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return False
    if not (inspect.isclass(component) or inspect.isfunction(component)):
        return False
    return _within(str(component.__module__), prefixes)
