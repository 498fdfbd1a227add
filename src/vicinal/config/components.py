"""Bind a group of the config to the component that it names: typed, checked against its signature, not yet built."""

from __future__ import annotations

import inspect
import math
import pydoc
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from hydra.errors import InstantiationException
from omegaconf import MISSING, OmegaConf

from vicinal.config.identity import RENAMED, conditions, identity_values, without_effect
from vicinal.config.keys import LARGEST
from vicinal.config.option_keys import is_key
from vicinal.config.schema import CONF, GROUPS, NAMED
from vicinal.config.signatures import NOT_FOUND, check_parts, located, parameters_of, takes_any_key
from vicinal.config.validation import check_ranges, convert, hints_of, leaves, suggest_key, supported
from vicinal.errors import ConfigError, UserError, reason_of, written

RUNTIME = {
    "dataset": (),
    "model": ("classes",),  # and what the inputs are
    "optimizer": ("params",),
    "scheduler": ("optimizer", "total_steps", "steps_per_epoch"),
    "mixup": (),
}  # arguments of a group's components that the program gives, not the config
READ = {"optimizer": ("norm_bias_lr",)}  # keys of all options that the program reads, which no target need take
OURS = (f"file://{CONF}",)  # places of options by default: ``conf/`` alone


@dataclass(frozen=True)
class Component:
    """A checked choice of one group: ``component(**runtime)`` builds it."""

    group: str
    target: str  # dotted name of a class or function
    values: dict[str, Any]  # every key that has an effect, typed
    defaults: dict[str, Any]  # defaults of the target's arguments that the config may give
    ineffective: dict[str, Any]  # keys without effect that another option of the group has, as alpha under ``none``

    @property
    def arguments(self) -> dict[str, Any]:
        """Values for the target."""
        return {name: value for name, value in self.values.items() if name in self.defaults}

    def __hash__(self) -> int:
        return hash((self.group, self.target, repr(self.arguments)))

    @property
    def targets(self) -> list[str]:
        """The dotted name of the target, and those of the parts in its arguments."""
        return [self.target, *(value for key, value in leaves(self.arguments) if key.endswith("_target_"))]

    @property
    def called(self) -> Any:
        return pydoc.locate(self.target)

    def tell(self, name: str) -> Any:
        """Call the target's function ``name`` with the arguments; return None if it has none."""
        function = getattr(self.called, name, None)
        with self.refusals():
            return function and function(**self.arguments)

    def __call__(self, **runtime: Any) -> Any:
        from hydra.utils import instantiate  # refuses targets that would run arbitrary code

        with self.refusals(**runtime):
            factory = instantiate({"_target_": self.target, **self.arguments}, _partial_=True, _convert_="all")
            made = factory(**runtime)
        kind = _kinds().get(self.group, object)
        if not isinstance(made, kind):  # of a function whose type is not annotated, or wrongly
            found = None if made is None else type(made).__name__
            raise ConfigError(f"{self.group}._target_", self.target, f"must return {kind.__name__}, not {found}")
        return made

    @contextmanager
    def refusals(self, **runtime: Any) -> Iterator[None]:
        """Turn an error about the component, or about ``runtime`` arguments, into one line that begins with the key."""
        try:
            yield
        except UserError:
            raise
        except InstantiationException as error:
            part = self.part(str(error).rpartition("full_key: ")[2]) or self
            raise part.refused(reason_of(error.__cause__ or error)) from error
        except Exception as error:  # its arguments are the user's, and libraries raise anything
            raise self.refused(reason_of(error), **runtime) from error

    def part(self, key: str) -> Component | None:
        """Return the part of the arguments at a dotted key as a component; None if there is none."""
        content: Any = OmegaConf.select(OmegaConf.create(self.arguments), key)
        if not OmegaConf.is_dict(content) or "_target_" not in content:
            return None
        values: Any = OmegaConf.to_container(content)
        return Component(f"{self.group}.{key}", values.pop("_target_"), values, dict.fromkeys(values), {})

    def refused(self, reason: str, **runtime: Any) -> UserError:
        """Return a complaint of the target as an error that begins with the keys that it mentions."""
        arguments = self.arguments
        begins = re.fullmatch(r"(\w+)(?:=[^:]*)?:? (.*?)(?:, got .*)?", reason, re.DOTALL)
        images = {item.name for item in fields(GROUPS["dataset"])}
        keys = {self.group: (f"{self.group}._target_", self.target)}
        keys |= {name: (f"dataset.{name}", value) for name, value in runtime.items() if name in images}
        keys |= {name: (f"{self.group}.{name}", value) for name, value in (self.defaults | self.values).items()}
        if begins and begins[1] in keys:
            return ConfigError(*keys[begins[1]], begins[2])
        large = set(re.findall(r"\d{4,}", reason))

        def mentioned(name: str) -> bool:
            by_value = not large.isdisjoint(re.findall(r"\d+", written(arguments[name])))
            return by_value or re.search(rf"\b{name}\b", reason, re.IGNORECASE) is not None

        *others, last = [name for name in arguments if mentioned(name)] or ["_target_"]
        values = {"_target_": self.target, **arguments}
        also = "".join(f"{self.group}.{name}={written(values[name])} " for name in others)
        return ConfigError(f"{also}{self.group}.{last}", values[last], reason)

    def effective(self) -> dict[str, Any]:
        """Return the target and every key that has an effect, without those whose switch is off."""
        off = without_effect(GROUPS[self.group], self.values)
        return {"_target_": self.target} | {name: value for name, value in self.values.items() if name not in off}

    def identity(self) -> dict[str, Any]:
        """Return the values that can change a result, in one form: without those that are the target's defaults.

        A key that a later version added has a default too, where the target has none.
        """
        values = identity_values(GROUPS[self.group], self.effective(), self.defaults)
        values["_target_"] = RENAMED.get(self.target, self.target)
        return {name: value for name, value in values.items() if value != self.defaults.get(name, ...)}


