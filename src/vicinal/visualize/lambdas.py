"""The law of lambda that is asked for, and the lambdas that the strategies really use."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vicinal.errors import written
from vicinal.launch.grid import Job
from vicinal.mixing import Mixup, Strategy
from vicinal.utils.image_size import ImageSize, sides
from vicinal.visualize.canvas import INK, OTHER_COLOR, STRATEGY_COLORS
from vicinal.visualize.jobs import images_of

Numbers = NDArray[np.float64]

ALPHAS = (0.2, 0.4, 1.0, 2.0)
DRAWS = 50_000
EDGES = np.linspace(0, 1, 21)  # edges of the bins of a density
FINE = 500  # bins of the law that is asked for
ASKED = ("--", ":", "-.")  # dashes of laws that are asked for
OTHERS = (":", "-.", "--")  # dashes of laws in a colour that another has
HIGHEST = 7.0  # largest drawn density; bars that are higher are cut off, and their height is written above them


class Law(NamedTuple):
    """Lambdas of one or several strategies, which are the same, for one alpha."""

    names: list[str]  # of the strategies
    asked: tuple[float, ...]  # density of the law in each of FINE bins; empty if it is not known
    density: Numbers  # in each of the bins
    partner: float  # E[1 - lambda], the mean weight of the partner
    unmixed: float  # share of draws with lambda exactly 1, in which the partner has no weight


def laws(jobs: Sequence[Job], alphas: Sequence[float] = ALPHAS, draws: int = DRAWS) -> dict[float | None, list[Law]]:
    """Return {alpha: the different laws of the jobs' strategies}, from the same draws for all strategies.

    Only of strategies with a law or an alpha whose draws depend on nothing but the shape of the batch; the only key is
    None where none of them takes alpha. A strategy that refuses an alpha has no law there.
    """
    several: dict[str, list[Mixup]] = {}
    for experiment in (job.experiment for job in jobs):
        if (strategy := _per_sample(experiment.strategy)) is not None:
            several.setdefault(experiment.choices["mixup"], []).append(_with_alpha(strategy, 1.0) or strategy)
    strategies = {name: each for option, found in several.items() for name, each in _named(option, found)}
    height, width = images_of(jobs[0].experiment).shape[1:]
    fixed = bool(strategies) and not any(map(_takes_alpha, strategies.values()))
    panels: Sequence[float | None] = [None] if fixed else alphas
    return {alpha: _laws(strategies, alpha, (draws, 1, height, width)) for alpha in panels}


def _named(option: str, strategies: Sequence[Mixup]) -> Iterator[tuple[str, Mixup]]:
    """Yield the strategies of an option, with names by the keys in which they differ."""
    values = [{item.name: written(getattr(each, item.name)) for item in fields(each)} for each in strategies]
    differing = [key for key in values[0] if key != "alpha" and len({own.get(key) for own in values}) > 1]
    for each, own in zip(strategies, values, strict=True):
        yield " ".join([option, *(f"{key}={own[key]}" for key in differing if key in own)]), each


def _takes_alpha(strategy: Mixup) -> bool:
    values = {item.name: getattr(strategy, item.name) for item in fields(strategy)}
    return strategy.alpha is not None and "alpha" not in strategy.unused(**values)


def _with_alpha(strategy: Mixup, alpha: float | None) -> Mixup | None:
    """Return the strategy with this alpha, if it takes one at all; None if it refuses it."""
    try:
        return replace(strategy, alpha=alpha) if _takes_alpha(strategy) else strategy
    except ValueError:  # a truncated law, whose interval it does not reach
        return None


def _per_sample(strategy: Strategy) -> Mixup | None:
    """Return the strategy with one lambda per sample: the same law as one per batch, drawn a thousand times as fast."""
    if not isinstance(strategy, Mixup) or strategy.needs:
        return None
    if strategy.alpha is None and strategy.law_of_lambda(1) is None:
        return None
    try:
        return replace(strategy, per_sample=True)
    except ValueError:  # RICAP, whose crops meet in one place per batch
        return None


def _laws(strategies: Mapping[str, Mixup], alpha: float | None, shape: tuple[int, ...]) -> list[Law]:
    distinct: dict[bytes, Law] = {}
    for name, strategy in strategies.items():
        if (each := _with_alpha(strategy, alpha)) is None:
            continue
        lam = each.sample(shape, torch.Generator().manual_seed(0)).lam.double().numpy()
        density, _ = np.histogram(lam, EDGES, density=True)
        asked = tuple(FINE * share for share in each.law_of_lambda(FINE) or ())
        law = Law([], asked, density, float(1 - lam.mean()), float((lam == 1).mean()))
        distinct.setdefault(lam.tobytes(), law).names.append(name)
    return list(distinct.values())


def law_figure(shown: Mapping[float | None, Sequence[Law]], size: ImageSize) -> Figure:
    """Draw one panel per alpha that has laws, for images of this size."""
    shown = {alpha: laws for alpha, laws in shown.items() if laws}
    height, width = sides(size)
    figure = Figure(figsize=(2.9 * len(shown) + 0.3, 3.5), layout="constrained")
    figure.suptitle(f"The law of lambda, asked for and in effect, for images of {height} x {width} pixels", size=11)
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, (alpha, laws) in zip(panels, shown.items(), strict=True):
        _panel(axes, alpha, laws)
    panels[0].set_ylabel("density (1 is uniform)")
    handles, names = panels[0].get_legend_handles_labels()
    across, entry = figure.get_figwidth(), 0.08 * max(map(len, names)) + 0.6  # inches
    columns = min(len(names), max(1, int(across / entry)))
    figure.set_size_inches(max(across, entry), 3.5 + 0.23 * (math.ceil(len(names) / columns) - 1))
    figure.legend(handles, names, loc="outside lower center", ncols=columns)
    return figure


def _panel(axes: Axes, alpha: float | None, laws: Sequence[Law]) -> None:
    first = {_color(law): law for law in reversed(laws)}
    for line, law in enumerate(laws):
        color = _color(law)
        dash = "-" if first[color] is law else OTHERS[line % len(OTHERS)]
        axes.stairs(law.density, EDGES, fill=True, color=color, alpha=0.22)
        axes.stairs(law.density, EDGES, color=color, linewidth=1.4, linestyle=dash, label=", ".join(law.names))
        for bar in np.flatnonzero(law.density > HIGHEST):
            place, up = (EDGES[bar : bar + 2].mean(), HIGHEST), (0, 2 + 9 * line)
            text = f"{law.density[bar]:.1f}"
            axes.annotate(text, place, up, textcoords="offset points", color=color, size=7.5, ha="center")
        note = f"E[1 - lambda] = {law.partner:.2f}, lambda = 1 in {law.unmixed:.0%}"
        axes.text(0.5, 0.97 - 0.07 * line, note, transform=axes.transAxes, ha="center", va="top", color=color, size=8)
    asked: dict[tuple[float, ...], list[str]] = {}
    for law in laws:
        if law.asked:
            asked.setdefault(law.asked, []).extend(law.names)
    for line, (density, names) in enumerate(asked.items()):
        label = "asked for" if len(asked) == 1 else f"{', '.join(names)}, asked for"
        dash = ASKED[line % len(ASKED)]
        axes.plot((np.arange(FINE) + 0.5) / FINE, density, color=INK, linewidth=1.3, linestyle=dash, label=label)
    axes.set(xlim=(0, 1), ylim=(0, HIGHEST), xlabel="lambda, weight of a sample itself")
    cut = any((law.density > HIGHEST).any() for law in laws)
    axes.set_title("" if alpha is None else f"alpha {alpha:g}", pad=22 if cut else 6)


def _color(law: Law) -> str:
    return STRATEGY_COLORS.get(law.names[0].partition(" ")[0], OTHER_COLOR)
