"""Strategies that draw no lambda: which they are, found by drawing, and which label rules they refuse."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest
import torch

import vicinal.mixing
from vicinal.mixing import Mixup
from vicinal.mixing.context import NOTHING
from vicinal.mixing.counted import CountedMixup
from vicinal.mixing.features import MoEx
from vicinal.mixing.fields import SmoothMix
from vicinal.mixing.label_rules import LABEL_RULES, Drawn, LabelRule
from vicinal.mixing.pasting import ResizeMix
from vicinal.mixing.zeta import ZetaMixup

for module in pkgutil.iter_modules(vicinal.mixing.__path__, "vicinal.mixing."):
    importlib.import_module(module.name)


def every(kind: type) -> list[Any]:
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in every(child))]


OURS = [kind for kind in every(Mixup) if kind.__module__.startswith("vicinal.") and kind not in (Mixup, CountedMixup)]
OWN_DRAW = [kind for kind in OURS if kind.draw_lam is not Mixup.draw_lam]
COUNTED = [kind for kind in OURS if issubclass(kind, CountedMixup)]


def made(kind: type[Any], **keys: Any) -> Any:
    return kind(**keys, **({"layers": ["block1"]} if "layers" in kind.__dataclass_fields__ else {}))


@pytest.mark.parametrize("kind", OWN_DRAW)
def test_those_whose_lambda_is_always_the_same_are_of_one_kind(kind: type[Any]) -> None:
    drawn = made(kind).draw_lam(50, torch.Generator().manual_seed(0), NOTHING)
    assert (drawn.unique().numel() == 1) is issubclass(kind, CountedMixup)


def test_there_are_some() -> None:
    names = {kind.__name__ for kind in COUNTED}
    assert names >= {
        "Cutout",
        "RandomErasing",
        "SmoothMix",
        "SpecMix",
        "SSMix",
        "ClassMix",
        "InstancePaste",
        "ZetaMixup",
    }
    assert ResizeMix in OWN_DRAW


@pytest.mark.parametrize("kind", COUNTED)
def test_labels_as_drawn_are_refused(kind: type[Any]) -> None:
    allowed = "constant" if kind is MoEx else "area, majority, remix, constant"
    line = f"labels must be {allowed} for {kind.__name__}, no lambda is drawn, got "
    if kind is ZetaMixup:
        line = "labels must be area for ZetaMixup, got "
    for labels in ("drawn", Drawn()):
        with pytest.raises(ValueError, match=rf"^{line}"):
            made(kind, labels=labels)


@pytest.mark.parametrize("rule", LABEL_RULES)
def test_of_moments_alone_no_part_can_be_counted(rule: str) -> None:
    if rule == "constant":
        assert made(MoEx, labels=rule).sample((2, 3), torch.Generator()).lam.tolist() == pytest.approx([0.9, 0.9])
    else:
        with pytest.raises(ValueError, match=r"^labels must be constant for MoEx"):
            made(MoEx, labels=rule)


@pytest.mark.parametrize("kind", COUNTED)
def test_the_end_of_alpha_has_no_effect(kind: type[Any]) -> None:
    assert "alpha_end" in kind.unused()
    made(kind, alpha_end=1.0)


def test_a_rule_of_ones_own_is_taken() -> None:
    class Half(LabelRule):
        def weight(self, drawn, area, partner, context):  # type: ignore[no-untyped-def]
            return torch.full_like(area, 0.5)

    assert SmoothMix(labels=Half()).sample((2, 1, 8, 8), torch.Generator()).lam.tolist() == [0.5, 0.5]


def test_a_resized_box_has_a_lambda_that_is_drawn() -> None:
    area, drawn = (
        ResizeMix(labels=labels, per_sample=True).sample((64, 1, 9, 9), torch.Generator().manual_seed(0)).lam
        for labels in ("area", "drawn")
    )
    assert (drawn <= area + 1e-6).all()  # a box that is cut off, or rounded, is smaller than drawn
    assert (drawn < area).any()
