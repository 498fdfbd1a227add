"""Which keys a group has: those that one of its options names, and something takes."""

from __future__ import annotations

import inspect
import re
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

    A key of a file that neither the schema, nor an option's target, nor another value takes is a mistake there.
    """
    contents = _options(group, places)
    naming = [content for content in contents if name in content]
    if not naming:
        return False
    known = {item.name for item in fields({**GROUPS, **NAMED}[group.partition(".")[0]])}
    if name in known or re.fullmatch("_.*_", name):  # the latter are Hydra's own
        return True
    if any(re.search(rf"\$\{{[^}}]*\b{re.escape(name)}\b", str(content)) for content in naming):
        return True
    # Those that name it first, since this imports modules.
    return any(_takes(group, content, name) for content in (*naming, *contents))


def _takes(group: str, content: dict[Any, Any], name: str) -> bool:
    """Return whether the target of an option takes a key; one that cannot be looked at takes what is in its file."""
    try:
        parameters = inspect.signature(located(group, content["_target_"])).parameters
    except Exception:  # it is not installed, or is chosen by another value
        return "_target_" in content and name in content
    return name in parameters or (name in content and takes_any_key(parameters))


@cache
def _options(group: str, places: tuple[str, ...]) -> list[dict[Any, Any]]:
    """Return what is written in the file of each option."""
    contents = []
    for source, option in options_at(group, places):
        with suppress(Exception):  # a faulty file is refused when it is chosen
            content: Any = OmegaConf.to_container(source.load_config(f"{group}/{option}").config)
            contents.append(content)
    return contents
