"""Refusing an argument that is out of range, in the words of the config."""

from __future__ import annotations

from vicinal.errors import ConfigError


def require(holds: bool, argument: str, value: object, allowed: str) -> None:
    """Raise ``ConfigError`` for the key ``model.<argument>`` unless the condition holds."""
    if not holds:
        raise ConfigError(f"model.{argument}", value, allowed)


def require_dropout(argument: str, probability: float) -> None:
    require(0 <= probability < 1, argument, probability, "must be a probability in [0, 1)")


def require_image_size(image_size: int, smallest: int, model: str) -> None:
    if image_size < smallest:
        raise ConfigError("dataset.image_size", image_size, f"must be at least {smallest} for {model}")