def places_of(hydra: Any) -> tuple[str, ...]:
    """Return the places of options, ``scheme://path``, by the ``hydra`` node of a composed config."""
    return tuple(f"{source.schema}://{source.path}" for source in hydra.runtime.config_sources)


def bind(
    group: str, node: Mapping[str, Any], places: tuple[str, ...] = OURS, inputs: tuple[str, ...] = ()
) -> Component:
    """Check the resolved config of one group against its schema and its target's signature.

    A key that the target does not take is accepted if another option of the group has it, so that a sweep can cross
    options with a key of some of them; it is ``ineffective`` then. The group is one of :data:`GROUPS`, or one of
    :data:`NAMED` with a dot and the component's name. A network takes the arguments ``inputs`` beside those of
    :data:`RUNTIME`. Raises ConfigError.
    """
    kind = group.partition(".")[0]
    shared = {**GROUPS, **NAMED}[kind]
    schema = {item.name: item for item in fields(shared)}
    target = str(node.get("_target_", MISSING))
    if target == MISSING:
        raise ConfigError(f"{group}._target_", MISSING, "is missing; choose an option that names a class or function")
    runtime = (*inputs, *RUNTIME.get(kind, ()))
    parameters, hints = _signature(group, target, inputs)
    own = [name for name in parameters if name not in runtime]
    # The keys of a data set are read by the splitting and the loader, so its source need not take them.
    is_data = group == "dataset"
    ours = ["_target_", *READ.get(kind, ())]
    if is_data:
        ours = _keys_of_inputs(shared, str(node.get("inputs", schema["inputs"].default)), frozenset(own))
    taken = dict.fromkeys([*own, *ours])
    typed = hints_of(shared)
    defaults = {name: copy(schema[name].metadata["default"]) for name in ours}
    values = {name: default for name, default in defaults.items() if default != MISSING}
    for name, value in node.items():
        if name not in taken and not is_key(group, str(name), places):
            raise ConfigError(f"{group}.{name}", value, f"{target} has no such argument; {suggest_key(name, taken)}")
        hint = typed.get(name) or supported(hints.get(name, Any))
        values[name] = convert(f"{group}.{name}", value, hint, schema.get(name))
    present = {name: value for name, value in values.items() if value != MISSING}
    check_ranges(shared, present, f"{group}.")
    _check_numbers(group, present)
    for name, value in present.items():
        if name != "_target_":
            check_parts(f"{group}.{name}", value)
    defaults = {name: parameters[name].default for name in own}
    needed = {name for name in taken if defaults.get(name, inspect.Parameter.empty) is inspect.Parameter.empty}
    needed |= {name for name in taken if name in schema and schema[name].default == MISSING} | values.keys()
    for name in taken:
        if name in needed and name not in present:
            raise ConfigError(f"{group}.{name}", MISSING, f"is missing; {target} needs it")
    defaults = {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}
    ineffective = {name: value for name, value in values.items() if name not in taken}
    values = {name: value for name, value in values.items() if name in taken and name != "_target_"}
    if unused := getattr(pydoc.locate(target), "unused", None):  # beside the others, such as alpha beside law=uniform
        idle = unused(**{name: value for name, value in values.items() if name in own})
        ineffective |= {name: values[name] for name in values if name in idle and values[name] != defaults[name]}
        values = {name: value for name, value in values.items() if name not in idle}
    return Component(group, target, values, defaults, ineffective)


