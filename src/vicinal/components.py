"""From a group of the config to the component it names: typed, checked against its signature, not yet built."""

from __future__ import annotations

import inspect
import pydoc
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, make_dataclass
from dataclasses import field as dataclass_field
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from vicinal.config import GROUPS, check_ranges, suggest
from vicinal.errors import ConfigError, UserError

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
            raise UserError(f"{self.group}: {error}") from error

    def identity(self) -> dict[str, Any]:
        """What of this component can change a result, in one form: keys without effect are left out."""
        schema = {item.name: item.metadata for item in fields(GROUPS[self.group])}
        idle = [name for name in schema if _common(schema, name) and name not in self.arguments]
        neutral = [name for name in schema if schema[name]["neutral"]]
        kept = {name: value for name, value in self.values.items() if name not in (*idle, *neutral)}
        return {"_target_": self.target, **kept}


def bind(group: str, node: Mapping[str, Any]) -> Component:
    """Check the resolved config of one group against its schema and its target's signature.

    Raises:
        ConfigError: an unknown key, a wrong type, a value out of range, a missing argument or an unknown target.
    """
    schema = {item.name: item.metadata for item in fields(GROUPS[group])}
    known = typing.get_type_hints(GROUPS[group])
    target = str(node.get("_target_", "???"))
    parameters, hints = _signature(group, target)
    own = [name for name in parameters if name not in RUNTIME[group]]
    values: dict[str, Any] = {}
    for name, value in node.items():
        # The keys of a data set are also read by the splitting and the loader, so its source need not take them.
        read_elsewhere = name in schema and (group == "dataset" or name == "_target_" or _common(schema, name))
        if name not in own and not read_elsewhere:
            allowed = sorted({*own, *(other for other in schema if _common(schema, other))})
            raise ConfigError(f"{group}.{name}", value, f"{target} has no such argument; {suggest(name, allowed)}")
        values[name] = convert(f"{group}.{name}", value, known.get(name) or _supported(hints.get(name, Any)))
    check_ranges(GROUPS[group], values, prefix=f"{group}.")
    for name in own:
        if values.get(name, "???") == "???" and (name in values or parameters[name].default is inspect.Parameter.empty):
            raise ConfigError(f"{group}.{name}", "???", f"is missing; {target} needs it")
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
    names = {int: "an integer", float: "a number", bool: "true or false", str: "a string"}
    arguments = typing.get_args(hint)
    if type(None) in arguments:
        return f"{describe_type(next(a for a in arguments if a is not type(None)))} or null"
    if typing.get_origin(hint) in (list, Sequence):
        return f"a list, each {describe_type(arguments[0])}"
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


def _common(schema: Mapping[str, Mapping[str, Any]], name: str) -> bool:
    return name in schema and bool(schema[name].get("common"))
