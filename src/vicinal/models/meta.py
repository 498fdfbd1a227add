"""Build a network of a library on the meta device, though the library computes with the values of some tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


def built(make: Callable[[], nn.Module]) -> nn.Module:
    """Return ``make()``; where the default device is meta (``with torch.device("meta")``), without memory for weights.

    RegNet computes its widths with tensors, and timm the rates of stochastic depth: these stay on the CPU. A network
    that computes with its weights as it is made, as hybrids of timm do, has memory for a moment.
    """
    if torch.get_default_device().type != "meta":
        return make()
    with torch.device("cpu"):
        try:
            with _WeightsOnMeta():
                return make().to("meta")
        except RuntimeError as error:
            if "meta" not in str(error):
                raise
        with torch.random.fork_rng(devices=[]):
            return make().to("meta")


class _WeightsOnMeta(TorchFunctionMode):
    """Make weights, which all come from ``torch.empty``, without memory."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.empty and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)
