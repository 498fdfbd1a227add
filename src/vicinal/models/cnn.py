"""The two-convolution MNIST network of the PyTorch and Keras examples."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from vicinal.models.ranges import require_dropout, require_image_size


class CNN(nn.Sequential):
    """Two 3x3 convolutions without padding, one max-pool, one hidden layer of 128 (pytorch/examples ``mnist/main.py``).

    On 28x28 gray images with 10 classes: 1,199,882 parameters.

    Args:
        channels: of the input (B, channels, image_size, image_size).
        image_size: height and width in pixels, at least 6.
        classes: width of the logits (B, classes).
        conv_dropout: probability in [0, 1) with which an activation of the pooled feature map is dropped.
        hidden_dropout: probability in [0, 1) with which one of the 128 hidden units is dropped.
    """

    blocks = ("block1", "block2", "hidden")

    def __init__(
        self,
        channels: int,
        image_size: int,
        classes: int,
        *,
        conv_dropout: float = 0.25,
        hidden_dropout: float = 0.5,
    ) -> None:
        require_image_size(image_size, 6, "CNN")
        require_dropout("conv_dropout", conv_dropout)
        require_dropout("hidden_dropout", hidden_dropout)
        side = (image_size - 4) // 2
        super().__init__(
            OrderedDict(
                block1=nn.Sequential(nn.Conv2d(channels, 32, 3), nn.ReLU()),
                block2=nn.Sequential(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(conv_dropout)),
                hidden=nn.Sequential(
                    nn.Flatten(), nn.Linear(64 * side * side, 128), nn.ReLU(), nn.Dropout(hidden_dropout)
                ),
                head=nn.Linear(128, classes),
            )
        )
