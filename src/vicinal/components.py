"""From a group of the config to the component it names: typed, checked against its signature, not yet built."""

from __future__ import annotations

import inspect
import pydoc
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, fields, make_dataclass
from dataclasses import field as dataclass_field
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from vicinal.config import GROUPS, check_ranges, suggest
from vicinal.errors import ConfigError, UserError, written

RUNTIME = {
    "dataset": (),
    "model": ("channels", "image_size", "classes"),
    "optimizer": ("params",),
    "scheduler": ("optimizer", "total_steps", "steps_per_epoch"),
    "mixup": (),
}
"""What the program, not the config, hands to the components of a group."""


@dataclass(frozen=True)
class Component:
    """A checked choice of one group: ``component(**runtime)`` builds it."""

    group: str
    target: str
    values: dict[str, Any]
    """Every key of the group but ``_target_``, typed."""
    arguments: dict[str, Any]
    """The keys that are handed to the target."""

    def __call__(self, **runtime: Any) -> Any:
        from hydra.utils import instantiate  # refuses targets that would run arbitrary code

        factory = instantiate({"_target_": self.target, **self.arguments}, _partial_=True, _convert_="all")
        try:
            return factory(**runtime)
        except ValueError as error:
            raise self._refused(str(error)) from error

    def _refused(self, reason: str) -> UserError:
        """A target's own complaint, led by the keys that it is about."""
        own = re.fullmatch(r"(\w+)(?:=[^:]*)?:? (.*?)(?:, got .*)?", reason, re.DOTALL)
        if own and own[1] in self.arguments:
            return ConfigError(f"{self.group}.{own[1]}", self.arguments[own[1]], own[2])
        about = [name for name in self.arguments if re.search(rf"\b{name}\b", reason, re.IGNORECASE)]
        *others, last = about or ["_target_"]
        values = {"_target_": self.target, **self.arguments}
        also = "".join(f"{self.group}.{name}={written(values[name])} " for name in others)
        return ConfigError(f"{also}{self.group}.{last}", values[last], reason)

    def identity(self) -> dict[str, Any]:
        """What of this component can change a result, in one form: keys without effect are left out."""
        left_out = {
            item.name
            for item in fields(GROUPS[self.group])
            if item.metadata["neutral"]
            or (item.metadata["common"] and item.name not in self.arguments)
            or (item.metadata["needs"] and not self.values.get(item.metadata["needs"]))
        }
        kept = {name: value for name, value in self.values.items() if name not in left_out}
        return {"_target_": self.target, **kept}


def bind(group: str, node: Mapping[str, Any]) -> Component:
    """Check the resolved config of one group against its schema and its target's signature.

    Raises:
        ConfigError: an unknown key, a wrong type, a value out of range, a missing argument or an unknown target.
    """
    schema = {item.name: item for item in fields(GROUPS[group])}
    known = typing.get_type_hints(GROUPS[group])
    target = str(node.get("_target_", MISSING))
    parameters, hints = _signature(group, target)
    own = [name for name in parameters if name not in RUNTIME[group]]
    # The keys of a data set are also read by the splitting and the loader, so its source need not take them.
    shared = [name for name in schema if group == "dataset" or _common(schema, name)]
    values: dict[str, Any] = {}
    for name, value in node.items():
        if name not in (*own, *shared, "_target_"):
            allowed = suggest(name, dict.fromkeys([*own, *(other for other in shared if other != "_target_")]))
            raise ConfigError(f"{group}.{name}", value, f"{target} has no such argument; {allowed}")
        values[name] = convert(f"{group}.{name}", value, known.get(name) or _supported(hints.get(name, Any)))
    for name in shared:
        if group == "dataset" and schema[name].default != MISSING:
            values.setdefault(name, schema[name].default)
    check_ranges(GROUPS[group], {name: value for name, value in values.items() if value != MISSING}, f"{group}.")
    needed = [name for name in own if parameters[name].default is inspect.Parameter.empty]
    needed += [name for name in schema if name in (*own, *shared) and schema[name].default == MISSING]
    for name in (*values, *needed):
        if values.get(name, MISSING) == MISSING:
            raise ConfigError(f"{group}.{name}", MISSING, f"is missing; {target} needs it")
    del values["_target_"]
    return Component(group, target, values, {name: value for name, value in values.items() if name in own})


def convert(name: str, value: Any, hint: Any) -> Any:
    """``value`` as OmegaConf converts it to the type ``hint``, in plain containers.

    Raises:
        ConfigError: it cannot be converted.
    """
    if value == MISSING:
        return value
    holder = OmegaConf.structured(make_dataclass("Holder", [("value", hint, dataclass_field(default=MISSING))]))
    try:
        if hint is bool and not isinstance(value, bool):  # OmegaConf would take 3 for true
            raise ValidationError
        holder.value = value
    except OmegaConfBaseException:
        raise ConfigError(name, value, f"must be {describe_type(hint)}") from None
    converted = holder.value
    return OmegaConf.to_container(converted) if OmegaConf.is_config(converted) else converted


def describe_type(hint: Any) -> str:
    """A type as a user would say it, to follow "must be"."""
    names = {int: "an integer", float: "a number", bool: "true or false", str: "a string", type(None): "null"}
    plurals = {int: "integers", float: "numbers", str: "strings"}
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(describe_type, arguments))
    if typing.get_origin(hint) in (list, Sequence):
        return f"a list of {plurals.get(arguments[0], describe_type(arguments[0]))}"
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _signature(group: str, target: str) -> tuple[Mapping[str, inspect.Parameter], dict[str, Any]]:
    called = pydoc.locate(target)
    if not callable(called):
        raise ConfigError(f"{group}._target_", target, "must be the path of a class or function that can be imported")
    function = called.__init__ if inspect.isclass(called) else called
    try:
        hints = typing.get_type_hints(function)
    except NameError:  # an annotation that only type checkers can resolve
        hints = {}
    return inspect.signature(called).parameters, hints


def _supported(hint: Any) -> Any:
    """The hint in the form that OmegaConf can hold; Any where it has none (torch's ``float | Tensor``)."""
    if typing.get_origin(hint) in (Sequence, tuple):
        hint = list[typing.get_args(hint)[0]]  # type: ignore[misc]
    try:
        OmegaConf.structured(make_dataclass("Holder", [("value", hint, dataclass_field(default=MISSING))]))
    except (OmegaConfBaseException, ValueError):
        return Any
    return hint


def _common(schema: Mapping[str, Field[Any]], name: str) -> bool:
    return name in schema and bool(schema[name].metadata.get("common"))
