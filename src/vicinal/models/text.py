"""Networks for sentences: token ids (B, length) int64 in, with 0 after the last word, and logits out.

Padding is what is exactly zero. The output of every block but the last is (B, length, width), and zero at padding, and
the next block takes its mask from it. So after two sentences are mixed in any block, the longer one decides what is
padding: the mask is the OR of both, and no network has to be told.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vicinal.models.shapes import at_least, is_probability
from vicinal.models.vit import Block

SCALE = 0.25
"""Vectors of words begin uniform in [-SCALE, SCALE] (Kim, arXiv 1408.5882, section 3.1)."""


def present(x: Tensor) -> Tensor:
    """Return where a sentence (B, L, width) has words, bool (B, L)."""
    return (x != 0).any(dim=-1)


class Embedding(nn.Embedding):
    """A vector per word, (B, L) to (B, L, width); that of padding, 0, is zero and stays it."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__(vocabulary, width, padding_idx=0)

    def reset_parameters(self) -> None:
        nn.init.uniform_(self.weight, -SCALE, SCALE)
        self._fill_padding_idx_with_zero()


class Filters(nn.Module):
    """The largest activation of each filter over a sentence, (B, L, width) to (B, number of filters).

    A filter sees every window that has a word in it, with zeros before and after the sentence. Windows of padding alone
    do not count, so that the length of the padding does not matter.
    """

    def __init__(self, width: int, filters: int, kernels: list[int]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv1d(width, filters, size, padding=size - 1) for size in kernels)

    def forward(self, x: Tensor) -> Tensor:
        words, found = present(x).to(x.dtype)[:, None], []
        x = x.transpose(1, 2)
        for convolution, size in zip(self.convolutions, self.sizes, strict=True):
            padded = F.pad(words, (size - 1, size - 1))
            seen = F.max_pool1d(padded, size, stride=1)  # (B, 1, L + size - 1)
            # An activation is >= 0, so that of a window of padding may be 0.
            found.append((convolution(x).relu() * seen).amax(dim=-1))
        return torch.cat(found, dim=1)

    @property
    def sizes(self) -> list[int]:
        return [convolution.kernel_size[0] for convolution in self.convolutions]  # type: ignore[index, misc]


class KimCNN(nn.Module):
    """Convolutions over a sentence of word vectors (Kim, arXiv 1408.5882, "CNN-rand").

    Blocks ``embedding`` and ``pooled``. Without the paper's limit on the norm of the last layer's weights.

    Args:
        vocabulary: number of token ids.
        length: words of a sentence, of which the weights do not depend.
        classes: of every network.
        width: >= 1, numbers per word. The paper: 300.
        filters: >= 1, of each width of window. The paper: 100.
        kernels: widths of the windows, in words, each >= 1.
        dropout: probability in [0, 1) of dropping one of the largest activations.
    """

    blocks = ("embedding", "pooled")

    def __init__(
        self,
        vocabulary: int,
        length: int,
        classes: int,
        *,
        width: int = 100,
        filters: int = 64,
        kernels: list[int] = [3, 4, 5],  # noqa: B006 - read only; the hint is what the config is checked against
        dropout: float = 0.5,
    ) -> None:
        at_least("width", width, 1)
        at_least("filters", filters, 1)
        if not kernels or min(kernels) < 1:
            raise ValueError(f"kernels must be a list of integers >= 1, at least one, got {kernels}")
        is_probability("dropout", dropout)
        super().__init__()
        self.embedding = Embedding(vocabulary, width)
        self.pooled = Filters(width, filters, kernels)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(filters * len(kernels), classes))

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.pooled(self.embedding(ids)))  # type: ignore[no-any-return]


class PlacedEmbedding(Embedding):
    """A vector per word plus one per place; zero at padding."""

    def __init__(self, vocabulary: int, width: int, length: int) -> None:
        super().__init__(vocabulary, width)
        self.places = nn.Parameter(torch.zeros(length, width))
        nn.init.trunc_normal_(self.places, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        x = super().forward(ids)
        return x + self.places[: ids.shape[1]] * present(x)[..., None]


class Layer(Block):
    """Attention to the words alone, and a perceptron; zero at padding, as what comes in."""

    def visible(self, scores: Tensor, x: Tensor) -> Tensor:
        # Not minus infinity, which makes NaN of a sentence without words.
        return scores.masked_fill(~present(x)[:, None, None], torch.finfo(scores.dtype).min)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * present(x)[..., None]


class Mean(nn.Module):
    """The mean vector of the words of a sentence, (B, L, width) to (B, width)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum(dim=1) / present(x).sum(dim=1, keepdim=True).clamp(min=1)


class TextTransformer(nn.Module):
    """A small encoder with norms first; blocks ``embedding``, ``layer1``, ``layer2``, ... and ``pooled``.

    Args:
        vocabulary: number of token ids.
        length: most words of a sentence.
        classes: of every network.
        width: of a word, which heads divides.
        depth: >= 1, layers.
        heads: >= 1, of each attention.
        dropout: probability in [0, 1) of dropping an activation after attention and perceptron, and of the mean.
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        classes: int,
        *,
        width: int = 128,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        if heads < 1 or width < 1 or width % heads:
            raise ValueError(f"width must be a multiple of heads, {heads}, got {width}")
        at_least("depth", depth, 1)
        is_probability("dropout", dropout)
        super().__init__()
        self.layers = tuple(f"layer{number}" for number in range(1, depth + 1))
        self.blocks = ("embedding", *self.layers, "pooled")
        self.embedding = PlacedEmbedding(vocabulary, width, length)
        for name in self.layers:
            self.add_module(name, Layer(width, heads, dropout))
        self.pooled = Mean()
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, classes))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)
        for name in self.layers:
            x = getattr(self, name)(x)
        return self.head(self.pooled(x))  # type: ignore[no-any-return]
