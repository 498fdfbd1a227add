"""From a group of the config to the component it names: typed, checked against its signature, not yet built."""

from __future__ import annotations

import inspect
import math
import pydoc
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass, make_dataclass
from dataclasses import field as dataclass_field
from functools import cache
from typing import Any

from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.object_type import ObjectType
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from vicinal.config.schema import CONF, GROUPS, LARGEST, check_ranges, identity_values, suggest_key
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
    values: dict[str, Any] = dataclass_field(compare=False)
    """Every key that has an effect, typed."""
    arguments: dict[str, Any]
    """Those of them that are handed to the target."""
    defaults: dict[str, Any] = dataclass_field(compare=False)
    """What the target takes where an argument is not given."""
    ineffective: dict[str, Any] = dataclass_field(compare=False)
    """Keys that have no effect here, but have one with another option of the group, such as alpha under ``none``."""

    def __hash__(self) -> int:
        return hash((self.group, self.target, repr(self.arguments)))

    @property
    def called(self) -> Any:
        """The class or function that the target names."""
        return pydoc.locate(self.target)

    def tell(self, name: str) -> Any:
        """Call the function that the target has as attribute `name`, with the arguments; None if it has none."""
        function = getattr(self.called, name, None)
        with self.refusals():
            return None if function is None else function(**self.arguments)

    def __call__(self, **runtime: Any) -> Any:
        from hydra.utils import instantiate  # refuses targets that would run arbitrary code

        with self.refusals(**runtime):
            factory = instantiate({"_target_": self.target, **self.arguments}, _partial_=True, _convert_="all")
            return factory(**runtime)

    @contextmanager
    def refusals(self, **runtime: Any) -> Iterator[None]:
        """Turn an error about the component into one line that begins with the key.

        Args:
            runtime: arguments that the program gives; those that are keys of the data set are named as such.
        """
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # its arguments are the user's, whatever a library makes of them
            reason = " ".join(str(error).split("\n")[0].split())
            known = isinstance(error, ValueError)
            raise self.refused(reason if known else f"{type(error).__name__}: {reason}", **runtime) from error

    def refused(self, reason: str, **runtime: Any) -> UserError:
        """Return the error for a complaint that begins with an argument's name, or mentions some."""
        begins = re.fullmatch(r"(\w+)(?:=[^:]*)?:? (.*?)(?:, got .*)?", reason, re.DOTALL)
        images = {item.name for item in fields(GROUPS["dataset"])}
        keys = {self.group: (f"{self.group}._target_", self.target)}
        keys |= {name: (f"dataset.{name}", value) for name, value in runtime.items() if name in images}
        keys |= {name: (f"{self.group}.{name}", value) for name, value in self.values.items()}
        if begins and begins[1] in keys:
            return ConfigError(*keys[begins[1]], begins[2])
        large = set(re.findall(r"\d{4,}", reason))

        def meant(name: str) -> bool:
            by_value = not large.isdisjoint(re.findall(r"\d+", written(self.arguments[name])))
            return by_value or re.search(rf"\b{name}\b", reason, re.IGNORECASE) is not None

        about = [name for name in self.arguments if meant(name)]
        *others, last = about or ["_target_"]
        values = {"_target_": self.target, **self.arguments}
        also = "".join(f"{self.group}.{name}={written(values[name])} " for name in others)
        return ConfigError(f"{also}{self.group}.{last}", values[last], reason)

    def effective(self) -> dict[str, Any]:
        """The target and every key that has an effect: without those whose switch is off."""
        needs = {item.name: item.metadata["needs"] for item in fields(GROUPS[self.group])}
        off = {name for name in self.values if needs.get(name) and not self.values[needs[name]]}
        return {"_target_": self.target} | {name: value for name, value in self.values.items() if name not in off}

    def identity(self) -> dict[str, Any]:
        """Return the values that can change a result, in one form: without those that are the target's defaults."""
        values = identity_values(GROUPS[self.group], self.effective())
        return {name: value for name, value in values.items() if value != self.defaults.get(name, ...)}


OURS = (f"file://{CONF}",)
"""Places of options by default: ``conf/`` alone."""


