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
    the logarithm of T^2 is used, which cannot overflow.

    alpha = 0 is the limit in which nothing is mixed: every draw is 1.
    """
    radius = torch.empty(count, dtype=torch.float64).exponential_(generator=generator)  # -log(U)
    angle = torch.rand(count, dtype=torch.float64, generator=generator)
    if alpha == 0:
        return torch.ones(count, dtype=torch.float64)
    # log(T^2 / (2 alpha)) = log(U^(-1/alpha) - 1) + log(cos(angle)^2)
    scaled = radius / alpha
    cosine = torch.cos(2 * math.pi * angle)
    log_ratio = scaled + torch.log(-torch.expm1(-scaled)) + 2 * torch.log(cosine.abs())
    return (1 + cosine.sign() * torch.sigmoid(log_ratio).sqrt()) / 2
