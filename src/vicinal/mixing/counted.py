"""The template of strategies that draw a mask and no lambda."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vicinal.mixing.context import Context
from vicinal.mixing.label_rules import LABEL_RULES, Drawn, LabelRule
from vicinal.mixing.mixup import Mixup


@dataclass(frozen=True)
class CountedMixup(Mixup):
    """Template of strategies whose lambda is not drawn, but counted: the mean of a mask that :meth:`make_plan` draws.

    Lambda is 0 there where a sample is to be mixed, and 1 where it is not. Raises ValueError: the label rule looks at a
    lambda that says nothing.
    """

    meaningless: ClassVar[tuple[type[LabelRule], ...]] = (Drawn,)
    """Label rules that such a plan tells nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self._parts.get("labels"), self.meaningless):
            allowed = ", ".join(name for name, rule in LABEL_RULES.items() if rule not in self.meaningless)
            raise ValueError(
                f"labels must be {allowed} for {type(self).__name__}, no lambda is drawn, got {self.labels}"
            )

    def draw_lam(self, rows: int, generator: torch.Generator, context: Context) -> Tensor:
        return torch.zeros(rows, dtype=torch.float64)
