"""Save an object in a checkpoint by its attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor


class Stateful:
    """A base for objects with a state, which is the attributes that ``STATE`` names.

    Each of them is an object with a state of its own, a tensor, which stays on its device, or a plain container.
    """

    STATE: ClassVar[tuple[str, ...]]

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain containers: a view of the current state, to be written or copied at once."""
        parts = {name: getattr(self, name) for name in self.STATE}
        return {name: part.state_dict() if hasattr(part, "state_dict") else part for name, part in parts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken, to the bit."""
        for name in self.STATE:
            part = getattr(self, name)
            if hasattr(part, "load_state_dict"):
                part.load_state_dict(state[name])
            elif isinstance(part, Tensor):
                part.copy_(state[name])
            else:
                setattr(self, name, state[name])
