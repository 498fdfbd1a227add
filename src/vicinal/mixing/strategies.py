"""The strategies. Each is a choice of parts; none holds state, touches a model or a device.

A new one is a subclass of :class:`Mixup`, here or in any module, and one file in ``conf/mixup``: its fields are its
keys in the config. It overrides :meth:`~Mixup.draw_lam`, :meth:`~Mixup.draw_partner` or :meth:`~Mixup.make_plan`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from vicinal.mixing.context import NOTHING, Context, Part, need
from vicinal.mixing.label_rules import LABEL_RULES, LabelRule
from vicinal.mixing.laws import LAWS, Law
from vicinal.mixing.masks import Boxes
from vicinal.mixing.partners import PARTNERS, PartnerRule
from vicinal.mixing.plan import MixPlan
from vicinal.mixing.schedule import Schedule
from vicinal.mixing.several import blend

INPUT = "input"
"""The name of the depth before the first block."""
MANY = 10**6


WEIGHTS = ("lam", "1-lam")
"""Weights of a loss that are another for each sample."""


def check_weights(mixed: float | str, clean: float | str) -> None:
    """Refuse weights of the loss that are none. Raises ValueError."""
    if not (mixed in WEIGHTS if isinstance(mixed, str) else 0 < mixed < math.inf):
        raise ValueError(f"mixed_weight must be a finite number > 0, lam or 1-lam, got {mixed}")
    if not (clean in WEIGHTS if isinstance(clean, str) else 0 <= clean < math.inf):
        raise ValueError(f"clean_weight must be a finite number >= 0, lam or 1-lam, got {clean}")


class Strategy(ABC):
    """Decide what is mixed in a batch."""

    mixed_weight: float | str = 1.0
    clean_weight: float | str = 0.0
    """Weights of the loss on the mixed batch and of that on the same batch, unmixed: numbers, "lam" or "1-lam"."""
    together: bool = False
    """Whether both are one pass of the model."""

    @property
    def depths(self) -> Sequence[str]:
        """Where this strategy mixes: "input" or names of blocks; empty if nowhere."""
        return (INPUT,)

    @property
    def reads(self) -> Sequence[str]:
        """Blocks whose output its plans look at; see :meth:`MixPlan.settled`."""
        return ()

    @property
    def needs(self) -> frozenset[str]:
        """Facts of the :class:`Context` that :meth:`sample` looks at; without any, a shape is enough."""
        return frozenset()

    def law_of_lambda(self, bins: int, context: Context = NOTHING) -> list[float] | None:
        """Return the probability that lambda is drawn from each of ``bins`` equal parts of [0, 1]; None if not known.

        Samples that are not mixed have a lambda of exactly 1, which belongs to the last. A plan may change it further.
        """
        return None

    @abstractmethod
    def sample(self, shape: Sequence[int], generator: torch.Generator, context: Context = NOTHING) -> MixPlan:
        """Return the plan of one batch.

        Args:
            shape: of the batch of images, (B, C, H, W). Any B >= 1.
            generator: a CPU generator that nothing else draws from. Decisions are made on the host, so that the plan
                (which block? mixed at all?) is known without waiting for a device; ``plan.to`` moves it.
            context: the facts that :attr:`needs` names.
        """


@dataclass(frozen=True)
class NoMix(Strategy):
    """Empirical risk minimisation: every sample is itself. Draws nothing."""

    @property
    def depths(self) -> Sequence[str]:
        return ()

    def sample(self, shape: Sequence[int], generator: torch.Generator, context: Context = NOTHING) -> MixPlan:
        return MixPlan(lam=torch.ones(shape[0]), partner=torch.arange(shape[0]), active=False)


@dataclass(frozen=True, kw_only=True)
class Mixup(Strategy):
    """Template of all strategies that mix: a law of lambda, a partner rule, a label rule, and a plan.

    It draws lambda, then whether to mix, then the partners, and :meth:`make_plan` draws last. So from the same
    generator, the first batch has the same lambda and partners under all strategies that draw them in the same way.

    Attributes:
        alpha: of the laws that have it, Beta(alpha, alpha): >= 0, finite.
        alpha_end: alpha at the end of the training, which it reaches linearly; None if it stays.
        prob: in [0, 1], the probability that a batch (a sample, if ``per_sample``) is mixed.
        per_sample: one lambda (box, decision) per sample instead of one per batch.
        law: a name in :data:`~vicinal.mixing.laws.LAWS`, or a law.
        members: samples that are mixed: 2, or more where a strategy takes them: their weights are Dirichlet(alpha).
        low, high: interval of the laws ``uniform`` and ``truncated``.
        lam: of the law ``constant``.
        partner: a name in :data:`~vicinal.mixing.partners.PARTNERS`, or a rule.
        group: of the rule ``nearest``, samples that are matched at once.
        bandwidth: of the rule ``label_kernel``.
        labels: a name in :data:`~vicinal.mixing.label_rules.LABEL_RULES`, or a rule.
        label_weight: of the rule ``constant``.
        kappa, tau: of the rule ``remix``.
        window, taper: when to mix: see :class:`~vicinal.mixing.schedule.Schedule`.
        mixed_weight: of the loss on the mixed batch: > 0, finite, or "lam" or "1-lam" for each sample its own.
        clean_weight: of the loss on the same batch, unmixed: >= 0, finite, or "lam" or "1-lam".
        together: take both losses in one pass over twice the images, so that batch norm sees both.

    Raises:
        ValueError: one of them is out of its range.
    """

    most_members: ClassVar[int] = 2
    """The largest ``members``."""
    alpha: float | None = field(default=None, kw_only=False)
    alpha_end: float | None = None
    prob: float = 1.0
    per_sample: bool = False
    members: int = 2
    law: str | Law = "beta"
    low: float = 0.0
    high: float = 1.0
    lam: float = 0.5
    partner: str | PartnerRule = "permutation"
    group: int = 8
    bandwidth: float = 1.0
    labels: str | LabelRule = "area"
    label_weight: float = 0.5
    kappa: float = 3.0
    tau: float = 0.5
    window: Sequence[float] = (0.0, 1.0)
    taper: bool = False
    mixed_weight: float | str = 1.0
    clean_weight: float | str = 0.0
    together: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.prob <= 1:
            raise ValueError(f"prob must be in [0, 1], got {self.prob}")
        check_weights(self.mixed_weight, self.clean_weight)
        if self.members > self.most_members:
            raise ValueError(f"members must be 2 for {type(self).__name__}, got {self.members}")
        if self.members > 2 and self.law != "beta":
            raise ValueError(f"law must be beta for more than two members, got {self.law}")
        if self.alpha_end is not None:
            _ = self._law_at(Context(progress=1.0))
        _ = self._parts, self._schedule  # made now, so that what is out of range is refused at once

    @classmethod
    def unused(cls, **arguments: Any) -> set[str]:
        """Return the keys that have no effect beside these arguments, such as ``alpha`` under ``law=uniform``."""
        unused: set[str] = set()
        for name, (options, hook) in PARTS.items():
            keys = {item.name for option in options.values() for item in fields(option)}
            chosen = arguments.get(name, getattr(cls, name))
            if not cls._is_ours(hook):
                unused |= {name, *keys}
            elif isinstance(chosen, str) and chosen in options:
                unused |= keys - {item.name for item in fields(options[chosen])}
            else:
                unused |= keys
        if "alpha" in unused:
            unused.add("alpha_end")
        if not arguments.get("clean_weight", cls.clean_weight):
            unused.add("together")
        below = cls.__mro__[: cls.__mro__.index(Mixup)]  # their own fields are not those of the parts
        return unused - {name for child in below for name in vars(child).get("__annotations__", ())}

    @cached_property
    def _parts(self) -> dict[str, Any]:
        """The parts, but those whose hook a subclass has overridden."""
        used = {name: options for name, (options, hook) in PARTS.items() if self._is_ours(hook)}
        return {name: self._part(name, options) for name, options in used.items()}

    def _part(self, name: str, options: Mapping[str, type[Part]]) -> Part:
        chosen: Part | str = getattr(self, name)
        if not isinstance(chosen, str):
            return chosen
        if chosen not in options:
            raise ValueError(f"{name} must be one of {', '.join(options)}, got {chosen}")
        option = options[chosen]
        return option(**{item.name: getattr(self, item.name) for item in fields(option)})

    @property
    def needs(self) -> frozenset[str]:
        changing = frozenset({"progress"} if self.alpha_end is not None else ())
        return changing.union(self._schedule.needs, *(part.needs for part in self._parts.values()))

    def sample(self, shape: Sequence[int], generator: torch.Generator, context: Context = NOTHING) -> MixPlan:
        if generator.device.type != "cpu":
            raise ValueError(f"a plan is decided on the host: the generator must be on the CPU, not {generator.device}")
        batch = shape[0]
        rows = batch if self.per_sample else 1
        lam = self.draw_lam(rows, generator, context)
        chance = torch.rand(rows, generator=generator)
        if (prob := self.prob * self._schedule.share(context)) < 1:
            lam = _where(chance < prob, lam)
        own, others = (lam, 1) if lam.dim() == 1 else (lam[:, 0], lam.shape[1] - 1)
        partners = [self.draw_partner(batch, generator, context) for _ in range(others)]
        lowest, highest = (own.item(),) * 2 if rows == 1 else map(float, own.aminmax())
        if not 0 <= lowest <= highest <= 1:
            raise ValueError(f"draw_lam must return numbers in [0, 1], got {lowest:g} to {highest:g}")
        partner = partners[0] if lam.dim() == 1 else torch.stack(partners, dim=1)
        plan = self.make_plan(lam, partner, shape, generator, context)
        if lowest == 1:
            return replace(plan, lam=torch.ones(batch), active=False)
        plan = plan.weighted(self.weigh_labels(plan, shape, context))
        if transform := getattr(self._parts.get("partner"), "transform", None):
            plan = plan.transformed(transform)
        return replace(plan, lam=plan.lam.float().expand(batch))

    def draw_lam(self, rows: int, generator: torch.Generator, context: Context) -> Tensor:
        """Return ``rows`` weights of the sample itself, float64 (rows,) in [0, 1]; 1 mixes nothing.

        Or those of K members, (rows, K), the sample itself first; they sum to 1.
        """
        return self._law_at(context).draw(rows, generator)

    def draw_partner(self, batch: int, generator: torch.Generator, context: Context) -> Tensor:
        """Return the index of each sample's partner, int64 (batch,)."""
        rule: PartnerRule = self._parts["partner"]
        return rule.draw(batch, generator, context)

    @abstractmethod
    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        """Return the plan with its mask and depth.

        Args:
            lam: float64 (B,), or (1,) for the whole batch, as that of the plan may be; 1 where nothing is to be mixed.
            partner: int64 (B,). Lambda of K members has K columns, and then this has K - 1.
            shape: of the batch of images, (B, C, H, W).
            generator: for what the strategy draws beside lambda and partners.
            context: the facts that :attr:`needs` names.
        """

    def weigh_labels(self, plan: MixPlan, shape: Sequence[int], context: Context) -> Tensor:
        """Return the weight of each sample in its target, (B,) or (1,), for the plan with lambda as it was drawn."""
        rule: LabelRule = self._parts["labels"]
        return rule.weight(plan.lam, plan.own_share(shape), plan.partner, context)

    def law_of_lambda(self, bins: int, context: Context = NOTHING) -> list[float] | None:
        if "law" not in self._parts:
            return None
        law, prob = self._law_at(context), self.prob * self._schedule.share(context)
        below = [*(law.below(edge / bins) for edge in range(bins)), 1.0]
        shares = [prob * (upper - lower) for lower, upper in pairwise(below)]
        shares[-1] += 1 - prob
        return shares

    def _law_at(self, context: Context) -> Law:
        law: Any = self._parts["law"]
        if self.alpha_end is not None:
            law = replace(law, alpha=law.alpha + (self.alpha_end - law.alpha) * need(context.progress, "progress"))
        return law  # type: ignore[no-any-return]

    @cached_property
    def _schedule(self) -> Schedule:
        return Schedule(self.window, self.taper)

    @classmethod
    def _is_ours(cls, hook: str) -> bool:
        """Return whether no subclass has overridden a hook."""
        return getattr(cls, hook) is getattr(Mixup, hook)


