"""Networks: images in, logits out, each a list of named blocks.

Imports torch alone, and torchvision and transformers where they are used.

Every network is made by a callable ``target(channels, image_size, classes, *, own arguments)``: it takes images
(B, channels, height, width) and returns logits (B, classes), never a softmax. ``image_size`` is an integer for square
images, else the pair (height, width); :func:`sides` makes a pair of both. It refuses an argument by a ValueError that
begins with the argument's name. The networks below document their own arguments. A network with a method
``initialise(batches)`` is shown some training images before the first step, (B, channels, height, width) on the CPU,
normalised and not augmented, and may set weights by them.
"""

from vicinal.models.blocks import block_names
from vicinal.models.shapes import check, refuses_one
from vicinal.utils.image_size import ImageSize, sides

__all__ = ["ImageSize", "block_names", "check", "refuses_one", "sides"]