def places_of(hydra: Any) -> tuple[str, ...]:
    """Where Hydra has looked for options, ``scheme://path``, by the ``hydra`` node of a composed config."""
    return tuple(f"{each.schema}://{each.path}" for each in hydra.runtime.config_sources)


def bind(group: str, node: Mapping[str, Any], places: tuple[str, ...] = OURS) -> Component:
    """Check the resolved config of one group against its schema and its target's signature.

    A key that the target does not take is accepted where another option of the group has it, so that a sweep can cross
    options with a key of some of them; it is ``ineffective`` then.

    Args:
        group: one of :data:`GROUPS`.
        node: its resolved config.
        places: where Hydra finds the group's options, ``scheme://path``.

    Raises:
        ConfigError: an unknown key, a wrong type, a value out of range, a missing argument or an unknown target.
    """
    schema = {item.name: item for item in fields(GROUPS[group])}
    known = _hints(GROUPS[group])
    target = str(node.get("_target_", MISSING))
    if target == MISSING:
        raise ConfigError(f"{group}._target_", MISSING, "is missing; choose an option that names a class or function")
    parameters, hints = _signature(group, target)
    own = [name for name in parameters if name not in RUNTIME[group]]
    # The keys of a data set are read by the splitting and the loader, so its source need not take them.
    ours = list(schema) if group == "dataset" else ["_target_"]
    values = {name: schema[name].default for name in ours if schema[name].default != MISSING}
    ineffective: dict[str, Any] = {}
    for name, value in node.items():
        if name not in (*own, *ours) and name not in _keys_of_options(group, places):
            allowed = suggest_key(name, dict.fromkeys([*own, *ours]))
            raise ConfigError(f"{group}.{name}", value, f"{target} has no such argument; {allowed}")
        hint = known.get(name) or _supported(hints.get(name, Any))
        (values if name in (*own, *ours) else ineffective)[name] = convert(f"{group}.{name}", value, hint)
    given = {name: value for name, value in {**ineffective, **values}.items() if value != MISSING}
    check_ranges(GROUPS[group], given, f"{group}.")
    for name, value in given.items():
        _check_numbers(f"{group}.{name}", value)
    needed = [name for name in own if parameters[name].default is inspect.Parameter.empty]
    needed += [name for name in schema if name in (*own, *ours) and schema[name].default == MISSING]
    for name in (*values, *needed):
        if values.get(name, MISSING) == MISSING:
            raise ConfigError(f"{group}.{name}", MISSING, f"is missing; {target} needs it")
    del values["_target_"]
    arguments = {name: value for name, value in values.items() if name in own}
    return Component(group, target, values, arguments, _defaults(parameters, own), ineffective)


def _check_numbers(key: str, value: Any) -> None:
    """Refuse numbers that the files of a run cannot hold, wherever they stand."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Mapping):
            waiting.extend(each.values())
        elif isinstance(each, (list, tuple)):
            waiting.extend(each)
        elif isinstance(each, float) and not math.isfinite(each):
            raise ConfigError(key, value, "must be a finite number")
        elif isinstance(each, int) and abs(each) > LARGEST:
            raise ConfigError(key, value, f"must be an integer in [-{LARGEST}, {LARGEST}]")


def _defaults(parameters: Mapping[str, inspect.Parameter], own: Sequence[str]) -> dict[str, Any]:
    """The signature's defaults as the config would spell them: a tuple is a list there."""
    found = {name: parameters[name].default for name in own}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


@cache
def _keys_of_options(group: str, places: tuple[str, ...]) -> frozenset[str]:
    """The keys that the options of a group have, in ``conf/`` and in folders and packages of the user's own."""
    keys: set[str] = set()
    for place in places:
        source = SourcesRegistry.instance().resolve(place.partition("://")[0])("", place)
        if source.is_group(group):
            for option in source.list(group, ObjectType.CONFIG):
                with suppress(Exception):  # what is wrong with a file is said when it is chosen
                    content = source.load_config(f"{group}/{option}").config
                    keys.update(map(str, content if OmegaConf.is_dict(content) else ()))
    return frozenset(keys - {"defaults"})