def _where(chosen: Tensor, lam: Tensor) -> Tensor:
    """Return lambda (rows,) or (rows, K) of the chosen rows, and all to the sample itself in the others."""
    if lam.dim() == 1:
        return torch.where(chosen, lam, 1.0)
    return torch.where(chosen[:, None], lam, torch.eye(1, lam.shape[1], dtype=lam.dtype))


PARTS: dict[str, tuple[Mapping[str, type[Part]], str]] = {
    "law": (LAWS, "draw_lam"),
    "partner": (PARTNERS, "draw_partner"),
    "labels": (LABEL_RULES, "weigh_labels"),
}
"""{key: (its options by name, the hook of :class:`Mixup` that carries out the choice)}."""


@dataclass(frozen=True)
class InputMixup(Mixup):
    """Input mixup (Zhang et al., arXiv 1710.09412; facebookresearch/mixup-cifar10 ``train.py``)."""

    most_members = MANY

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        return blend(lam, partner)


@dataclass(frozen=True)
class ManifoldMixup(Mixup):
    """Manifold mixup (Verma et al., arXiv 1806.05236; vikasverma1077/manifold_mixup ``supervised/``).

    Input mixup at the output of one block per batch, drawn uniformly from ``layers``.

    Attributes:
        layers: names of blocks as in ``model.named_modules()``; "input" is the input itself; a name given twice is
            drawn twice as often. Whole blocks, not the convolutions inside them: the author reports poor results
            otherwise (issue 8 of that repository).
    """

    most_members = MANY
    layers: Sequence[str] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.layers, str) or not self.layers or not all(self.layers):
            raise ValueError(f'layers must be a list of block names or "{INPUT}", at least one, got {self.layers!r}')

    @property
    def depths(self) -> Sequence[str]:
        return self.layers

    @staticmethod
    def default_layers(blocks: Sequence[str]) -> list[str]:
        """Return ``layers`` for a model with these blocks, as in the reference code."""
        return [INPUT, *blocks[:2]]

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        # Nothing is drawn where there is no choice: at "input" alone this is input mixup, bit for bit, to the end.
        index = int(torch.randint(len(self.layers), (), generator=generator)) if len(self.layers) > 1 else 0
        layer = self.layers[index]
        return blend(lam, partner, None if layer == INPUT else layer)


@dataclass(frozen=True, kw_only=True)
class CutMix(Mixup):
    """CutMix (Yun et al., arXiv 1905.04899; clovaai/CutMix-PyTorch ``train.py``).

    The partner's pixels are pasted into a box of area about 1 - lambda. The box is cut off at the border, so it is
    smaller than drawn: at 32 pixels E[1 - lambda] is 0.278 for alpha 0.2 and 0.299 for alpha 1, not 0.5.
    The reference sets lambda to 1 - box area / image area: ``labels="area"``.
    """

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        boxes = Boxes.sample(lam, shape[-2], shape[-1], generator)
        return MixPlan(lam, partner, mask=boxes)
