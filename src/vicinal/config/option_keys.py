"""Which keys a group has: those that one of its options names, and something takes."""

from __future__ import annotations

import inspect
from contextlib import suppress
from dataclasses import fields
from functools import cache
from typing import Any

from omegaconf import OmegaConf

from vicinal.config.option_folders import options_at
from vicinal.config.schema import GROUPS, NAMED
from vicinal.config.signatures import located, takes_any_key


@cache
def is_key(group: str, name: str, places: tuple[str, ...]) -> bool:
    """Return whether options of a group have a key, in ``conf/`` or in the user's own folders and packages.

    A key of a file that neither the schema nor any option's target takes is a mistake there.
    """
    contents = _options(group, places)
    naming = [content for content in contents if name in content]
    if not naming or name in {item.name for item in fields({**GROUPS, **NAMED}[group.partition(".")[0]])}:
        return bool(naming)
    for content in (*naming, *contents):  # those that name it first, since this imports modules
        with suppress(Exception):  # a faulty option is refused when it is chosen
            parameters = inspect.signature(located(group, content["_target_"])).parameters
            if name in parameters or (name in content and takes_any_key(parameters)):
                return True
    return False


@cache
def _options(group: str, places: tuple[str, ...]) -> list[dict[Any, Any]]:
    """Return what is written in the file of each option."""
    contents = []
    for source, option in options_at(group, places):
        with suppress(Exception):  # a faulty file is refused when it is chosen
            content: Any = OmegaConf.to_container(source.load_config(f"{group}/{option}").config)
            contents.append(content)
    return contents
