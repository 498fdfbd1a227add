"""Which values of a config are part of a run's identity: those that can change its result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import Field, fields
from typing import Any

from vicinal.config.schema import KEYS

OFF = (False, 0, None, "none")
"""Values of a switch that leave the keys which need it without effect."""
RENAMED = {"vicinal.models.torchvision_detection.torchvision_detection": "vicinal.models.retinanet.RetinaNet"}
"""Targets that took the place of another one: the identity has the name that older runs have."""


def without_effect(schema: type, values: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys of a group whose switch is off, or has no effect itself, each with the switch.

    A switch stands before its keys.
    """
    off: dict[str, str] = {}
    for item in fields(schema):
        for switch, on in conditions(item):
            if switch in off or (switch in values and (str(values[switch]) not in on if on else values[switch] in OFF)):
                off.setdefault(item.name, switch)
    return off


def conditions(item: Field[Any]) -> list[tuple[str, list[str]]]:
    """Return the switches of a key with the values that leave it an effect, [] for all that are not off."""
    parts = (word.partition("=") for word in item.metadata["needs"].split())
    return [(switch, value.split(",") if value else []) for switch, _, value in parts]


def identity_values(schema: type, values: Mapping[str, Any], own: Iterable[str] = ()) -> dict[str, Any]:
    """Return the values that are part of a run's identity: no neutral ones, none without effect, no later defaults.

    The keys in ``own`` have another default than that of the schema.
    """
    metadata = {item.name: item.metadata for item in fields(schema)}
    off = without_effect(schema, values)

    def counts(name: str) -> bool:
        known = metadata.get(name)
        is_default = known and known["since"] and name not in own and values[name] == known["default"]
        return name not in off and (not known or not (known["neutral"] or is_default))

    return {name: value for name, value in values.items() if counts(name)}


def later_keys() -> dict[str, Any]:
    """Return {dotted key: default} of keys that older configs lack; the default means the same."""
    return {key: item.metadata["default"] for key, item in KEYS.items() if item.metadata["since"]}
