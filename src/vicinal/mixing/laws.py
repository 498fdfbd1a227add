"""Laws of lambda, the weight of the sample itself: how it is drawn, and its distribution function."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from vicinal.mixing.beta import symmetric_beta, symmetric_beta_cdf, two_uniforms
from vicinal.mixing.context import Part

LEAST_PROBABILITY = 1e-3
"""Of the interval to which a law is truncated: a thousand draws for one, on average."""

LEAST_ALPHA = 0.01
"""Of several members, alpha below which torch's Dirichlet is another law."""


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
        if self.alpha < LEAST_ALPHA:  # gamma variates underflow: their logarithms, as Gamma(a) = Gamma(a + 1) U^(1 / a)
            size = (count, self.members)
            larger = torch._standard_gamma(torch.full(size, self.alpha + 1, dtype=torch.float64), generator)
            uniform = 1 - torch.rand(size, dtype=torch.float64, generator=generator)
            return (larger.log() + uniform.log() / self.alpha).softmax(dim=1)
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
        if self.alpha == 0:
            raise ValueError(f"alpha must be > 0 for law=asymmetric, got {self.alpha}")
        if not 0 < self.beta < math.inf:
            raise ValueError(f"beta must be a finite number > 0, got {self.beta}")

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
    if not (isinstance(alpha, Real) and 0 <= float(alpha) < math.inf):
        raise ValueError(f"alpha must be a finite number >= 0, got {alpha}")


def check_interval(low: float, high: float) -> None:
    """Refuse what is no part of [0, 1]. Raises ValueError."""
    if not 0 <= low <= 1:
        raise ValueError(f"low must be in [0, 1], got {low}")
    if not low <= high <= 1:
        raise ValueError(f"high must be in [low, 1], got {high}")
