"""A small vision transformer, whose attention can be read."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vicinal.errors import written
from vicinal.models.shapes import is_probability
from vicinal.utils.image_size import ImageSize, shortest, sides


class Block(nn.Module):
    """Attention and a perceptron, each with a norm before it and a shortcut around it."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.attention = nn.Identity()  # a module that can be hooked
        self.dropout, self.heads = nn.Dropout(dropout), heads

    def visible(self, scores: Tensor, x: Tensor) -> Tensor:
        """Return the scores (B, heads, T, T) of tokens x (B, T, width) without those that must not be seen."""
        return scores

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        parts = self.queries_keys_values(self.norm1(x)).view(batch, tokens, 3, self.heads, width // self.heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        scores = queries @ keys.transpose(-2, -1) * (width // self.heads) ** -0.5
        mixed = (self.attention(self.visible(scores, x).softmax(dim=-1)) @ values).transpose(1, 2).flatten(2)
        x = x + self.dropout(self.out(mixed))
        return x + self.dropout(self.mlp(self.norm2(x)))  # type: ignore[no-any-return]


class ViT(nn.Module):
    """Vision transformer (Dosovitskiy et al., arXiv 2010.11929, section 3.1) with a class token and norms first.

    Blocks ``block1``, ``block2``, ... return tokens; ``attention`` returns the last block's attention (B, heads, T, T).

    Args:
        channels, image_size, classes: of every network.
        patch: side of a patch in pixels, which divides height and width.
        width: of a token, which heads divides.
        depth: >= 1, blocks.
        heads: >= 1, of each attention.
        dropout: probability in [0, 1) of dropping an activation after attention and perceptron.
    """

    def __init__(
        self,
        channels: int,
        image_size: ImageSize,
        classes: int,
        *,
        patch: int = 4,
        width: int = 96,
        depth: int = 4,
        heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        height, across = sides(image_size)
        if patch < 1 or height % patch or across % patch:
            raise ValueError(f"patch must divide image_size, {written(shortest(image_size))}, got {patch}")
        if heads < 1 or width < 1 or width % heads:
            raise ValueError(f"width must be a multiple of heads, {heads}, got {width}")
        if depth < 1:
            raise ValueError(f"depth must be >= 1, got {depth}")
        is_probability("dropout", dropout)
        super().__init__()
        self.blocks = tuple(f"block{number}" for number in range(1, depth + 1))
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + (height // patch) * (across // patch), width))
        nn.init.trunc_normal_(self.token, std=0.02)
        nn.init.trunc_normal_(self.positions, std=0.02)
        for name in self.blocks:
            self.add_module(name, Block(width, heads, dropout))
        self.attention = getattr(self, self.blocks[-1]).attention  # the same module, by a name that is always the same
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(images), -1, -1), patches], dim=1) + self.positions
        for name in self.blocks:
            x = getattr(self, name)(x)
        return self.head(x[:, 0])  # type: ignore[no-any-return]
