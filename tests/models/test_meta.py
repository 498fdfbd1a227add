"""Networks without memory for their weights."""

import torch
from torch import nn

from vicinal.models.meta import built


class Measured(nn.Module):
    """It computes with its weights as it is made, as the hybrids of timm do to learn the size of their features."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 5, 2), nn.BatchNorm2d(5))
        with torch.no_grad():
            self.size = self.layers(torch.zeros(1, 3, 8, 8)).shape[-1]


def test_a_network_that_computes_as_it_is_made() -> None:
    state = torch.get_rng_state()
    with torch.device("meta"):
        model = built(Measured)
    assert model.size == 7
    assert [part.device.type for part in model.parameters()] == ["meta"] * 4
    assert torch.equal(torch.get_rng_state(), state)
