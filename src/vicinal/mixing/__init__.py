"""Mixing: what is mixed with what, where in the network and how strongly. Imports torch alone.

One equation describes the whole family::

    x~ = m * h_i + (1 - m) * h_partner(i)        at depth d of the network
    y~ = lam * y_i + (1 - lam) * y_partner(i)    with lam = mean(m)

A strategy chooses the mask ``m``, the depth ``d``, the law of lambda and the partners, and writes them down as a
:class:`MixPlan` before the forward pass; :func:`mixed_forward` carries the plan out on any ``nn.Module``.
"""

from vicinal.mixing.forward import MixPoints, mixed_forward
from vicinal.mixing.plan import MixPlan
from vicinal.mixing.strategies import CutMix, InputMixup, ManifoldMixup, NoMix, Strategy

__all__ = ["CutMix", "InputMixup", "ManifoldMixup", "MixPlan", "MixPoints", "NoMix", "Strategy", "mixed_forward"]
