"""Laws of lambda, the weight of the sample itself: how it is drawn, and its distribution function."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from vicinal.mixing.context import Part

LEAST_PROBABILITY = 1e-3
"""Of the interval to which a law is truncated: a thousand draws for one, on average."""


@dataclass(frozen=True)
class Law(Part, ABC):
    """A distribution on [0, 1].

    Every law takes the same numbers from the generator, so that what is drawn next does not depend on the law.
    """

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return ``count`` draws, float64 (count,), on the CPU; (count, K) of the weights of K members."""

    @abstractmethod
    def below(self, x: float) -> float:
        """Return P(lambda < x) for x in [0, 1]."""


@dataclass(frozen=True)
class Beta(Law):
    """Beta(alpha, alpha): the law of mixup and of most others (arXiv 1710.09412, section 2).

    Of more than two members it is the symmetric Dirichlet law, which is the same for two.

    Attributes:
        alpha: >= 0, finite. Mixing grows with it; 0 is off.
        members: >= 2, samples that are mixed.
    """

    alpha: float
    members: int = 2

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        if self.members < 2:
            raise ValueError(f"members must be >= 2, got {self.members}")

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        if self.members == 2:
            return symmetric_beta(self.alpha, count, generator)
        if self.alpha == 0:
            return torch.eye(1, self.members, dtype=torch.float64).expand(count, -1)
        # Without the distribution around it, which takes no generator.
        return torch._sample_dirichlet(torch.full((count, self.members), self.alpha, dtype=torch.float64), generator)

    def below(self, x: float) -> float:
        if self.alpha == 0:
            return 0.0
        if self.members == 2:
            return symmetric_beta_cdf(x, self.alpha)
        from scipy.special import betainc

        return float(betainc(self.alpha, (self.members - 1) * self.alpha, x))


@dataclass(frozen=True)
class Folded(Law):
    """max(lambda, 1 - lambda) of a Beta(alpha, alpha): the sample itself has the larger part (fastai, Composer).

    Attributes:
        alpha: >= 0, finite.
    """

    alpha: float

    def __post_init__(self) -> None:
        check_alpha(self.alpha)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        drawn = symmetric_beta(self.alpha, count, generator)
        return torch.maximum(drawn, 1 - drawn)

    def below(self, x: float) -> float:
        return max(0.0, 2 * symmetric_beta_cdf(x, self.alpha) - 1) if self.alpha else 0.0


@dataclass(frozen=True)
class Asymmetric(Law):
    """Beta(alpha, beta), whose mean is alpha / (alpha + beta): Balanced-MixUp has Beta(1, beta) (arXiv 2109.09850).

    Attributes:
        alpha: > 0, finite.
        beta: > 0, finite.
    """

    alpha: float
    beta: float

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        if not (self.alpha > 0 and 0 < self.beta < math.inf):
            raise ValueError(f"beta must be a finite number > 0, and alpha too, got {self.beta} and {self.alpha}")

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        from scipy.special import betaincinv

        _, angle = two_uniforms(count, generator)
        return torch.from_numpy(betaincinv(self.alpha, self.beta, angle.numpy()))

    def below(self, x: float) -> float:
        from scipy.special import betainc

        return float(betainc(self.alpha, self.beta, x))


