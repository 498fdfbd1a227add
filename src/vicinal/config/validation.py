"""Check values against a schema: known keys, types and ranges, and what is allowed in words."""

from __future__ import annotations

import math
import operator
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, fields, is_dataclass, make_dataclass
from dataclasses import field as dataclass_field
from functools import cache, lru_cache, reduce
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from vicinal.config.schema import CONF, GROUPS, KEYS, SCHEMAS, Config
from vicinal.errors import ConfigError, suggest, written

LIMITS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "low": (">=", operator.ge),
    "high": ("<=", operator.le),
    "above": (">", operator.gt),
    "below": ("<", operator.lt),
}  # sign and function of the limits in the metadata of a field
UNIONS = (typing.Union, types.UnionType)  # origins of ``Optional[int]`` and of ``int | None``
hints_of = cache(typing.get_type_hints)  # {name: type} of a dataclass or a signature


def checked(schema: type, values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of a group, each converted to the type of its field and in its range, or raise ConfigError.

    Hydra converts as well, but not what a command line removes and adds again: ``~seed +seed=abc``. A field that is
    itself a group has to be a mapping, whose content is not checked. In messages, keys begin with ``prefix``.
    """
    hints, converted = hints_of(schema), {}
    known = {item.name: item for item in fields(schema)}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(prefix + name, value, f"no such key; {suggest_key(name, known)}")
    for name in known:
        if values.get(name, MISSING) == MISSING:
            raise ConfigError(prefix + name, MISSING, "is missing")
    for name, value in values.items():
        is_group = is_dataclass(hints[name]) or typing.get_origin(hints[name]) is dict
        if is_group and not isinstance(value, Mapping):
            raise ConfigError(prefix + name, value, "must be a group of keys")
        converted[name] = value if is_group else convert(prefix + name, value, hints[name], known[name])
    check_ranges(schema, converted, prefix)
    return converted


def convert(name: str, value: Any, hint: Any, item: Field[Any] | None = None) -> Any:
    """Return ``value`` as OmegaConf converts it to the type ``hint``, in plain containers, or raise ConfigError.

    The error names the choices of the field ``item``, if it has some.
    """
    if value == MISSING:
        return value
    kinds = typing.get_args(hint) if typing.get_origin(hint) in UNIONS else ()
    if isinstance(value, int) and not isinstance(value, bool) and float in kinds and int not in kinds:
        value = float(value)  # OmegaConf does it for a number, but not for a number or a string
    try:
        if hint is bool and not isinstance(value, bool):  # OmegaConf would take 3 for true
            raise ValidationError
        # Not of floats, since -0.0 equals 0.0, nor of texts with a reference, which OmegaConf looks up each time.
        kept = value is None or isinstance(value, int) or (isinstance(value, str) and "${" not in value)
        return _converted(value, hint) if kept else _converted.__wrapped__(value, hint)
    except (OmegaConfBaseException, OverflowError, TypeError):  # an integer that no float can be, a list in a list
        if missing := next((key for key, leaf in leaves(value, name) if leaf == MISSING), None):
            raise ConfigError(missing, MISSING, "is missing") from None
        allowed = describe_range(item) if item and item.metadata.get("choices") else describe_type(hint)
        raise ConfigError(name, value, f"must be {allowed}") from None


@lru_cache(4096, typed=True)  # jobs of a sweep have most values in common; planning takes 0.88 of the time
def _converted(value: Any, hint: Any) -> Any:
    holder = _holder(_part(hint, isinstance(value, list)))
    holder.value = value
    converted = holder.value
    return OmegaConf.to_container(converted, throw_on_missing=True) if OmegaConf.is_config(converted) else converted


@cache
def supported(hint: Any) -> Any:
    """Return the hint in a form whose parts OmegaConf can hold; Any if there is none, as for ``float | Tensor``.

    A dataclass is none: OmegaConf would take it for the schema of a group, and its value is a part with a ``_target_``.
    """
    kind, arguments = typing.get_origin(hint), typing.get_args(hint)
    if kind in (list, Sequence, tuple):
        alike = len({*arguments} - {...}) == 1  # else a tuple of several types
        hint = list[supported(arguments[0]) if alike else Any]  # type: ignore[misc]
    if kind in (dict, Mapping):
        hint = dict[arguments[0], supported(arguments[1])]  # type: ignore[misc, valid-type]
    if kind in UNIONS:
        parts = [each if each is type(None) else supported(each) for each in arguments]
        hint = Any if Any in parts else reduce(operator.or_, parts)
    if any(is_dataclass(each) for each in (hint, *typing.get_args(hint))):
        return Any
    try:
        for of_lists in (False, True):
            _holder(_part(hint, of_lists))
    except (OmegaConfBaseException, ValueError):
        return Any
    return hint


@cache
def _part(hint: Any, of_lists: bool) -> Any:
    """Return the part of a union that takes lists, or the rest of it: OmegaConf can hold each, but not ``int | list``.

    A hint without both is one part.
    """
    kinds = typing.get_args(hint) if typing.get_origin(hint) in UNIONS else ()
    lists = [kind for kind in kinds if typing.get_origin(kind) is list]
    others = [kind for kind in kinds if kind not in lists]
    if not lists or others in ([], [type(None)]):
        return hint
    return reduce(operator.or_, lists if of_lists else others)


@cache
def _holder(hint: Any) -> Any:
    """Return a config of one typed field, which converts each assigned value. It is slow to make."""
    return OmegaConf.structured(make_dataclass("Holder", [("value", hint, dataclass_field(default=MISSING))]))


def leaves(content: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value that is no container, by its key, such as ``dataset.mean[0]``."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            yield from leaves(value, f"{key}.{name}" if key else str(name))
    elif isinstance(content, (list, tuple)):
        for index, value in enumerate(content):
            yield from leaves(value, f"{key}[{index}]")
    else:
        yield key, content


def check_ranges(schema: type, values: Mapping[str, Any], prefix: str = "") -> None:
    """Raise ConfigError for a value outside the range of its field in ``schema``."""
    for item in fields(schema):
        value = values.get(item.name)
        if value is None or not item.metadata or isinstance(value, Mapping):  # a part of one's own has its own checks
            continue
        items, length, subject = [value], item.metadata["length"], ""
        if isinstance(value, list):
            items, subject = value, "each "
            if length is not None and len(value) != length:
                allowed = describe_type(hints_of(schema)[item.name], length)
                raise ConfigError(prefix + item.name, value, f"must be {allowed}")
            if not all(isinstance(part, str | int | float) for part in value):
                kind = "strings" if "str" in str(item.type) else "numbers"
                raise ConfigError(prefix + item.name, value, f"must be a list of {kind}")
        if not all(_in_range(item.metadata, part) for part in items):
            raise ConfigError(prefix + item.name, value, f"{subject}must be {describe_range(item)}")


def _in_range(limits: Mapping[str, Any], value: Any) -> bool:
    if isinstance(value, str):
        return not limits["choices"] or value in limits["choices"]
    if isinstance(value, bool):
        return True
    finite = isinstance(value, int) or math.isfinite(value)  # an integer may be too large for any float
    bounds = ((compare, limits[name]) for name, (_, compare) in LIMITS.items() if limits[name] is not None)
    return finite and all(compare(value, bound) for compare, bound in bounds)


def describe_type(hint: Any, length: int | None = None) -> str:
    """Return the name of a type that follows "must be" in a message, where lists have this length."""
    names = {int: "an integer", float: "a number", bool: "true or false", str: "a string", type(None): "null"}
    plurals = {int: "integers", float: "numbers", str: "strings"}
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in UNIONS:
        return " or ".join(describe_type(each, length) for each in arguments)
    if typing.get_origin(hint) in (list, Sequence):
        if arguments[0] is Any:
            return "a list"
        number = f"{length} " if length else ""
        return f"a list of {number}{plurals.get(arguments[0], describe_type(arguments[0]))}"
    if typing.get_origin(hint) is dict:
        return f"a mapping of names to {plurals.get(arguments[1], 'values')}"
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def describe_range(item: Field[Any]) -> str:
    """Return the allowed values of a field that follow "must be" in a message."""
    limits, hint = item.metadata, str(item.type)
    if limits["choices"] and all(limits[name] is None for name in LIMITS):
        return "one of " + ", ".join((*limits["choices"], *(("true", "false") if "bool" in hint else ())))
    words = (*limits["choices"], *(("null",) if "None" in hint and "list" not in hint else ()))
    number = "an integer" if "int" in hint else "a finite number"
    return " or ".join((*words, number + _interval(limits)))


def _interval(limits: Mapping[str, Any]) -> str:
    bounds = {name: written(limits[name]) for name in LIMITS if limits[name] is not None}
    if bounds.keys() & {"low", "above"} and bounds.keys() & {"high", "below"}:
        start = f"[{bounds['low']}" if "low" in bounds else f"({bounds['above']}"
        return f" in {start}, {bounds['high']}]" if "high" in bounds else f" in {start}, {bounds['below']})"
    return "".join(f" {LIMITS[name][0]} {limit}" for name, limit in bounds.items())


def describe_key(key: str) -> str | None:
    """Return "must be ..." for a dotted key of the schema; None if it has no such key."""
    if (item := KEYS.get(key)) is None:
        return None
    hint = hints_of(SCHEMAS.get(key.partition(".")[0], Config))[item.name]
    if not item.metadata["choices"] and all(item.metadata[name] is None for name in LIMITS):
        return f"must be {describe_type(hint)}"
    allowed = describe_range(item)
    if _part(hint, of_lists=True) != hint:
        return f"must be {allowed}, or a list of {item.metadata['length']} such"
    return f"must be {'a list, each ' if 'list' in str(item.type) else ''}{allowed}"


def suggest_key(word: str, known: Iterable[str]) -> str:
    """Return :func:`suggest` for a key, perhaps of another group: ``lr`` is ``optimizer.lr``."""
    return suggest(word.rpartition(".")[2], known, dotted_keys())


@cache
def dotted_keys() -> tuple[str, ...]:
    """Return all keys of the schema (``seed``, ``optimizer.lr``), then those that only some options of a group have."""
    keys = [*KEYS]
    for group in GROUPS:
        for file in sorted((CONF / group).glob("*.yaml")):
            keys += [f"{group}.{name!s}" for name in OmegaConf.load(file) if name != "defaults"]
    return tuple(dict.fromkeys(key for key in keys if "._" not in key))