def _check_numbers(group: str, values: Mapping[str, Any]) -> None:
    """Refuse numbers that the files of a run cannot hold, at any depth of a value."""
    for name, value in values.items():
        for _, number in leaves(value):
            if isinstance(number, float) and not math.isfinite(number):
                raise ConfigError(f"{group}.{name}", value, "must be a finite number")
            if isinstance(number, int) and abs(number) > LARGEST:
                raise ConfigError(f"{group}.{name}", value, f"must be an integer in [-{LARGEST}, {LARGEST}]")


@cache
def _keys_of_inputs(schema: type, kind: str, own: frozenset[str]) -> list[str]:
    """Return the keys of data sets with inputs of a kind: all but those of another kind, or of other sources alone."""
    kept: list[str] = []
    for item in fields(schema):
        switch, on = next(iter(conditions(item)), ("", []))
        if item.metadata["own"] and item.name not in own:
            continue
        if kind in on if switch == "inputs" else not switch or switch in kept:
            kept.append(item.name)
    return kept


@cache
def _signature(
    group: str, target: str, inputs: tuple[str, ...] = ()
) -> tuple[Mapping[str, inspect.Parameter], dict[str, Any]]:
    """Return the parameters of a target and their types. Raises ConfigError if it is no component of the group.

    It has to take the arguments ``inputs`` and those of :data:`RUNTIME`.
    """

    def refused(reason: str) -> ConfigError:
        return ConfigError(f"{group}._target_", target, reason)

    called = located(group, target)
    is_class = inspect.isclass(called)
    if not (is_class or inspect.isfunction(called)):
        raise refused(NOT_FOUND)
    try:
        parameters, hints = parameters_of(called)
    except ValueError as error:  # some that are written in C
        raise refused(str(error)) from None
    kind, returned = _kinds().get(group, object), called if is_class else hints.get("return")
    fits = issubclass(returned, kind) if isinstance(returned, type) else group != "mixup"  # a strategy's must be known
    if not fits:
        raise refused(f"must be a subclass of {kind.__name__}, or a function that returns one")
    runtime = (*inputs, *RUNTIME.get(group, ()))
    if not takes_any_key(parameters) and not parameters.keys() >= {*runtime}:
        fitting = _taking(group, runtime) if inputs else ""
        others = f"; for these data choose {fitting}" if fitting else ""
        raise refused(f"must take the arguments {', '.join(runtime)}{others}")
    return parameters, hints


def _taking(group: str, runtime: tuple[str, ...]) -> str:
    """Name the options of ``conf/`` whose target takes these arguments, such as ``model=cnn or model=mlp``."""
    fitting = []
    for file in sorted((CONF / group).glob("*.yaml")):
        content: Any = OmegaConf.load(file)
        called: Any = pydoc.locate(str(content.get("_target_")))
        if called is not None and inspect.signature(called).parameters.keys() >= {*runtime}:
            fitting.append(f"{group}={file.stem}")
    return " or ".join(fitting)


@cache
def _kinds() -> dict[str, type]:
    """Return the type of each group's components, which imports torch."""
    from torch.nn import Module
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from vicinal.data.samples import Source
    from vicinal.mixing import Strategy

    return {"dataset": Source, "model": Module, "mixup": Strategy, "optimizer": Optimizer, "scheduler": LRScheduler}
