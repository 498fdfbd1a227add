"""The space of a search, read from the words of a sweep: ``interval(0.05,8)``, ``range(1,9)``, ``a,b,c``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Sweep

from vicinal.analysis.records import same
from vicinal.errors import UserError
from vicinal.launch.grid import check_axis

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

LOG = "log"  # the tag of an axis whose logarithm is even: tag(log, interval(0.05,8))
DIGITS = 4  # significant digits of the values of an interval: readable, and the same value comes up again


@dataclass(frozen=True)
class Axis:
    """A key and the values that it can have: those of a list, or numbers from ``low`` to ``high``, both included."""

    key: str  # as the command line has it, with a leading + if there is one
    options: tuple[str, ...] = ()  # texts of a list; empty for numbers
    low: float = 0.0
    high: float = 0.0
    step: float | None = None  # None for any number in between
    log: bool = False  # whether equal ratios, not equal differences, are equally far apart
    whole: bool = False  # whether the numbers are integers

    @property
    def name(self) -> str:
        """The key as configs have it."""
        return self.key.lstrip("+")

    @property
    def continuous(self) -> bool:
        """Whether it has any number from its low to its high end."""
        return not self.options and not self.whole and self.step is None

    @property
    def distribution(self) -> BaseDistribution:
        """The same for Optuna."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.options:
            return CategoricalDistribution(self.options)
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def settled(self, value: Any) -> Any:
        """Return the value that is used instead of one that was drawn: of an interval with few digits, and within."""
        if self.options or self.whole:
            return value
        if self.step is not None:
            return float(f"{value:.12g}")
        more = math.floor(math.log10(max(abs(self.low), abs(self.high)) / (self.high - self.low)))  # 1000 to 1010
        return min(max(float(f"{value:.{DIGITS + max(0, more)}g}"), self.low), self.high)

    def text(self, value: Any) -> str:
        """Return a value as the command line spells it."""
        short = f"{value:.12g}" if isinstance(value, float) else str(value)
        return short if not isinstance(value, float) or float(short) == value else repr(value)

    def value(self, text: str) -> Any:
        """Return the value that a text spells; None if it is not one of the axis."""
        if self.options:
            return next((option for option in self.options if same(option, text)), None)
        try:
            number = float(text)
        except ValueError:
            return None
        value = int(number) if self.whole and number.is_integer() else number
        fits = self.low <= number <= self.high and (not self.whole or number.is_integer())
        if fits and self.step is not None:
            steps = (number - self.low) / self.step
            fits = math.isclose(steps, round(steps), abs_tol=1e-8)
        return value if fits else None

    @property
    def probes(self) -> list[str]:
        """Values that are checked before anything trains: all of a list, else the ends and one that is not round."""
        if self.options:
            return list(self.options)
        inner = [self.low + (self.high - self.low) * 0.381966] if self.continuous else []
        ends = [int(self.low), int(self.high)] if self.whole else [self.low, self.high]
        return [self.text(self.settled(value)) for value in (*ends, *inner)]

    def described(self) -> dict[str, Any]:
        """Return the axis in plain containers."""
        return asdict(self) | {"options": list(self.options)}

    @property
    def shown(self) -> str:
        """The axis in words."""
        if self.options:
            return ", ".join(self.options)
        ends = f"{self.text(self.low)} to {self.text(self.high)}"
        step = f" in steps of {self.step:.12g}" if self.step is not None else ", whole" if self.whole else ""
        return f"{ends}{step}{', logarithmic' if self.log else ''}"


def read_space(overrides: Sequence[Override]) -> list[Axis]:
    """Return the axes among the words of a command line. Raises UserError: there is none, or one cannot be searched."""
    axes = {str(word.get_key_element()): word for word in overrides if word.is_sweep_override()}
    if not axes:
        raise UserError("hydra/sweeper=search: there is nothing to search; write mixup.alpha='interval(0.05,8)'")
    if word := next((word for word in axes.values() if word.key_or_group == "seed"), None):
        more = "hydra.sweeper.seeds trains each point on several"
        raise UserError(f"{word.input_line}: a seed is not chosen by its score; {more}")
    return [_axis(key, word) for key, word in axes.items()]


def _axis(key: str, override: Override) -> Axis:
    count = check_axis(override)
    sweep, word = override.value(), override.input_line
    if isinstance(sweep, ChoiceSweep | RangeSweep):
        sweep.shuffle = False  # the same command is the same search
    tags = sweep.tags if isinstance(sweep, Sweep) else set()
    if unknown := sorted(tags - {LOG}):
        raise UserError(f"{word}: tag({unknown[0]}, ...) has no meaning here; allowed: {LOG}")
    if isinstance(sweep, IntervalSweep):
        axis = _interval(key, sweep, str(word))
    elif isinstance(sweep, RangeSweep):
        axis = _range(key, sweep, count)
    else:
        axis = Axis(key, _distinct(override.sweep_string_iterator()))
    if LOG not in tags:
        return axis
    if axis.options or axis.step not in (None, 1):
        raise UserError(f"{word}: only an interval, or a range of integers one by one, can be logarithmic")
    if axis.low <= 0:
        raise UserError(f"{word}: a logarithmic axis must begin above 0")
    return replace(axis, log=True, step=None)


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the texts of a list without those that spell a value that is there already, as 1.0 beside 1 does."""
    kept: list[str] = []
    for text in texts:
        if not any(same(text, other) for other in kept):
            kept.append(text)
    return tuple(kept)


def _interval(key: str, sweep: IntervalSweep, word: str) -> Axis:
    low, high = sweep.start, sweep.end
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{word}: the low end must be below the high end, and both finite")
    whole = isinstance(low, int) and isinstance(high, int)  # int(interval(1,8))
    return Axis(key, low=low, high=high, whole=whole)


def _range(key: str, sweep: RangeSweep, count: int) -> Axis:
    start, step = Decimal(repr(sweep.start)), Decimal(repr(sweep.step))  # rounding errors of the steps would add up
    low, high = sorted((start, start + (count - 1) * step))
    whole = all(isinstance(part, int) for part in (sweep.start, sweep.step))
    return Axis(key, low=float(low), high=float(high), step=float(abs(step)), whole=whole)