@dataclass(frozen=True)
class Uniform(Law):
    """Every lambda in [low, high] is as likely as any other.

    Attributes:
        low: in [0, 1].
        high: in [low, 1].
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        check_interval(self.low, self.high)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        _, angle = two_uniforms(count, generator)
        return self.low + (self.high - self.low) * angle

    def below(self, x: float) -> float:
        if self.low == self.high:
            return float(self.low < x)
        return min(1.0, max(0.0, (x - self.low) / (self.high - self.low)))


@dataclass(frozen=True)
class Constant(Law):
    """Always the same lambda.

    Attributes:
        lam: in [0, 1].
    """

    lam: float

    def __post_init__(self) -> None:
        if not 0 <= self.lam <= 1:
            raise ValueError(f"lam must be in [0, 1], got {self.lam}")

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        two_uniforms(count, generator)
        return torch.full((count,), self.lam, dtype=torch.float64)

    def below(self, x: float) -> float:
        return float(self.lam < x)


@dataclass(frozen=True)
class Truncated(Law):
    """Beta(alpha, alpha) given that lambda is in [low, high].

    Attributes:
        alpha: > 0, finite.
        low: in [0, 1].
        high: in [low, 1].

    Raises:
        ValueError: an argument is out of range, or the interval is too unlikely to be drawn from.
    """

    alpha: float
    low: float
    high: float

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        check_interval(self.low, self.high)
        if self._probability < LEAST_PROBABILITY:
            raise ValueError(
                f"low must leave an interval that Beta({self.alpha:g}, {self.alpha:g}) reaches: [{self.low:g}, "
                f"{self.high:g}] has a probability of {self._probability:.2g}, got {self.low}"
            )

    @property
    def _probability(self) -> float:
        return (
            symmetric_beta_cdf(self.high, self.alpha) - symmetric_beta_cdf(self.low, self.alpha) if self.alpha else 0.0
        )

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        # Rejected draws come from a generator of their own: how many there are does not change what is drawn next.
        radius, _ = two_uniforms(count, generator)
        own = torch.Generator().manual_seed(int(radius[:1].view(torch.int64)))
        kept = torch.empty(0, dtype=torch.float64)
        while len(kept) < count:
            drawn = symmetric_beta(self.alpha, 4 * count, own)
            kept = torch.cat([kept, drawn[(drawn >= self.low) & (drawn <= self.high)]])
        return kept[:count]

    def below(self, x: float) -> float:
        inside = min(max(x, self.low), self.high)
        part = symmetric_beta_cdf(inside, self.alpha) - symmetric_beta_cdf(self.low, self.alpha)
        return part / self._probability


LAWS: dict[str, type[Law]] = {
    "beta": Beta,
    "asymmetric": Asymmetric,
    "folded": Folded,
    "truncated": Truncated,
    "uniform": Uniform,
    "constant": Constant,
}
"""Laws by the names that ``mixup.law`` takes."""


def check_alpha(alpha: object) -> None:
    """Refuse what is no finite number >= 0. Raises ValueError."""
    if not (isinstance(alpha, (int, float)) and 0 <= alpha < math.inf):
        raise ValueError(f"alpha must be a finite number >= 0, got {alpha}")


def check_interval(low: float, high: float) -> None:
    """Refuse what is no part of [0, 1]. Raises ValueError."""
    if not 0 <= low <= 1:
        raise ValueError(f"low must be in [0, 1], got {low}")
    if not low <= high <= 1:
        raise ValueError(f"high must be in [low, 1], got {high}")


def two_uniforms(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return -log(U) and V for two uniforms on (0, 1), float64 (count,) each."""
    radius = torch.empty(count, dtype=torch.float64).exponential_(generator=generator)
    return radius, torch.rand(count, dtype=torch.float64, generator=generator)


def symmetric_beta(alpha: float, count: int, generator: torch.Generator) -> Tensor:
    """Return ``count`` draws of Beta(alpha, alpha), float64, on the CPU.

    If T is Student-t with 2*alpha degrees of freedom then (1 + T / sqrt(2*alpha + T^2)) / 2 is Beta(alpha, alpha);
    T comes from two uniforms by Bailey's polar method (R. W. Bailey, Mathematics of Computation 62, 1994; L. Devroye,
    "Random variate generation in one line of code", 1996). It is a closed form: every draw takes exactly two numbers
    from the generator, whatever alpha is. It is exact for alpha -> 0, where ratios of Gamma variates end in 0/0.

    alpha = 0 is the limit in which nothing is mixed: every draw is 1.
    """
    radius, angle = two_uniforms(count, generator)
    if alpha == 0:
        return torch.ones(count, dtype=torch.float64)
    if count == 1:  # one number per batch is the usual case
        return torch.full((1,), _bailey(math, radius.item(), angle.item(), alpha), dtype=torch.float64)
    drawn: Tensor = _bailey(torch, radius, angle, alpha)
    return drawn


def _bailey(functions: Any, radius: Any, angle: Any, alpha: float) -> Any:
    """Turn two uniforms into Beta(alpha, alpha) with the functions of ``math`` or ``torch``.

    One thread, in microseconds:   1 draw    128 draws
    ``math`` on Python floats         2.7            -
    ``torch`` on tensors             26.1         37.6

    T^2 / (2 alpha) = (U^(-1/alpha) - 1) cos^2, and with t = 1 - U^(1/alpha), which cannot overflow,
    T^2 / (2 alpha + T^2) = t cos^2 / (1 - t + t cos^2).
    """
    cosine = functions.cos(2 * math.pi * angle)
    t = -functions.expm1(-radius / alpha)
    part = t * cosine * cosine
    return (1 + functions.copysign(functions.sqrt(part / (1 - t + part)), cosine)) / 2


def symmetric_beta_cdf(x: float, alpha: float) -> float:
    """P(lambda <= x) for lambda ~ Beta(alpha, alpha) and x in [0, 1]; with alpha = 0 every lambda is 1.

    A series of positive terms (DLMF 8.17.8), divided by its value at 1/2, where P = 1/2 by symmetry. So no constant is
    needed, and nothing overflows.
    """
    if alpha == 0:
        return float(x >= 1)
    if x == 0.5:
        return 0.5
    if x > 0.5:
        return 1 - symmetric_beta_cdf(1 - x, alpha)
    factor: float = (4 * x * (1 - x)) ** alpha
    if factor < 1e-17:  # the quotient below is at most 1, and takes long where alpha is large
        return 0.0
    return 0.5 * factor * _series(x, alpha) / _series(0.5, alpha)


@cache
def _series(x: float, alpha: float) -> float:
    """Return Gauss's hypergeometric function F(2 alpha, 1; alpha + 1; x) for x in [0, 1/2]."""
    term = total = 1.0
    number = 0
    while term > 1e-17 * total:
        term *= x * (2 * alpha + number) / (alpha + 1 + number)
        total += term
        number += 1
    return total
