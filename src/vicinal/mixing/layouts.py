"""What a strategy can mix: how many places a sample has, in the inputs or in the output of a block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

KINDS = {2: "rows", 3: "sequences", 4: "images"}
"""What inputs (B, ...) of so many dimensions are called."""


def channels_first(shape: Sequence[int], inputs: Sequence[int]) -> bool:
    """Return whether the output of a block, (B, ...), has channels and then places, as far as shapes tell.

    (B, N, M) is N channels where the inputs are sequences with channels themselves, (B, C, T), as clips are. Otherwise
    it is N vectors, of words (B, L, width) or of patches of an image, as embeddings and transformers return them.
    (B, N, N, K) with another K has K channels, as Swin's blocks return them, if the images are square. Of images that
    are not, nothing is told: a convolution may have another stride in height than in width.

    Args:
        shape: of the output.
        inputs: shape of a batch of inputs.
    """
    if len(shape) == 4 == len(inputs):
        return inputs[2] != inputs[3] or shape[1] != shape[2] or shape[2] == shape[3]
    return len(shape) != 3 or len(inputs) == 3


def places(shape: Sequence[int], inputs: Sequence[int]) -> int:
    """Return how many places are beside the channels of a block's output, (B, C, ...); 0 if there are no such axes.

    Args: as of :func:`channels_first`.
    """
    return math.prod(shape[2:]) if len(shape) > 2 and channels_first(shape, inputs) else 0


@dataclass(frozen=True)
class Layout:
    """Samples with channels first, (B, C, ...), and axes of places after them.

    name: of such samples, in errors.
    least, most: axes of places.
    """

    name: str
    least: int
    most: int

    def check(
        self, strategy: str, shape: Sequence[int], inputs: Sequence[int], block: str | None, deeper: bool
    ) -> None:
        """Refuse to mix what is of another layout.

        Args:
            strategy: its name.
            shape: of what is mixed, (B, ...).
            inputs: shape of a batch of inputs.
            block: whose output is mixed; None for the inputs.
            deeper: whether the strategy can mix the output of a block as well.

        Raises:
            ValueError: it does not fit; the text says what would, and begins with ``depth`` if that is the cause.
        """
        first = block is None or channels_first(shape, inputs)
        if first and self.least <= len(shape) - 2 <= self.most:
            return
        kind = KINDS.get(len(shape), "of another kind") if block is None else "" if first else "vectors"
        found = f"{'these inputs are' if block is None else f'{block} returns'} {kind}".rstrip()
        found += f" (B, {', '.join(map(str, shape[1:]))})"
        if block is None and not (deeper and len(inputs) == 3):  # no block of rows or images is what it mixes
            raise ValueError(f"{strategy} mixes {self.name}, and {found}")
        raise ValueError(f"depth must be where {self.name} are, for {strategy}, and {found}, got {block or 'input'}")


PLACES = Layout("images, clips and the like (B, C, ...)", 1, 9)
CLIPS = Layout("clips of sound (B, 1, T)", 1, 1)
SPECTROGRAMS = Layout("spectrograms (B, C, F, T)", 2, 2)
IMAGES = Layout("images (B, C, H, W)", 2, 2)
