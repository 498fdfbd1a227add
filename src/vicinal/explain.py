"""Hydra's and OmegaConf's complaints in one line: the key, the value and what is allowed."""

from __future__ import annotations

import re
import typing
from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import Any

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException, ValidationError

from vicinal.components import describe_type
from vicinal.config import GROUPS, Config, suggest
from vicinal.errors import UserError


def is_mistake(error: Exception) -> bool:
    """It is a user's mistake, or something they can change; not a bug."""
    return isinstance(error, (UserError, HydraException, OmegaConfBaseException)) or _null_option(error)


def _null_option(error: Exception) -> bool:
    return isinstance(error, ValueError) and str(error).startswith("Config group override must be a string")


def explain(error: Exception, overrides: Sequence[str] = ()) -> str:
    """One line for a user.

    Args:
        error: of any kind; only a mistake's line is meant for a user.
        overrides: the words of the command line, where the value of a refused key is looked up.
    """
    cause = error.__cause__
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException):
        return _unknown_option(error)
    if _null_option(error):
        word = next((word for word in overrides if word.partition("=")[2] in ("null", "")), "null")
        return f"{word}: must be the name of an option; --help lists them"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read as key=value ({_first_line(error)})"
    if isinstance(error, ConfigCompositionException) and "Ambiguous value" in str(error):
        word = str(error).split("'")[1]
        return f"{word}: several values are a sweep, which needs -m; a list is written [a,b]"
    if isinstance(error, OmegaConfBaseException):
        cause = error
    if isinstance(cause, ConfigKeyError) or (isinstance(cause, OmegaConfBaseException) and "struct" in str(cause)):
        return _unknown_key(str(cause.full_key), overrides)
    if isinstance(cause, ValidationError) and cause.full_key:
        key = str(cause.full_key)
        hint = _hint(key)
        reason = _first_line(cause) if hint is None else f"must be {describe_type(hint)}"
        return f"{key}={_value(key, overrides)}: {reason}"
    return _first_line(error)


def _unknown_option(error: MissingConfigException) -> str:
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    options = error.options or []
    if not group or not options:
        return _first_line(error)
    return f"{group}={option}: no such option; {suggest(option, options)}"


def _unknown_key(key: str, overrides: Sequence[str]) -> str:
    parent, _, name = key.rpartition(".")
    return f"{key}={_value(key, overrides)}: no such key; {suggest(name, _keys(parent))}"


def _keys(parent: str) -> list[str]:
    """The keys that the schema has at a place; of an open group those that all of its options may have."""
    schema: Any = Config
    for name in filter(None, parent.split(".")):
        schema = GROUPS.get(name) or typing.get_type_hints(schema).get(name)
    return [name for name in typing.get_type_hints(schema) if name != "_target_"] if is_dataclass(schema) else []


def _hint(key: str) -> Any:
    parent, _, name = key.rpartition(".")
    schema = typing.get_type_hints(Config).get(parent) if parent else Config
    return typing.get_type_hints(schema).get(name) if schema is not None and is_dataclass(schema) else None


def _value(key: str, overrides: Sequence[str]) -> str:
    """What the command line says about a key, else what a file could only have said."""
    for word in overrides:
        name, _, value = word.partition("=")
        if name.lstrip("+~") == key:
            return value
    return "..."


def _first_line(error: BaseException) -> str:
    return re.sub(r"\s+", " ", str(error).strip().partition("\n")[0])
