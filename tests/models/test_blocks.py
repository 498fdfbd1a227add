"""Block names: each is called exactly once in a forward, in the order given, and returns one tensor of the batch."""

from __future__ import annotations

import doctest
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from vicinal.models import block_names, blocks
from vicinal.models.cnn import CNN
from vicinal.models.mlp import MLP
from vicinal.models.preact_resnet import PreActResNet
from vicinal.models.resnet import resnet18
from vicinal.models.torchvision_zoo import torchvision_model
from vicinal.models.wide_resnet import WideResNet

STAGES = ("layer1", "layer2", "layer3", "layer4")


def features(*names: object) -> tuple[str, ...]:
    return tuple(f"features.{name}" for name in names)


def outputs_in_order(model: nn.Module, images: Tensor) -> list[tuple[str, object]]:
    calls: list[tuple[str, object]] = []
    for name in block_names(model):
        block = model.get_submodule(name)
        block.register_forward_hook(lambda module, args, output, name=name: calls.append((name, output)))
    model(images)
    return calls


def assert_blocks_run_once_in_order(model: nn.Module, images: Tensor) -> None:
    calls = outputs_in_order(model, images)
    assert tuple(name for name, _ in calls) == block_names(model)
    assert all(isinstance(output, Tensor) and len(output) == len(images) for _, output in calls)


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (CNN, ("block1", "block2", "hidden")),
        (partial(MLP, hidden=[8, 8, 8]), ("hidden1", "hidden2", "hidden3")),
        (partial(MLP, hidden=[]), ()),
        (partial(PreActResNet, width=4), STAGES),
        (partial(WideResNet, depth=10, width=1), STAGES[:3]),
        (resnet18, STAGES),
    ],
)
def test_our_networks(build, names):
    model = build(3, 16, 5)
    assert block_names(model) == names
    assert_blocks_run_once_in_order(model, torch.randn(3, 3, 16, 16))