def convert(name: str, value: Any, hint: Any) -> Any:
    """``value`` as OmegaConf converts it to the type ``hint``, in plain containers.

    Raises:
        ConfigError: it cannot be converted.
    """
    if value == MISSING:
        return value
    holder = _holder(hint)
    try:
        if hint is bool and not isinstance(value, bool):  # OmegaConf would take 3 for true
            raise ValidationError
        holder.value = value
    except (OmegaConfBaseException, OverflowError, TypeError):  # an integer that no float can be, a list in a list
        raise ConfigError(name, value, f"must be {describe_type(hint)}") from None
    converted = holder.value
    return OmegaConf.to_container(converted) if OmegaConf.is_config(converted) else converted


def typed(schema: type, values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of one schema, each converted to the type of its field; those of groups have to be mappings.

    Hydra converts as well, but not what a command line takes out and puts in again: ``~seed +seed=abc``.

    Raises:
        ConfigError: one cannot be converted.
    """
    found, hints = {}, _hints(schema)
    for name, value in values.items():
        group = is_dataclass(hints[name]) or typing.get_origin(hints[name]) is dict
        if group and not isinstance(value, Mapping):
            raise ConfigError(prefix + name, value, "must be a group of keys")
        found[name] = value if group else convert(prefix + name, value, hints[name])
    return found


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


@cache
def _holder(hint: Any) -> Any:
    """A config of one typed field, which converts what is assigned to it; slow to make, and wanted for every key."""
    return OmegaConf.structured(make_dataclass("Holder", [("value", hint, dataclass_field(default=MISSING))]))


_hints = cache(typing.get_type_hints)


@cache
def _signature(group: str, target: str) -> tuple[Mapping[str, inspect.Parameter], dict[str, Any]]:
    try:
        called = pydoc.locate(target)
    except pydoc.ErrorDuringImport as error:
        raise ConfigError(
            f"{group}._target_", target, f"cannot be imported: {type(error.value).__name__}: {error.value}"
        ) from None
    if not (inspect.isclass(called) or inspect.isfunction(called)):
        raise ConfigError(f"{group}._target_", target, "must be the path of a class or function that can be imported")
    try:
        parameters = inspect.signature(called).parameters
        hints = _hints(called.__init__ if inspect.isclass(called) else called)
    except ValueError as error:  # some that are written in C
        raise ConfigError(f"{group}._target_", target, str(error)) from None
    except NameError:  # an annotation that only type checkers can resolve
        hints = {}
    _check_kind(group, target, called if inspect.isclass(called) else hints.get("return"), parameters)
    return parameters, hints


def _check_kind(group: str, target: str, made: object, parameters: Mapping[str, inspect.Parameter]) -> None:
    """Refuse what cannot be a component of the group, before it is called.

    Args:
        group: of the config.
        target: dotted name.
        made: the class of what it makes; anything else where that is not known.
        parameters: of its signature.
    """
    kind = _kinds()[group]
    fits = issubclass(made, kind) if isinstance(made, type) else group != "mixup"  # a strategy's must be known
    if not fits:
        raise ConfigError(
            f"{group}._target_", target, f"must be a subclass of {kind.__name__}, or a function that returns one"
        )
    takes_all = any(each.kind == inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    missing = [name for name in RUNTIME[group] if name not in parameters and not takes_all]
    if missing:
        raise ConfigError(f"{group}._target_", target, f"must take the arguments {', '.join(RUNTIME[group])}")


@cache
def _kinds() -> dict[str, type]:
    """What the components of each group are or make; torch is imported when the first of them is bound."""
    from torch.nn import Module
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from vicinal.data.images import Source
    from vicinal.mixing import Strategy

    return {"dataset": Source, "model": Module, "mixup": Strategy, "optimizer": Optimizer, "scheduler": LRScheduler}


@cache
def _supported(hint: Any) -> Any:
    """The hint in the form that OmegaConf can hold; Any where it has none (torch's ``float | Tensor``)."""
    if typing.get_origin(hint) in (Sequence, tuple):
        hint = list[typing.get_args(hint)[0]]  # type: ignore[misc]
    try:
        _holder(hint)
    except (OmegaConfBaseException, ValueError):
        return Any
    return hint
