"""How a network behaves on the line between two images: errors, and how fast its output changes.

After arXiv 1710.09412, figure 2, which draws both between training images; here they are images of the test set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from vicinal.data import Images
from vicinal.errors import UserError
from vicinal.mixing import MixPlan
from vicinal.visualize.stored import stored

PAIRS = 200
PLACES = 11
"""Values of lambda, evenly from 0 to 1."""
BATCH = 100


@dataclass(frozen=True)
class Between:
    """One model on the lines between pairs, at P places.

    Attributes:
        pairs: whose lines these are.
        lam: (P,), weight of the first image of a pair, from 0 to 1.
        miss: (P,), share of pairs for which the predicted class is that of neither end.
        gradient: (P,), mean over the pairs of the Frobenius norm of the Jacobian of the logits with respect to the
            image, pixels in [0, 1]: by how much the logits change for a change of the image by 1.
    """

    pairs: int
    lam: Tensor
    miss: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class Line:
    """What is drawn of one run."""

    name: str
    cell_id: str
    strategy: str
    seed: int
    between: Between


class Normalised(nn.Module):
    """A model that takes pixels in [0, 1]."""

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        self.mean, self.std = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model((images - self.mean) / self.std)
        return logits


def lines(
    runs: Sequence[Path], overrides: Sequence[str] = (), pairs: int = PAIRS, trusted: Sequence[str] = ()
) -> list[Line]:
    """Every run on the same pairs of test images.

    Raises:
        UserError: a run cannot be loaded, or the test images of two runs are not the same.
    """
    found: list[Line] = []
    shown: tuple[Tensor, Tensor] | None = None
    for path in runs:
        run = stored(path, overrides, trusted)
        images, labels = chain(run.test, pairs)
        if shown is not None and not all(map(torch.equal, shown, (images, labels))):
            raise UserError(f"{path}: its test images are not those of {runs[0]}, so the two cannot be compared")
        shown = images, labels
        each = between(Normalised(run.model, run.mean, run.std).eval(), images.float() / 255, labels)
        found.append(Line(run.name, run.cell_id, run.strategy, run.seed, each))
    return found


def chain(test: Images, pairs: int) -> tuple[Tensor, Tensor]:
    """Images whose neighbours are the pairs, (pairs, C, H, W) uint8 and (pairs,): random, the same for every run."""
    count = min(pairs, len(test.labels))
    chosen = torch.randperm(len(test.labels), generator=torch.Generator().manual_seed(0))[:count]
    some = test.choose(chosen)
    return some.pixels(), some.labels


def between(model: nn.Module, images: Tensor, labels: Tensor, places: int = PLACES) -> Between:
    """Errors and gradients between each image and the next; the last one's partner is the first.

    Args:
        model: (B, C, H, W) -> logits (B, K), in evaluation mode.
        images: (N, C, H, W).
        labels: (N,) int64.
        places: values of lambda.
    """
    lam = torch.linspace(0, 1, places)
    partner = torch.arange(1, len(labels) + 1) % len(labels)
    misses, norms = [], []
    for each in lam:
        mixed = MixPlan(each.expand(len(labels)), partner).mix(images)
        logits, norm = zip(*(jacobian_norm(model, some) for some in torch.split(mixed, BATCH)), strict=True)
        predicted = torch.cat(logits).argmax(dim=1)
        misses.append(((predicted != labels) & (predicted != labels[partner])).float().mean())
        norms.append(torch.cat(norm).mean())
    return Between(len(labels), lam, torch.stack(misses), torch.stack(norms))


def jacobian_norm(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, K), and (B,) the Frobenius norm of each sample's Jacobian: K backward passes for the whole batch."""
    images = images.detach().requires_grad_()
    logits: Tensor = model(images)
    squares = torch.zeros(len(images))
    for logit in logits.sum(dim=0):  # in evaluation mode a sample's logits depend on no other sample
        (gradient,) = torch.autograd.grad(logit, images, retain_graph=True)
        squares += gradient.flatten(1).square().sum(dim=1)
    return logits.detach(), squares.sqrt()
