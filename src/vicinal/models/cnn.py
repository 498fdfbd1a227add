"""The two-convolution MNIST network of the PyTorch and Keras examples."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from vicinal.models.shapes import at_least, is_probability
from vicinal.utils.image_size import ImageSize, sides


class CNN(nn.Sequential):
    """Two 3x3 convolutions without padding, one max-pool, one hidden layer of 128 (pytorch/examples ``mnist/main.py``).

    On 28x28 grey images with 10 classes: 1,199,882 parameters.

    Args:
        channels, image_size, classes: of every network; image_size is at least 6.
        conv_dropout: probability in [0, 1) of dropping an activation of the pooled feature map.
        hidden_dropout: probability in [0, 1) of dropping one of the 128 hidden units.
    """

    blocks = ("block1", "block2", "hidden")

    def __init__(
        self,
        channels: int,
        image_size: ImageSize,
        classes: int,
        *,
        conv_dropout: float = 0.25,
        hidden_dropout: float = 0.5,
    ) -> None:
        height, width = sides(image_size)
        at_least("image_size", min(height, width), 6, "CNN")
        is_probability("conv_dropout", conv_dropout)
        is_probability("hidden_dropout", hidden_dropout)
        units = 64 * ((height - 4) // 2) * ((width - 4) // 2)
        super().__init__(
            OrderedDict(
                block1=nn.Sequential(nn.Conv2d(channels, 32, 3), nn.ReLU()),
                block2=nn.Sequential(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(conv_dropout)),
                hidden=nn.Sequential(nn.Flatten(), nn.Linear(units, 128), nn.ReLU(), nn.Dropout(hidden_dropout)),
                head=nn.Linear(128, classes),
            )
        )
