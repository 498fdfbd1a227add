"""Networks: images in, logits out, each a list of named blocks.

Imports torch alone, and torchvision and transformers where they are used.

Every network is made by a callable ``target(channels, image_size, classes, *, own arguments)``: it takes square images
(B, channels, image_size, image_size) and returns logits (B, classes), never a softmax. It refuses an argument by a
ValueError that begins with the argument's name. The networks below document their own arguments.
"""

from vicinal.models.blocks import block_names
from vicinal.models.shapes import check, refuses_one

__all__ = ["block_names", "check", "refuses_one"]
