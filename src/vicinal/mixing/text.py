"""Strategies for sentences of token ids, which can be selected and not blended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vicinal.mixing.context import NOTHING, Context, need
from vicinal.mixing.counted import CountedMixup
from vicinal.mixing.masks import Mask
from vicinal.mixing.plan import MixPlan
from vicinal.mixing.transforms import Transform


@dataclass(frozen=True)
class Spans(Mask):
    """One span per sentence is its partner's.

    inside: where the span is, bool (B, L).
    share: of its own words, (B,) float32, without padding.
    """

    hard = True
    inside: Tensor
    share: Tensor

    def mix(self, x: Tensor, other: Tensor) -> Tensor:
        return torch.where(self.inside.view(*self.inside.shape, *[1] * (x.dim() - 2)), other, x)

    def own_share(self, shape: Sequence[int]) -> Tensor:
        return self.share


@dataclass(frozen=True)
class FromPlaces(Transform):
    """The partner with its words in other places.

    places: for each place of a sentence, the place in its partner, int64 (B, L).
    """

    places: Tensor

    def __call__(self, x: Tensor, other: Tensor) -> Tensor:
        rows = torch.arange(len(other), device=other.device)[:, None]
        return other[rows, self.places]


@dataclass(frozen=True, kw_only=True)
class SSMix(CountedMixup):
    """SSMix (Yoon et al., arXiv 2106.08062): the partner's most salient span on the own least salient one.

    Both spans have ``share`` of the sentence's words, rounded, at least one and at most all of the partner's. The
    partner's weight in the target is their share of the sentence. The saliency of a word is the norm of
    the gradient of the loss by its vector; of a span, the sum. Written from the formulas. Lambda is not drawn.

    Attributes:
        share: in (0, 1], of the words of a sentence. The paper: 0.1.
        ends: >= 0, tokens at each end of a sentence that are no words and stay, such as [CLS] and [SEP].
    """

    looks = frozenset({"images", "saliency"})
    share: float = 0.1
    ends: int = 0
    clean_weight: float | str = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be in (0, 1], got {self.share}")
        if self.ends < 0:
            raise ValueError(f"ends must be an integer >= 0, got {self.ends}")

    @property
    def selects(self) -> bool:
        return True

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        ids = need(context.images, "images")
        if len(shape) != 2 or ids.is_floating_point():
            raise ValueError(f"{type(self).__name__} mixes sentences, token ids (B, L), and the inputs are {[*shape]}")
        lengths = (ids != 0).sum(dim=1).cpu()
        words = (lengths - 2 * self.ends).clamp(min=0)
        saliency = need(context.saliency, "saliency").float().cpu()
        size = (self.share * words).round().long().clamp(min=1).minimum(words[partner]).minimum(words)
        size = torch.where(lam < 1, size, 0)
        start = span_sums(-saliency, size, lengths, self.ends).argmax(dim=1)
        taken = span_sums(saliency[partner], size, lengths[partner], self.ends).argmax(dim=1)
        place = torch.arange(shape[1]) - start[:, None]  # in the span, from 0
        inside = (place >= 0) & (place < size[:, None])
        places = (place + taken[:, None]).clamp(0, shape[1] - 1)
        share = 1 - size / words.clamp(min=1)
        return MixPlan(lam, partner, mask=Spans(inside, share), transform=FromPlaces(places))

    def law_of_lambda(self, bins: int, context: Context = NOTHING) -> list[float] | None:
        return None  # it depends on the lengths of the sentences


def span_sums(values: Tensor, size: Tensor, lengths: Tensor, ends: int = 0) -> Tensor:
    """Return the sum of each span that begins at a place, (B, L); minus infinity where it does not fit the sentence.

    Args:
        values: (B, L).
        size: of the spans, int64 (B,).
        lengths: of the sentences, int64 (B,).
        ends: places at each end of a sentence that no span may have.
    """
    first = torch.arange(values.shape[1])
    before = torch.nn.functional.pad(values.double().cumsum(dim=1), (1, 0))  # before[p] is the sum of p values
    end = first + size[:, None]
    sums = before.gather(1, end.clamp(max=values.shape[1])) - before[:, :-1]
    return sums.masked_fill((end > lengths[:, None] - ends) | (first < ends), -torch.inf)
