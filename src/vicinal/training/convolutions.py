"""Keep strided convolutions away from CPU kernels whose results are wrong."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

NARROW = 16  # input channels from which a strided 1x1 convolution is right: those of one AVX-512 register

Pair = tuple[int, ...]  # rows and columns


def avoid_faults(model: nn.Module, precision: str) -> None:
    """Apply the stride of a convolution to its input beforehand where a CPU kernel of oneDNN fails.

    Both faults are in torch 2.15:

    - 1x1 and fewer than 16 input channels (channels_last, fp32): the gradient of the weights writes past its workspace,
      https://github.com/uxlfoundation/oneDNN/issues/6035. Training crashes, or continues in damaged memory. The pixels
      that the stride skips are removed first: the same bits, by another kernel.
    - Images so small that the output has one column (bf16 with AMX): results and gradients contain uninitialised
      memory. The kernel fits in one place there, and the image is cut to it.

    All other layers are unchanged. A convolution that a network calls as a function is not found.

    Args:
        model: on the CPU; its layers keep their weights and get hooks.
        precision: fp32 or bf16.
    """
    for module in model.modules():
        if not isinstance(module, nn.Conv2d) or max(module.stride) == 1 or module.padding_mode != "zeros":
            continue
        padding = (0, 0) if isinstance(module.padding, str) else module.padding  # "same" has no stride
        pointwise = module.kernel_size == (1, 1) and module.groups == 1 and padding == (0, 0)
        if pointwise and module.in_channels < NARROW:
            module.register_forward_pre_hook(partial(_subsample, module.stride))
            module.stride = (1, 1)
        elif precision == "bf16":
            module.register_forward_pre_hook(partial(_cut, module.stride, padding))


def _subsample(stride: Pair, conv: nn.Conv2d, inputs: tuple[Tensor]) -> Tensor:
    """Return the pixels (..., H, W) that the stride does not skip."""
    return inputs[0][..., :: stride[0], :: stride[1]]


def _cut(stride: Pair, padding: Pair, conv: nn.Conv2d, inputs: tuple[Tensor]) -> Tensor:
    """Return the part (..., H', W') of the padded images that the kernel sees along each axis where it has one place.

    There, the layer's own stride and padding become 1 and 0. Where the output has several columns, nothing changes.
    """
    images = inputs[0]
    rows, columns = (
        _one_place(images.shape[axis], conv.kernel_size[axis], stride[axis], padding[axis], conv.dilation[axis])
        for axis in (-2, -1)
    )
    if columns is None:
        conv.stride, conv.padding = stride, padding
        return images
    conv.stride = (stride[0] if rows is None else 1, 1)
    conv.padding = (padding[0] if rows is None else 0, 0)
    return F.pad(images, (*columns, *(rows or (0, 0))))


def _one_place(size: int, kernel: int, stride: int, padding: int, dilation: int) -> Pair | None:
    """Return zeros to add before and after (negative: pixels to cut) for the kernel to fit in one place; else None."""
    free = size + 2 * padding - (dilation * (kernel - 1) + 1)
    return (padding, padding - free) if 0 <= free < stride else None
