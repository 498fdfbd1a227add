"""The two-convolution MNIST network of the PyTorch and Keras examples."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


class CNN(nn.Sequential):
    """Two 3x3 convolutions without padding, one max-pool, one hidden layer of 128 (pytorch/examples ``mnist/main.py``).

    On 28x28 grey images with 10 classes: 1,199,882 parameters.

    Args:
        channels: of the input (B, channels, image_size, image_size).
        image_size: height and width in pixels, at least 6.
        classes: width of the logits (B, classes).
        conv_dropout: probability in [0, 1) of dropping an activation of the pooled feature map.
        hidden_dropout: probability in [0, 1) of dropping one of the 128 hidden units.
    """

    blocks = ("block1", "block2", "hidden")

    def __init__(
        self, channels: int, image_size: int, classes: int, *, conv_dropout: float = 0.25, hidden_dropout: float = 0.5
    ) -> None:
        if image_size < 6:
            raise ValueError(f"image_size must be at least 6 for CNN, got {image_size}")
        for name, dropout in (("conv_dropout", conv_dropout), ("hidden_dropout", hidden_dropout)):
            if not 0 <= dropout < 1:
                raise ValueError(f"{name} must be a probability in [0, 1), got {dropout}")
        units = 64 * ((image_size - 4) // 2) ** 2
        super().__init__(
            OrderedDict(
                block1=nn.Sequential(nn.Conv2d(channels, 32, 3), nn.ReLU()),
                block2=nn.Sequential(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(conv_dropout)),
                hidden=nn.Sequential(nn.Flatten(), nn.Linear(units, 128), nn.ReLU(), nn.Dropout(hidden_dropout)),
                head=nn.Linear(128, classes),
            )
        )
