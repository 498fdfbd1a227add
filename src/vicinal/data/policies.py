"""Augmentation policies of torchvision, after crop and flip."""

import torch
from torch import Tensor

POLICIES = {"augmix": "AugMix", "randaugment": "RandAugment", "trivialaugment": "TrivialAugmentWide"}
"""Classes of ``torchvision.transforms.v2``, whose defaults are used.

Its AugMix also changes brightness, colour, contrast and sharpness (``all_ops``), which the paper leaves out, since they
are among the corruptions that it tests with.
"""


class Policy:
    """AugMix (arXiv 1912.02781), RandAugment (1909.13719) or TrivialAugment Wide (2103.10158), another draw per image.

    Of AugMix the images alone, without its consistency loss. An image of 3 x 32 x 32 takes about 1.2, 0.36 and 0.15 ms
    of one core (Intel Xeon, torchvision 0.29). Images have 1 or 3 channels; of a grey one the colour stays as it is.
    """

    def __init__(self, name: str) -> None:
        from torchvision.transforms import v2  # takes two seconds

        self._transform = getattr(v2, POLICIES[name])()

    def sample(self, generator: torch.Generator) -> int:
        """Draw the seed of a batch on a CPU generator."""
        return int(torch.randint(2**63 - 1, (), generator=generator))

    def apply(self, images: Tensor, seed: int) -> Tensor:
        """Return the changed images, (B, C, H, W) uint8; they stay as they were, and so do torch's generators.

        Torchvision draws from torch's default generators, that of the images' GPU too.
        """
        with torch.random.fork_rng(devices=[images.device] if images.is_cuda else [], device_type="cuda"):
            torch.manual_seed(seed)
            return torch.stack([self._transform(image) for image in images])
