"""Draw plans before a training, which costs nothing of it, and refuse what cannot be mixed."""

from __future__ import annotations

import pydoc
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from vicinal.config.components import Component
from vicinal.config.validation import leaves
from vicinal.dry_build.network import Sizes, make_strategy, meta_model, shape_at
from vicinal.errors import ConfigError, reason_of
from vicinal.mixing import ManifoldMixup, MixPlan, Mixup, Strategy
from vicinal.mixing.context import Context
from vicinal.mixing.one_of import OneOf
from vicinal.mixing.several import SeveralPlan
from vicinal.mixing.strategy import INPUT
from vicinal.models import block_names
from vicinal.tasks import CLASSIFICATION, Task

DRAWN = 16  # plans, and samples of each
TRIED = 3  # of these plans, that mix a batch


def name_layers(key: str, content: dict[str, Any], model: Component, sizes: Sizes) -> None:
    """Put the blocks that a strategy chooses in place of ``layers: null``, in those that it chooses from too.

    Raises ConfigError: the network has none that fit.
    """
    strategies = content.get("strategies")
    for name, part in strategies.items() if isinstance(strategies, dict) else ():
        if isinstance(part, dict):
            name_layers(f"{key}.strategies.{name}", part, model, sizes)
    strategy: Any = pydoc.locate(str(content.get("_target_")))
    if content.get("layers", ()) is None and "layers" in getattr(strategy, "__dataclass_fields__", {"layers"}):
        choose = getattr(strategy, "default_layers", ManifoldMixup.default_layers)
        try:
            names = choose(block_names(meta_model(model, sizes)), partial(shape_at, model, sizes))
        except ValueError as error:
            raise ConfigError(f"{key}.layers", None, f"must name blocks of {model.target}: {error}") from None
        content["layers"] = [name for name in names if sizes.inputs.floats or name != INPUT]


def parts(mixup: Component, strategy: Strategy) -> Iterator[tuple[Component, Strategy]]:
    """Yield the strategy, or all that it chooses from, each with the part of the config that names its keys."""
    if not isinstance(strategy, OneOf):
        yield mixup, strategy
        return
    for name, part in strategy.strategies.items():
        yield from parts(mixup.part(f"strategies.{name}") or mixup, part)


def depths(mixup: Component, strategy: Strategy) -> tuple[tuple[str, str], ...]:
    """Return the places where a strategy mixes, each after the key that names it."""
    keys = [
        (f"{part.group}.{'depth' if 'shapes' in each.needs else 'layers'}", each)
        for part, each in parts(mixup, strategy)
    ]
    return tuple((key, depth) for key, each in keys for depth in each.depths)


