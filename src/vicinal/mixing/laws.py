"""Laws of lambda."""

import math

import torch
from torch import Tensor


def symmetric_beta(alpha: float, count: int, generator: torch.Generator) -> Tensor:
    """``count`` draws of Beta(alpha, alpha), float64, on the generator's device.

    If T is Student-t with 2*alpha degrees of freedom then (1 + T / sqrt(2*alpha + T^2)) / 2 is Beta(alpha, alpha);
    T comes from two uniforms by Bailey's polar method (R. W. Bailey, Mathematics of Computation 62, 1994; L. Devroye,
    "Random variate generation in one line of code", 1996). Closed form, so that every draw takes exactly two numbers
    from the generator whatever alpha is, and exact for alpha -> 0, where ratios of Gamma variates end in 0/0:
    T^2 may become infinite, and the draw is then 0 or 1.

    alpha = 0 is the limit in which nothing is mixed: every draw is 1.
    """
    radius = torch.empty(count, dtype=torch.float64).exponential_(generator=generator)  # -log(U)
    angle = torch.rand(count, dtype=torch.float64, generator=generator)
    if alpha == 0:
        return torch.ones(count, dtype=torch.float64)
    # In place, because for one number a batch the price is that of new tensors.
    cosine = angle.mul_(2 * math.pi).cos_()
    ratio = radius.div_(alpha).expm1_().mul_(cosine).mul_(cosine)  # T^2 / (2 alpha) = (U^(-1/alpha) - 1) cos(angle)^2
    share = ratio.add_(1).reciprocal_().neg_().add_(1)  # T^2 / (2 alpha + T^2), 1 where T^2 is infinite
    return share.sqrt_().copysign_(cosine).add_(1).div_(2)