FAMILIES = {
    "alexnet": features(2, 5, 12),
    "vgg11_bn": features(3, 7, 14, 21, 28),
    "resnet50": STAGES,
    "wide_resnet50_2": STAGES,
    "resnext50_32x4d": STAGES,
    "densenet121": features(
        "denseblock1", "transition1", "denseblock2", "transition2", "denseblock3", "transition3", "denseblock4"
    ),
    "squeezenet1_1": features(3, 4, 6, 7, 9, 10, 11, 12),
    "googlenet": (
        "conv1",
        "conv2",
        "conv3",
        *(f"inception{name}" for name in ["3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"]),
    ),
    "inception_v3": (
        *(f"Conv2d_{name}" for name in ["1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3"]),
        *(f"Mixed_{name}" for name in ["5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"]),
    ),
    "shufflenet_v2_x0_5": ("conv1", "stage2", "stage3", "stage4", "conv5"),
    "mobilenet_v2": features(*range(19)),
    "mobilenet_v3_small": features(*range(13)),
    "mnasnet0_5": tuple(f"layers.{index}" for index in range(8, 14)),
    "efficientnet_b0": features(*range(9)),
    "efficientnet_v2_s": features(*range(8)),
    "regnet_y_400mf": ("stem", *(f"trunk_output.block{index}" for index in range(1, 5))),
    "convnext_tiny": features(*range(8)),
    "swin_t": features(*range(8)),
    "swin_v2_t": features(*range(8)),
    "vit_b_32": tuple(f"encoder.layers.encoder_layer_{index}" for index in range(12)),
    "maxvit_t": ("stem", "blocks.0", "blocks.1", "blocks.2", "blocks.3"),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_torchvision_families(name):
    with torch.device("meta"):
        model = torchvision_model(3, 224, 10, name=name)
    assert block_names(model) == FAMILIES[name]
    assert_blocks_run_once_in_order(model, torch.empty(3, 3, 224, 224, device="meta"))


@pytest.mark.slow
def test_every_torchvision_network_has_blocks_that_run_once_in_order(monkeypatch):
    from torchvision import models

    # It changes no shape, and without a device takes two thirds of the time of all networks.
    monkeypatch.setattr(torch, "batch_norm", lambda x, *_: x)

    names = models.list_models(module=models)
    assert len(names) >= 80
    for name in names:
        with torch.device("meta"):
            model = torchvision_model(1, 224, 7, name=name)
        assert len(block_names(model)) >= 3, name
        assert_blocks_run_once_in_order(model, torch.empty(3, 1, 224, 224, device="meta"))


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        first, second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.body = nn.Sequential(first, nn.ReLU(), second)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Net(nn.Module):
    """A user's network: its parts one after the other, then a classifier."""

    def __init__(self, width: int = 8, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.classifier = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        for name, part in self.named_children():
            if name != "classifier":
                x = part(x)
        return self.classifier(x.mean((2, 3)))


def conv(channels: int = 3, width: int = 8) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())


def deep(count: int, width: int = 8) -> nn.Sequential:
    return nn.Sequential(*(Residual(width) for _ in range(count)))


USERS = {
    "a residual block is never opened": (Net(stem=nn.Conv2d(3, 8, 1), block=Residual(8)), ["block"]),
    "nor when it has most of the weights": (Net(stem=conv(), block=Residual(8)), ["stem", "block"]),
    "a body is opened": (Net(stem=conv(), body=deep(9)), ["stem", *(f"body.{i}" for i in range(9))]),
    "also when it is all there is": (Net(width=3, body=deep(2, width=3)), ["body.0", "body.1"]),
    "a wide layer is no body": (Net(width=64, small=conv(3, 4), wide=conv(4, 64)), ["small", "wide"]),
    "a chain without pools": (Net(features=nn.Sequential(*conv(3, 4), *conv(4, 8))), ["features.2", "features.5"]),
    "single layers are no blocks": (Net(conv=nn.Conv2d(3, 8, 3), relu=nn.ReLU()), []),
    "a plain Sequential": (nn.Sequential(*conv(), nn.MaxPool2d(6), nn.Flatten(), nn.Linear(8, 5)), ["3"]),
    "residual blocks in a Sequential": (
        nn.Sequential(conv(), Residual(8), nn.Flatten(), nn.Linear(288, 5)),
        ["0", "1"],
    ),
}


@pytest.mark.parametrize("case", USERS)
def test_networks_of_a_user(case):
    model, names = USERS[case]
    assert block_names(model) == tuple(names)
    assert_blocks_run_once_in_order(model, torch.randn(3, 3, 6, 6))


def test_wrapped_networks_have_the_blocks_of_what_they_wrap():
    for inner in (PreActResNet(3, 8, 5, width=4), resnet18(3, 8, 5)):
        averaged = torch.optim.swa_utils.AveragedModel(inner)
        assert block_names(averaged) == tuple(f"module.{name}" for name in STAGES)
        assert_blocks_run_once_in_order(averaged, torch.randn(3, 3, 8, 8))


def test_auxiliary_heads_and_attention_with_two_outputs_are_no_blocks():
    from torchvision.models import googlenet

    with torch.device("meta"):
        model = googlenet(aux_logits=True, init_weights=False)
    assert block_names(model) == FAMILIES["googlenet"]
    tokens = Net(embed=nn.Sequential(nn.Linear(4, 8), nn.ReLU()), attention=nn.MultiheadAttention(8, 2))
    assert block_names(tokens) == ("embed",)


def test_a_declared_tuple_has_the_last_word_and_a_module_list_called_blocks_has_not():
    declared = Net(stem=conv(), block=Residual(8))
    declared.blocks = ("stem.0",)
    assert block_names(declared) == ("stem.0",)
    listed = Net(patches=conv(), blocks=nn.ModuleList(Residual(8) for _ in range(2)))
    assert block_names(listed) == ("patches", "blocks.0", "blocks.1")


def test_the_example_in_the_docstring():
    assert doctest.testmod(blocks) == (0, 1)
