"""Policies against torchvision's own draws, and that torch's generators do not see them."""

import pytest
import torch
from torchvision.transforms import v2

from vicinal.data.policies import POLICIES, Policy

every_policy = pytest.mark.parametrize("name", POLICIES)


@every_policy
@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_is_changed_as_by_torchvision(name: str, channels: int) -> None:
    images = torch.randint(0, 256, (8, channels, 12, 12), dtype=torch.uint8)
    policy, transform = Policy(name), getattr(v2, POLICIES[name])()
    seed = policy.sample(torch.Generator().manual_seed(3))
    torch.manual_seed(seed)
    expected = torch.stack([transform(image) for image in images])
    assert not torch.equal(expected, images)
    assert torch.equal(policy.apply(images, seed), expected)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@every_policy
def test_torchs_generators_are_left_alone(name: str, device: str) -> None:
    """Dropout draws from them during an epoch."""
    images = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8, device=device)
    before, own = torch.get_rng_state(), images.clone()
    there = torch.cuda.get_rng_state() if device == "cuda" else before
    changed = Policy(name).apply(images, seed=5)
    assert changed.dtype == torch.uint8
    assert torch.equal(images, own)
    assert torch.equal(torch.get_rng_state(), before)
    if device == "cuda":
        assert torch.equal(torch.cuda.get_rng_state(), there)
    torch.rand(3, device=device)
    assert torch.equal(Policy(name).apply(images, seed=5), changed)
    assert not torch.equal(Policy(name).apply(images, seed=6), changed)
