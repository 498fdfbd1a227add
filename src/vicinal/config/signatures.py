"""What a ``_target_`` of the config names, what it takes, and whether the parts in a value fit theirs."""

from __future__ import annotations

import inspect
import pydoc
import re
from collections.abc import Container, Mapping
from dataclasses import is_dataclass
from typing import Any

from omegaconf import MISSING

from vicinal.config.validation import convert, describe_type, hints_of, suggest_key, supported
from vicinal.errors import ConfigError

NOT_FOUND = "must be the path of a class or function that can be imported"


def located(key: str, target: str) -> Any:
    """Return what the target of a group or a part names, which can be called. Raises ConfigError."""
    try:
        called: Any = pydoc.locate(target)
    except pydoc.ErrorDuringImport as error:
        reason = f"cannot be imported: {type(error.value).__name__}: {error.value}"
        raise ConfigError(f"{key}._target_", target, reason) from None
    if not callable(called):
        raise ConfigError(f"{key}._target_", target, NOT_FOUND)
    return called


def parameters_of(called: Any) -> tuple[Mapping[str, inspect.Parameter], dict[str, Any]]:
    """Return the parameters of a class or function, and their types. Raises ValueError if it shows none."""
    parameters = inspect.signature(called).parameters
    is_class = inspect.isclass(called)
    try:
        # The fields of a dataclass may be inherited from a module with names of its own.
        return parameters, hints_of(called if is_dataclass(called) or not is_class else called.__init__)
    except NameError:  # an annotation that only type checkers can resolve
        return parameters, {}


def takes_any_key(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(item.kind == inspect.Parameter.VAR_KEYWORD for item in parameters.values())


def check_parts(key: str, value: Any) -> None:
    """Check the arguments of parts, which have a ``_target_`` of their own, against their signatures, at any depth."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            _check_part(key, value)
        for name, argument in value.items():
            check_parts(f"{key}.{name}", argument)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_parts(f"{key}[{index}]", item)


def _check_part(key: str, part: Mapping[str, Any]) -> None:
    target = str(part["_target_"])
    called = located(key, target)
    try:
        parameters, hints = parameters_of(called)
    except (ValueError, TypeError):  # some that are written in C: what they take is seen when they are called
        return
    if not part.keys() & {"_partial_", "_args_"}:
        _check_missing(key, target, parameters, part)
    for name, argument in part.items():
        if re.fullmatch("_.*_", str(name)):  # Hydra's own
            continue
        if name not in parameters and not takes_any_key(parameters):
            more = suggest_key(str(name), parameters)
            raise ConfigError(f"{key}.{name}", argument, f"{target} has no such argument; {more}")
        hint = supported(hints.get(name, Any))
        converted = convert(f"{key}.{name}", argument, hint)
        if isinstance(argument, str) and isinstance(converted, int | float):  # the text itself reaches the target
            raise ConfigError(f"{key}.{name}", argument, f"must be {describe_type(hint)}, not text in quotes")


def _check_missing(key: str, target: str, parameters: Mapping[str, inspect.Parameter], given: Container[str]) -> None:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    for name, item in parameters.items():
        if item.kind in named and item.default is inspect.Parameter.empty and name not in given:
            raise ConfigError(f"{key}.{name}", MISSING, f"is missing; {target} needs it")
