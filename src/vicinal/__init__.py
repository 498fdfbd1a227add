"""Vicinal: ablations of the mixup family that can be trusted and repeated."""

__version__ = "0.1.0"