@cache
def check_strategy(
    mixup: Component, model: Component, sizes: Sizes, task: Task = CLASSIFICATION, two_hot: float | None = None
) -> None:
    """Draw plans and carry some out.

    ``two_hot``: the weight in a target above which a class is a whole label. Raises ConfigError where they do not fit
    the inputs, or all samples would have the same whole labels.
    """
    shape, generator = (DRAWN, *sizes.inputs.shape), torch.Generator().manual_seed(0)
    floats, strategy = sizes.inputs.floats, make_strategy(mixup)
    if not (floats or strategy.selects):
        key = "layers" if mixup.values.get("layers") else "_target_"
        value = mixup.values.get(key, mixup.target)
        allowed = "token ids cannot be blended; choose mixup=ssmix, or mixup=manifold with mixup.layers=[embedding]"
        raise ConfigError(f"mixup.{key}", value, allowed)
    inputs = torch.rand(shape, generator=generator) if floats else torch.ones(shape, dtype=torch.int64)
    labels = task.example_targets(DRAWN, sizes.classes, sizes.inputs.shape)
    shapes = {block: _depth_shape(mixup, model, sizes, block) for block in strategy.sized}
    context = Context(
        images=inputs,
        saliency=torch.rand((DRAWN, *shape[2:]) if floats else shape, generator=generator),
        labels=labels,
        counts=torch.ones(sizes.classes, dtype=torch.int64),
        epoch=1,
        epochs=1,
        progress=0.5,
        shapes=shapes,
    )
    network = meta_model(model, sizes)
    if strategy.together and strategy.clean_weight and not isinstance(network(sizes.inputs.example(2)), Tensor):
        raise ConfigError("mixup.together", True, f"must be false: the outputs of {model.target} are not one tensor")
    for part, each in parts(mixup, strategy):
        with part.refusals():
            plans = [_always(each).sample(shape, generator, context) for _ in range(DRAWN)]
            weights = torch.cat([plan.lam for plan in plans])
            if not 0 <= weights.min() <= weights.max() <= 1:
                least, most = weights.min().item(), weights.max().item()
                raise ValueError(f"labels must be weighed by numbers in [0, 1], got {least:g} to {most:g}")
        if two_hot is not None:
            whole = [plan.targets(labels, sizes.classes) > two_hot for plan in plans]
            if all((rows == rows[0]).all() for rows in whole):
                which = "the same" if whole[0].any() else "no"
                change = "larger" if whole[0].any() else "smaller"
                allowed = f"must be {change}, or null: all samples of a batch would have {which} whole labels"
                raise ConfigError("trainer.bce_threshold", two_hot, f"{allowed} with {part.target}")
        for plan in _to_try(plans):
            size = plan.size if plan.layer is None or plan.size else shape_at(model, sizes, plan.layer)
            if size == ():
                continue
            there = inputs if size is None else torch.zeros(DRAWN, *size)
            if reason := _misfit(plan, there):
                what = sizes.inputs.noun if size is None else f"outputs of {plan.layer}"
                raise part.refused(f"cannot mix {what} of {[*there.shape[1:]]}: {reason}")


def check_windows(mixup: Component, epochs: int) -> None:
    """Raise ConfigError if a window begins after a training of so many epochs."""
    for part, strategy in parts(mixup, make_strategy(mixup)):
        if isinstance(strategy, Mixup) and strategy.window[1] > 1 and strategy.window[0] >= epochs:
            raise part.refused(f"window must begin before epoch {epochs}, trainer.epochs, got {[*strategy.window]}")


def _always(strategy: Strategy) -> Strategy:
    """Return the strategy with every batch mixed: a late window must hide nothing."""
    if not isinstance(strategy, Mixup):
        return strategy
    try:
        return replace(strategy, prob=1.0, window=(0.0, 1.0), taper=False)
    except TypeError:  # a class of the user's own, with a constructor of another kind
        return strategy


def _to_try(plans: list[MixPlan]) -> list[MixPlan]:
    """Return a few plans that mix, for each depth; not blends of a block's output, which fit whatever it is."""
    tried: Counter[str | None] = Counter()
    chosen = []
    for plan in plans:
        of_block = plan.layer is not None and plan.size is None
        blends = of_block and plan.transform is None and type(plan) in (MixPlan, SeveralPlan)
        if plan.active and not blends and tried[plan.layer] < (1 if of_block else TRIED):
            tried[plan.layer] += 1
            chosen.append(plan)
    return chosen


def _depth_shape(mixup: Component, model: Component, sizes: Sizes, block: str) -> tuple[int, ...]:
    """Return the shape of one sample in the output of a block that masks are drawn for. Raises ConfigError."""
    if shape := shape_at(model, sizes, block):
        return shape
    named = (key for key, value in leaves(mixup.values, mixup.group) if key.endswith("depth") and value == block)
    names = block_names(meta_model(model, sizes))
    fitting = [INPUT, *(name for name in names if shape_at(model, sizes, name))]
    reason = "a mask is drawn for one tensor, and it returns another thing; mixup=manifold blends all that it returns"
    raise ConfigError(next(named, "mixup.depth"), block, f"{reason}; allowed: {', '.join(fitting)}")


def _misfit(plan: MixPlan, inputs: Tensor) -> str:
    """Return why a plan cannot mix such inputs, (B, ...), as one with boxes cannot mix rows; "" if it can."""
    try:
        mixed = plan.mix(inputs)
    except Exception as error:  # of any operation on tensors
        return reason_of(error)
    return "" if mixed.shape == inputs.shape else f"they would become {[*mixed.shape[1:]]}"
