"""U-Net: its size, and that no unmixed features go past a block that is mixed."""

import pytest
import torch
from torch import Tensor, nn

from vicinal.mixing import MixPlan, mixed_forward
from vicinal.models import block_names
from vicinal.models.torchvision_segmentation import torchvision_segmentation
from vicinal.models.unet import UNet

PARTNER = torch.tensor([1, 2, 0])


def swapped(network: nn.Module, images: Tensor, block: str) -> Tensor:
    return mixed_forward(network, images, MixPlan(torch.zeros(3), PARTNER, layer=block))


def test_the_number_of_weights() -> None:
    def convolutions(before: int, after: int) -> int:
        return 9 * before * after + 9 * after * after + 2 * 2 * after

    widths = [6, 12, 24]
    expected = convolutions(3, 6) + convolutions(6, 12) + convolutions(12, 24)
    expected += sum(4 * 2 * w * w + w + convolutions(2 * w, w) for w in widths[:2]) + 6 * 5 + 5
    network = UNet(3, 16, 5, width=6, depth=3)
    assert sum(weight.numel() for weight in network.parameters()) == expected
    assert block_names(network) == ("encoder1", "encoder2", "bottleneck", "decoder2", "decoder1")
    assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 5, 16, 16)


@pytest.mark.parametrize(
    "block", ["encoder1", "encoder2", "encoder3", "bottleneck", "decoder3", "decoder2", "decoder1"]
)
def test_all_of_a_sample_is_mixed_at_each_block(block: str) -> None:
    network, images = UNet(1, 16, 2, width=2).eval(), torch.randn(3, 1, 16, 16)
    with torch.no_grad():
        assert torch.allclose(swapped(network, images, block), network(images)[PARTNER], atol=1e-6)


@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"])
def test_all_of_a_sample_is_mixed_in_torchvisions_networks(name: str) -> None:
    network = torchvision_segmentation(1, 32, 3, name=name).eval()
    images, blocks = torch.randn(3, 1, 32, 32), block_names(network)
    with torch.no_grad():
        whole = network(images)
        assert whole.shape == (3, 3, 32, 32)
        for block in (blocks[0], blocks[-1]):
            assert torch.allclose(swapped(network, images, block), whole[PARTNER], atol=1e-5)


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"^image_size must be a multiple of 8 for depth=4, got 20"):
        UNet(1, 20, 2)
    for size in ((16, 20), (20, 16)):
        line = rf"^image_size must be a multiple of 8 in height and width for depth=4, got \[{size[0]},{size[1]}\]"
        with pytest.raises(ValueError, match=line):
            UNet(1, size, 2)
    with pytest.raises(ValueError, match=r"^depth must be at least 2, got 1"):
        UNet(1, 16, 2, depth=1)
    with pytest.raises(ValueError, match=r"^name must be one of torchvision.models.segmentation, such as fcn_resnet50"):
        torchvision_segmentation(3, 32, 2, name="fcn_resnet5")


def test_a_rectangle_has_the_scores_that_it_has_inside_a_larger_image() -> None:
    """Far from the border, a network of convolutions sees no difference."""
    torch.manual_seed(0)
    small, large = UNet(1, (96, 128), 3, width=2, depth=2).eval(), UNet(1, 160, 3, width=2, depth=2).eval()
    large.load_state_dict(small.state_dict())
    image = torch.randn(1, 1, 160, 160)
    with torch.no_grad():
        inside, whole = small(image[..., 32:128, 16:144]), large(image)[..., 32:128, 16:144]
    assert inside.shape == (1, 3, 96, 128)
    torch.testing.assert_close(inside[..., 20:-20, 20:-20], whole[..., 20:-20, 20:-20], rtol=1e-4, atol=1e-5)
    scores = torchvision_segmentation(1, (32, 48), 3, name="lraspp_mobilenet_v3_large").eval()(
        torch.randn(2, 1, 32, 48)
    )
    assert scores.shape == (2, 3, 32, 48)
