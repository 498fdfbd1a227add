"""Weights that an optimizer treats differently: the biases of normalisation layers, by a learning rate of their own."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torch.nn.modules.batchnorm import _NormBase  # of batch and instance norm
from torch.optim import Optimizer

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)


def norm_biases(model: nn.Module) -> list[nn.Parameter]:
    """Return the biases of all normalisation layers that are trained."""
    biases = (module.bias for module in model.modules() if isinstance(module, NORMS))
    return [bias for bias in biases if isinstance(bias, nn.Parameter) and bias.requires_grad]


def grouped(make_optimizer: Callable[..., Optimizer], model: nn.Module, norm_bias_lr: float = 1.0) -> Optimizer:
    """Return the optimizer of a model, whose first group of parameters is all but the biases of normalisation layers.

    The learning rate of these biases is ``norm_bias_lr`` times that of the others. Their weight decay is divided by it,
    so that a step of SGD or AdamW decays them as before: it is multiplied by the learning rate (arXiv 2404.00498,
    section 3.4). Adam's is part of the gradient, whose size a step does not follow. With the factor 1 there is one
    group.
    """
    if norm_bias_lr == 1:
        return make_optimizer(params=model.parameters())
    biases = norm_biases(model)
    apart = {id(bias) for bias in biases}
    others = [weights for weights in model.parameters() if id(weights) not in apart]
    optimizer = make_optimizer(params=[{"params": others}, {"params": biases}])
    group = optimizer.param_groups[1]
    group["lr"] *= norm_bias_lr
    if "weight_decay" in group:
        group["weight_decay"] /= norm_bias_lr
    return optimizer
