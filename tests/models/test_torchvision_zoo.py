"""torchvision's networks: channels, classes, one output in both modes, names, no weights in memory on meta."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from vicinal.models.torchvision_zoo import torchvision_model

# name: parameters of the ImageNet network in torchvision's documentation
DOCUMENTED = {
    "alexnet": 61_100_840,
    "convnext_tiny": 28_589_128,
    "densenet121": 7_978_856,
    "efficientnet_b0": 5_288_548,
    "googlenet": 6_624_904,
    "maxvit_t": 30_919_624,
    "regnet_y_400mf": 4_344_144,
    "resnet18": 11_689_512,
    "squeezenet1_1": 1_235_496,
    "swin_t": 28_288_354,
    "vit_b_16": 86_567_656,
}


def first_convolution(model: nn.Module) -> nn.Conv2d:
    return next(module for module in model.modules() if isinstance(module, nn.Conv2d))


@pytest.mark.parametrize("name", DOCUMENTED)
def test_parameter_counts_with_3_and_with_1_channel(name):
    with torch.device("meta"):
        model, gray = torchvision_model(3, 224, 1000, name=name), torchvision_model(1, 224, 1000, name=name)
    assert sum(parameter.numel() for parameter in model.parameters()) == DOCUMENTED[name]
    fewer = first_convolution(model).weight.numel() * 2 // 3
    assert sum(parameter.numel() for parameter in gray.parameters()) == DOCUMENTED[name] - fewer
    assert all(tensor.is_meta for tensor in gray.state_dict().values())


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("name", ["resnet18", "googlenet", "shufflenet_v2_x0_5"])
def test_one_tensor_of_logits_in_both_modes(name, channels):
    torch.manual_seed(0)
    model = torchvision_model(channels, 33, 4, name=name)
    assert first_convolution(model).weight.shape[1] == first_convolution(model).in_channels == channels
    logits = model.train()(torch.randn(3, channels, 33, 33))
    assert logits.shape == (3, 4)
    logits.sum().backward()
    assert first_convolution(model).weight.grad.abs().sum() > 0
    assert model.eval()(torch.randn(1, channels, 33, 33)).shape == (1, 4)


def test_three_channels_leave_torchvisions_weights_as_they_are():
    from torchvision.models import mobilenet_v3_small

    torch.manual_seed(7)
    ours = torchvision_model(3, 32, 10, name="mobilenet_v3_small").state_dict()
    torch.manual_seed(7)
    theirs = mobilenet_v3_small(num_classes=10).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_vision_transformer_is_built_for_the_image_size():
    with torch.device("meta"):
        model = torchvision_model(1, 32, 10, name="vit_b_16")
    assert model.encoder.pos_embedding.shape == (1, 1 + 4, 768)
    assert model(torch.empty(2, 1, 32, 32, device="meta")).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("resnet19", "resnet18 or resnet152 or resnet101"),
        ("vit", "vit_l_32 or vit_l_16 or vit_h_14"),
        ("no such network", "resnet18 or vit_b_16"),
        ("fasterrcnn_resnet50_fpn", None),  # a detector is no classification network
    ],
)
def test_an_unknown_name_is_refused_with_close_ones(name, suggestion):
    expected = f"^name must be a classification model of torchvision.models, such as {suggestion or '.*'}, got {name}$"
    with pytest.raises(ValueError, match=expected):
        torchvision_model(3, 32, 10, name=name)


def test_importing_the_networks_does_not_import_torchvision():
    modules = ["cnn", "mlp", "preact_resnet", "wide_resnet", "resnet", "torchvision_zoo"]
    imports = "; ".join(f"import vicinal.models.{module}" for module in modules)
    code = f"{imports}; import sys; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
