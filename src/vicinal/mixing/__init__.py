"""Mixing: which samples are mixed, where in the network and how strongly. Imports torch alone.

One equation describes the whole family::

    x~ = m * h_i + (1 - m) * h_partner(i)        at depth d of the network
    y~ = lam * y_i + (1 - lam) * y_partner(i)    with lam = mean(m)

A strategy chooses the mask ``m``, the depth ``d``, the law of lambda and the partners. It returns them as a
:class:`MixPlan` before the forward pass, and :func:`mixed_forward` carries out the plan in any ``nn.Module``.
"""

from vicinal.mixing.forward import mixed_forward
from vicinal.mixing.mixup import Mixup
from vicinal.mixing.plan import MixPlan
from vicinal.mixing.strategies import CutMix, InputMixup, ManifoldMixup
from vicinal.mixing.strategy import NoMix, Strategy

__all__ = ["CutMix", "InputMixup", "ManifoldMixup", "MixPlan", "Mixup", "NoMix", "Strategy", "mixed_forward"]
