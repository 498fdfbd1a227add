"""From the config group ``tracker`` to the trackers that it names."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from vicinal.config.components import bind
from vicinal.errors import ConfigError
from vicinal.tracking.tracker import Tracker


def make_trackers(group: Mapping[str, Any]) -> dict[str, Tracker]:
    """Return the trackers of the resolved group {name: {_target_, own keys}}, checked and constructed but not started.

    Raises UserError, which names the key, if one is no tracker, lacks a package or refuses a key.
    """
    trackers: dict[str, Tracker] = {}
    for name, node in group.items():
        key = f"tracker.{name}"
        if not (isinstance(node, Mapping) and "_target_" in node):
            raise ConfigError(key, node, f"is no tracker: it has no _target_; tracker=[...,{name}] chooses an option")
        component = bind(key, node)
        if not (inspect.isclass(component.called) and issubclass(component.called, Tracker)):
            raise ConfigError(f"{key}._target_", component.target, "must be a subclass of Tracker")
        trackers[name] = component()
    return trackers
