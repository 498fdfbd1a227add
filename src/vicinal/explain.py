"""Hydra's and OmegaConf's complaints in one line: the key, the value and what is allowed."""

from __future__ import annotations

import re
import typing
from collections.abc import Sequence

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
    ValidationError,
)

from vicinal.components import describe_type
from vicinal.config import Config, describe_range, suggest
from vicinal.errors import UserError
from vicinal.escaping import visible
from vicinal.redaction import redact

MISSING_FOLDER = r"provider=hydra\.searchpath in [\w-]+, path=(.*) is not available\."
"""Hydra's warning of a folder or package of configs that is not there."""


def is_mistake(error: Exception) -> bool:
    """It is a user's mistake, or a circumstance; not a bug. What the system says of a file or a folder is one."""
    known = (UserError, HydraException, OmegaConfBaseException)
    own = _null_option(error) or re.match(MISSING_FOLDER, str(error)) is not None
    system = isinstance(error, OSError) and error.errno is not None
    return isinstance(error, known) or own or system


def _null_option(error: Exception) -> bool:
    return isinstance(error, ValueError) and str(error).startswith("Config group override must be a string")


def explain(error: Exception, overrides: Sequence[str] = ()) -> str:
    """One line for a user, without secrets.

    Args:
        error: of any kind; only a mistake's line is meant for a user.
        overrides: the words of the command line, where the value of a refused key is looked up.
    """
    return visible(redact(_line(error, overrides)))


def _line(error: Exception, overrides: Sequence[str]) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException):
        return _unknown_option(error)
    if _null_option(error):
        word = next((word for word in overrides if word.partition("=")[2] in ("null", "")), "null")
        return f"{word}: must be the name of an option; --help lists them"
    if place := re.match(MISSING_FOLDER, str(error)):
        return f"hydra.searchpath={place[1]}: there is no such folder or package of configs"
    if isinstance(error, OverrideParseException):
        reason = _first_line(error)
        return f"{error.override}: cannot be read as key=value" + (
            "" if reason.startswith("Error parsing override") else f" ({reason})"
        )
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__ or error.__context__
    if isinstance(cause, InterpolationResolutionError):
        return _unresolved(cause, overrides)
    if isinstance(cause, (ConfigKeyError, ConfigAttributeError)):
        known = [str(name) for name in cause.parent_node or () if name not in ("hydra", "_target_")]
        return f"{_word(str(cause.full_key), overrides)}: no such key; {suggest(str(cause.key), known)}"
    if isinstance(cause, ValidationError) and cause.full_key:
        key = str(cause.full_key)
        return f"{_word(key, overrides, str(cause))}: {_allowed(key) or _first_line(cause)}"
    if isinstance(error, OSError):
        return ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    return _composition(_first_line(error), overrides)


def _composition(reason: str, overrides: Sequence[str]) -> str:
    """Hydra's own complaints, in the words of this program."""
    if sweep := re.match(r"Ambiguous value for argument '(.*)'$|Sweep parameters '(.*)' requires", reason):
        return f"{sweep[1] or sweep[2]}: several values are a sweep, which needs -m; a list is written [a,b]"
    if present := re.match(
        r"Multiple values for (.+?)\.|Could not append to config. An item is already at '(.+)'", reason
    ):
        key = present[1] or present[2]
        return f"+{_word(key, overrides)}: {key} is there already; leave out the +"
    if group := re.match(r"Could not override '(.+)'\. No match in the defaults list", reason):
        return f"{_word(group[1], overrides)}: the config is a resolved one, in which there is nothing left to choose"
    if merged := re.match(r"Error merging override (.+)", reason):
        return f"{merged[1]}: is not possible"
    return reason


def _unknown_option(error: MissingConfigException) -> str:
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    options = error.options or []
    if not group or not options:
        return _first_line(error)
    return f"{group}={option}: no such option; {suggest(option, options)}"


def _unresolved(error: InterpolationResolutionError, overrides: Sequence[str]) -> str:
    reason = _first_line(error)
    if variable := re.search(r"Environment variable '(.+)' not found", reason):
        name, reason = variable[1], f"the environment variable {variable[1]} is not set"
    elif key := re.search(r"Interpolation key '(.+)' not found", reason):
        name, reason = key[1], f"there is no key {key[1]}"
    else:
        name = str(error.full_key)
    # The key that is being resolved may be one of Hydra's own that refers to what the user wrote.
    return f"{next((word for word in overrides if name in word), error.full_key)}: {reason}"


def _allowed(key: str) -> str | None:
    """What the schema allows for a key outside the open groups."""
    parent, _, name = key.rpartition(".")
    schema = typing.get_type_hints(Config).get(parent) if parent else Config
    item = getattr(schema, "__dataclass_fields__", {}).get(name)
    if schema is None or item is None:
        return None
    ranged = any(item.metadata.get(limit) not in (None, ()) for limit in ("choices", "low", "high", "above", "below"))
    return "must be " + (describe_range(item) if ranged else describe_type(typing.get_type_hints(schema)[name]))


def _word(key: str, overrides: Sequence[str], complaint: str = "") -> str:
    """``key=value`` as the command line has it, or with the value that a complaint quotes; else the key alone."""
    for word in reversed(overrides):  # the last one counts
        name = word.partition("=")[0].lstrip("+~")
        if name == key or name.startswith(f"{key}."):
            return word.lstrip("+~")
    quoted = re.match(r"Value '(.*?)'", complaint)
    return f"{key}={quoted[1]}" if quoted else key


def _first_line(error: BaseException) -> str:
    return re.sub(r"\s+", " ", str(error).strip().partition("\n")[0])
