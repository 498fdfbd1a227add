"""The template of all strategies that mix: a law of lambda, a partner rule, a label rule, and a plan."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from torch import Tensor

from vicinal.mixing.context import NOTHING, Context, Part, need
from vicinal.mixing.gradients import inverse
from vicinal.mixing.label_rules import LABEL_RULES, Area, LabelRule
from vicinal.mixing.laws import LAWS, Law
from vicinal.mixing.layouts import Layout
from vicinal.mixing.partners import PARTNERS, PartnerRule
from vicinal.mixing.plan import MixPlan
from vicinal.mixing.schedule import Schedule
from vicinal.mixing.strategy import INPUT, Strategy, check_weights

MOST_MEMBERS = 1000  # each is drawn and multiplied, and most have hardly any weight
OF_INPUTS = frozenset({"images", "saliency"})
"""Facts that have the places of the inputs, and tell nothing of those in the output of a block."""


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
        beta: of the law ``asymmetric``, Beta(alpha, beta).
        low, high: interval of the laws ``uniform`` and ``truncated``.
        lam: of the law ``constant``.
        partner: a name in :data:`~vicinal.mixing.partners.PARTNERS`, or a rule.
        group: of the rule ``nearest``, samples that are matched at once.
        balance: of the rule ``class_balanced``.
        bandwidth: of the rule ``label_kernel``.
        labels: a name in :data:`~vicinal.mixing.label_rules.LABEL_RULES`, or a rule.
        label_weight: of the rule ``constant``.
        kappa, tau: of the rule ``remix``.
        window, taper: when to mix: see :class:`~vicinal.mixing.schedule.Schedule`.
        mixed_weight: of the loss on the mixed batch: > 0, finite, or "lam" or "1-lam" for each sample its own.
        clean_weight: of the loss on the same batch, unmixed: >= 0, finite, or "lam" or "1-lam".
        together: take both losses in one pass over twice the images, so that batch norm sees both.
        depth: "input", or the name of a block: masks are drawn for its output, and mix there.

    Raises:
        ValueError: one of them is out of its range.
    """

    most_members: ClassVar[int] = 2
    """The largest ``members``."""
    looks: ClassVar[frozenset[str]] = frozenset()
    """Facts of the context that its plan looks at, beside those of its parts."""
    mixes: ClassVar[Layout | None] = None
    """The layout that it mixes; None for any."""
    alpha: float | None = field(default=None, kw_only=False)
    alpha_end: float | None = None
    prob: float = 1.0
    per_sample: bool = False
    members: int = 2
    law: str | Law = "beta"
    beta: float = 1.0
    low: float = 0.0
    high: float = 1.0
    lam: float = 0.5
    partner: str | PartnerRule = "permutation"
    group: int = 8
    balance: float = 1.0
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
    depth: str = INPUT

    def __post_init__(self) -> None:
        if not 0 <= self.prob <= 1:
            raise ValueError(f"prob must be in [0, 1], got {self.prob}")
        check_weights(self.mixed_weight, self.clean_weight)
        if self.members > self.most_members:
            allowed = 2 if self.most_members == 2 else f"at most {self.most_members}"
            raise ValueError(f"members must be {allowed} for {type(self).__name__}, got {self.members}")
        if self.members > 2 and self.law != "beta":
            raise ValueError(f"law must be beta for more than two members, got {self.law}")
        if self.members > 2:
            self._check_several("more than two members")
        if not self.depth:
            raise ValueError(f'depth must be "{INPUT}" or the name of a block, got ""')
        if self.depth != INPUT and (self.looks & OF_INPUTS or not self._is_ours("depths")):
            raise ValueError(f"depth must be {INPUT} for {type(self).__name__}, got {self.depth}")
        if self.alpha_end is not None and "law" in self._parts:
            if not hasattr(self._parts["law"], "alpha"):
                raise ValueError(f"alpha_end must be None, law={self.law} has no alpha, got {self.alpha_end}")
            try:
                self._law_at(Context(progress=1.0))
            except ValueError as error:
                reason = str(error)
                raise ValueError(f"alpha_end {reason[6:]}" if reason.startswith("alpha ") else reason) from None
        _ = self._parts, self._schedule  # made now, so that what is out of range is refused at once

    def _check_several(self, what: str) -> None:
        """Refuse what is for pairs: a partner rule that would choose the same sample again, and label rules."""
        if (labels := self._parts.get("labels")) and not isinstance(labels, Area):
            raise ValueError(f"labels must be area for {what}, got {self.labels}")
        if (rule := self._parts.get("partner")) and not rule.drawn:
            raise ValueError(f"partner must be drawn at random for {what}, got {self.partner}")

    @classmethod
    def unused(cls, **arguments: Any) -> set[str]:
        """Return the keys that have no effect beside these arguments, such as ``alpha`` under ``law=uniform``."""
        unused: set[str] = set()
        for name, (_, options, hook) in PARTS.items():
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
        if not cls._is_ours("depths"):
            unused.add("depth")
        if cls._is_ours("draw_lam"):  # under a law of two, more members are refused
            unused.discard("members")
        below = cls.__mro__[: cls.__mro__.index(Mixup)]  # their own fields are not those of the parts
        return unused - {name for child in below for name in vars(child).get("__annotations__", ())}

    @cached_property
    def _parts(self) -> dict[str, Any]:
        """The parts, but those whose hook a subclass has overridden."""
        used = {name: (kind, options) for name, (kind, options, hook) in PARTS.items() if self._is_ours(hook)}
        return {name: self._part(name, *of) for name, of in used.items()}

    def _part(self, name: str, kind: type[Part], options: Mapping[str, type[Part]]) -> Part:
        chosen: Part | str = getattr(self, name)
        if isinstance(chosen, kind):
            return chosen
        if not isinstance(chosen, str) or chosen not in options:
            raise ValueError(f"{name} must be one of {', '.join(options)}, or a {kind.__name__}, got {chosen}")
        option = options[chosen]
        values = {item.name: getattr(self, item.name) for item in fields(option)}
        # NumPy's numbers of 32 bits would round what is computed with them.
        return option(
            **{
                name: float(x) if isinstance(x, Real) and not isinstance(x, Integral) else x
                for name, x in values.items()
            }
        )

    @property
    def depths(self) -> Sequence[str]:
        return (self.depth,)

    @property
    def needs(self) -> frozenset[str]:
        own = self.looks
        if self.alpha_end is not None:
            own |= {"progress"}
        if self.depth != INPUT:
            own |= {"shapes"}
        return own.union(self._schedule.needs, *(part.needs for part in self._parts.values()))

    def sample(self, shape: Sequence[int], generator: torch.Generator, context: Context = NOTHING) -> MixPlan:
        if generator.device.type != "cpu":
            raise ValueError(f"a plan is decided on the host: the generator must be on the CPU, not {generator.device}")
        batch, inputs, inside = shape[0], shape, self.depth != INPUT
        if inside:
            shape = (batch, *need(context.shapes, "shapes")[self.depth])
        if self.mixes is not None:
            deeper = not self.looks & OF_INPUTS
            self.mixes.check(type(self).__name__, shape, inputs, self.depth if inside else None, deeper)
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
        if not isinstance(plan, MixPlan):
            raise TypeError(f"make_plan must return a MixPlan, got {plan!r}")
        if inside:
            plan = replace(plan, layer=self.depth, size=tuple(shape[1:]))
        if lowest == 1:
            return replace(plan, lam=torch.ones(batch), active=False)
        plan = plan.weighted(self.weigh_labels(plan, shape, context))
        if transform := getattr(self._parts.get("partner"), "transform", None):
            plan = plan.transformed(transform)
        if plan.layer is not None and plan.pairs:  # else no gradient passes what is mixed
            plan = replace(plan, whose=inverse(plan.partner))
        return plan

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
        """Return the plan with its mask.

        Args:
            lam: float64 (B,), or (1,) for the whole batch, as that of the plan may be; 1 where nothing is to be mixed.
            partner: int64 (B,). Lambda of K members has K columns, and then this has K - 1.
            shape: of what is mixed, (B, C, ...): the batch of inputs, or the output of the block ``depth``.
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


PARTS: dict[str, tuple[type[Part], Mapping[str, type[Part]], str]] = {
    "law": (Law, LAWS, "draw_lam"),
    "partner": (PartnerRule, PARTNERS, "draw_partner"),
    "labels": (LabelRule, LABEL_RULES, "weigh_labels"),
}
"""{key: (its type, its options by name, the hook of :class:`Mixup` that carries out the choice)}."""
