"""Our own networks against published parameter counts and against forwards written out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vicinal.models.airbench import Airbench
from vicinal.models.cnn import CNN
from vicinal.models.mlp import MLP
from vicinal.models.preact_resnet import PreActResNet
from vicinal.models.resnet import resnet18
from vicinal.models.vit import ViT
from vicinal.models.wide_resnet import WideResNet
from vicinal.utils.image_size import ImageSize, sides

State = dict[str, Tensor]


def small_models(channels: int, size: ImageSize, classes: int) -> list[nn.Module]:
    torch.manual_seed(0)
    return [
        CNN(channels, size, classes),
        MLP(channels, size, classes, hidden=[32, 16, 8], dropout=0.2),
        PreActResNet(channels, size, classes, width=4),
        PreActResNet(channels, size, classes, depth=34, width=4, final_norm=True),
        WideResNet(channels, size, classes, depth=16, width=1, dropout=0.3),
        resnet18(channels, size, classes),
        *([Airbench(channels, size, classes, width=4)] if min(sides(size)) >= 9 else []),
    ]


def on_meta(build, *args, **own) -> nn.Module:
    with torch.device("meta"):
        return build(*args, **own)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def preact_parameters(counts: list[int], stem: int, widths: list[int], classes: int, final_norm: bool) -> int:
    """Closed form: 3x3 stem on 3 channels; a block is 2a + 9ab + 2b + 9bb, and ab more where the shape changes."""
    total, previous = 3 * 9 * stem, stem
    for stage, (count, width) in enumerate(zip(counts, widths, strict=True)):
        for block in range(count):
            total += 2 * previous + 9 * previous * width + 2 * width + 9 * width * width
            total += previous * width if previous != width or (block == 0 and stage > 0) else 0
            previous = width
    return total + 2 * previous * final_norm + previous * classes + classes


@pytest.mark.parametrize(
    ("model", "published"),
    [
        (on_meta(CNN, 1, 28, 10), 1_199_882),  # keras and pytorch/examples
        (on_meta(MLP, 1, 28, 10, hidden=[300, 100]), 266_610),  # LeNet-300-100
        (on_meta(MLP, 1, 8, 10, hidden=[]), 650),
        (on_meta(PreActResNet, 3, 32, 10), 11_171_146),  # kuangliu/pytorch-cifar
        (on_meta(WideResNet, 3, 32, 10), 36_479_194),  # xternalz/WideResNet-pytorch
        (on_meta(WideResNet, 3, 32, 100), 36_536_884),
        (on_meta(WideResNet, 3, 32, 10, depth=16, width=4), 2_748_890),
        (on_meta(resnet18, 3, 32, 10), 11_173_962),  # kuangliu/pytorch-cifar
    ],
    ids=["cnn", "lenet-300-100", "softmax", "preact18", "wrn28-10", "wrn28-10-100", "wrn16-4", "resnet18"],
)
def test_parameter_count_is_the_published_one(model, published):
    assert parameters(model) == published


@pytest.mark.parametrize("width", [16, 64])
@pytest.mark.parametrize("final_norm", [False, True])
@pytest.mark.parametrize(("depth", "counts"), [(18, [2, 2, 2, 2]), (34, [3, 4, 6, 3])])
def test_preact_parameter_count_is_the_closed_form(depth, counts, width, final_norm):
    model = on_meta(PreActResNet, 3, 32, 10, depth=depth, width=width, final_norm=final_norm)
    expected = preact_parameters(counts, width, [width, 2 * width, 4 * width, 8 * width], 10, final_norm)
    assert parameters(model) == expected


@pytest.mark.parametrize(("depth", "width"), [(10, 1), (22, 2), (40, 4)])
def test_wide_parameter_count_is_the_closed_form(depth, width):
    expected = preact_parameters([(depth - 4) // 6] * 3, 16, [16 * width, 32 * width, 64 * width], 10, True)
    assert parameters(on_meta(WideResNet, 3, 32, 10, depth=depth, width=width)) == expected


def norm_relu(x: Tensor, state: State, name: str, training: bool) -> Tensor:
    mean, variance = state[f"{name}.running_mean"].clone(), state[f"{name}.running_var"].clone()
    x = F.batch_norm(x, mean, variance, state[f"{name}.weight"], state[f"{name}.bias"], training)
    return x.clamp(min=0)


def functional_preact(
    x: Tensor, state: State, counts: list[int], final_norm: str | None, training: bool, mixup_cifar10: bool = False
) -> Tensor:
    """The network from its weights alone: every stage but the first has stride 2 in its first block.

    mixup_cifar10: as in that repository, with a BN-ReLU after the stem and every shortcut from the activated input.
    """
    x = F.conv2d(x, state["stem.0.weight" if mixup_cifar10 else "stem.weight"], padding=1)
    if mixup_cifar10:
        x = norm_relu(x, state, "stem.1", training)
    for stage, count in enumerate(counts, start=1):
        for block in range(count):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            activated = norm_relu(x, state, f"{name}.norm1", training)
            x = activated if mixup_cifar10 else x
            if f"{name}.shortcut.weight" in state:
                x = F.conv2d(activated, state[f"{name}.shortcut.weight"], stride=stride)
            hidden = F.conv2d(activated, state[f"{name}.conv1.weight"], stride=stride, padding=1)
            hidden = norm_relu(hidden, state, f"{name}.norm2", training)
            x = x + F.conv2d(hidden, state[f"{name}.conv2.weight"], padding=1)
    if final_norm:
        x = norm_relu(x, state, final_norm, training)
    return F.linear(x.flatten(2).mean(2), state["head.weight"], state["head.bias"])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("build", "counts", "final_norm", "mixup_cifar10"),
    [
        (lambda: PreActResNet(3, 17, 10, width=8), [2, 2, 2, 2], None, False),
        (
            lambda: PreActResNet(3, 17, 10, width=8, stem_norm=True, activated_shortcut=True),
            [2, 2, 2, 2],
            None,
            True,
        ),
        (lambda: PreActResNet(3, 17, 10, depth=34, width=4, final_norm=True), [3, 4, 6, 3], "norm.0", False),
        (lambda: WideResNet(3, 17, 10, depth=16, width=2), [2, 2, 2], "norm", False),
    ],
    ids=["preact18", "preact18-mixup-cifar10", "preact34-final-norm", "wrn16-2"],
)
def test_residual_networks_equal_a_functional_forward(build, counts, final_norm, mixup_cifar10, training):
    torch.manual_seed(1)
    model = build().train(training)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # fresh statistics and scales would hide a swapped norm
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    images = torch.randn(4, 3, 17, 17)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = functional_preact(images, state, counts, final_norm, training, mixup_cifar10)
    torch.testing.assert_close(model(images), expected, rtol=1e-6, atol=1e-6)


def test_cnn_and_mlp_equal_a_functional_forward():
    torch.manual_seed(2)
    images = torch.randn(5, 2, 11, 11)
    cnn = CNN(2, 11, 3).eval()
    w = cnn.state_dict()
    x = F.conv2d(images, w["block1.0.weight"], w["block1.0.bias"]).relu()
    x = F.max_pool2d(F.conv2d(x, w["block2.0.weight"], w["block2.0.bias"]).relu(), 2).flatten(1)
    x = F.linear(x, w["hidden.1.weight"], w["hidden.1.bias"]).relu()
    torch.testing.assert_close(cnn(images), F.linear(x, w["head.weight"], w["head.bias"]), rtol=1e-6, atol=1e-6)

    mlp = MLP(2, 11, 3, hidden=[7, 5]).eval()
    w = mlp.state_dict()
    x = F.linear(images.flatten(1), w["hidden1.0.weight"], w["hidden1.0.bias"]).relu()
    x = F.linear(x, w["hidden2.0.weight"], w["hidden2.0.bias"]).relu()
    torch.testing.assert_close(mlp(images), F.linear(x, w["head.weight"], w["head.bias"]), rtol=1e-6, atol=1e-6)


def test_resnet18_keeps_the_resolution_up_to_layer1_and_is_torchvisions_from_there():
    from torchvision.models import resnet18 as torchvisions

    torch.manual_seed(3)
    ours, theirs = resnet18(3, 32, 10).eval(), torchvisions(num_classes=10).eval()
    state = theirs.state_dict()
    ours.load_state_dict({name: tensor for name, tensor in state.items() if name != "conv1.weight"}, strict=False)
    images = torch.randn(2, 3, 32, 32)
    stem = F.relu(theirs.bn1(F.conv2d(images, ours.conv1.weight, padding=1)))
    hidden = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(stem))))
    assert hidden.shape == (2, 512, 4, 4)
    torch.testing.assert_close(ours(images), theirs.fc(hidden.mean((2, 3))), rtol=1e-5, atol=1e-5)


def test_wide_resnet_has_he_normal_convolutions_and_a_zero_classifier_bias():
    torch.manual_seed(4)
    model = WideResNet(3, 32, 10, depth=10, width=4)
    assert model.layer3[0].conv2.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 256)), rel=0.01)
    assert model.head.bias.abs().max() == 0


def test_dropout_sits_between_the_convolutions_of_a_wide_block():
    torch.manual_seed(5)
    block = WideResNet(3, 8, 10, depth=10, width=1, dropout=0.4).layer1[0].train()
    seen = {}
    block.conv2.register_forward_pre_hook(lambda module, args: seen.update(hidden=args[0]))
    block.norm2.register_forward_hook(lambda module, args, output: seen.update(norm=output))
    block(torch.randn(64, 16, 8, 8))
    dropped = (seen["hidden"] == 0) & (seen["norm"] > 0)
    assert (dropped.sum() / (seen["norm"] > 0).sum()).item() == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize(("channels", "size", "classes"), [(1, 8, 10), (3, 13, 2), (4, 32, 7)])
def test_logits_are_not_probabilities_and_one_image_is_enough_in_evaluation(channels, size, classes):
    for model in small_models(channels, size, classes):
        images = torch.randn(6, channels, size, size)
        logits = model.eval()(images)
        assert logits.shape == (6, classes)
        assert logits.min() < 0
        assert (logits.sum(1) - 1).abs().max() > 1e-3
        torch.testing.assert_close(model(images[:1]), logits[:1], rtol=1e-4, atol=1e-5)


DEPTHS = "must be 6n + 4 with n >= 1: 10, 16, 22, 28, ... up to 1000"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CNN(1, 5, 10), "image_size must be at least 6 for CNN, got 5"),
        (lambda: CNN(1, 8, 10, conv_dropout=1.0), "conv_dropout must be a probability in [0, 1), got 1.0"),
        (lambda: CNN(1, 8, 10, hidden_dropout=-0.1), "hidden_dropout must be a probability in [0, 1), got -0.1"),
        (lambda: MLP(1, 8, 10, dropout=math.nan), "dropout must be a probability in [0, 1), got nan"),
        (lambda: MLP(1, 8, 10, hidden=[8, 0]), "hidden: every layer must have at least 1 unit, got [8, 0]"),
        (lambda: PreActResNet(1, 7, 10), "image_size must be at least 8 for PreActResNet, got 7"),
        (lambda: PreActResNet(1, 8, 10, depth=50), "depth must be 18 or 34, got 50"),
        (lambda: PreActResNet(1, 8, 10, width=0), "width must be at least 1, got 0"),
        (lambda: WideResNet(1, 8, 10, depth=27), f"depth {DEPTHS}, got 27"),
        (lambda: WideResNet(1, 8, 10, depth=4), f"depth {DEPTHS}, got 4"),
        (lambda: WideResNet(1, 8, 10, depth=1006), f"depth {DEPTHS}, got 1006"),
        (lambda: WideResNet(1, 8, 10, width=0), "width must be at least 1, got 0"),
        (lambda: WideResNet(1, 8, 10, dropout=1.5), "dropout must be a probability in [0, 1), got 1.5"),
        (lambda: WideResNet(1, 3, 10), "image_size must be at least 4 for WideResNet, got 3"),
        (lambda: resnet18(1, 7, 10), "image_size must be at least 8 for resnet18, got 7"),
        (lambda: Airbench(1, 8, 10), "image_size must be at least 9 for Airbench, got 8"),
        (lambda: Airbench(1, 9, 10, width=0), "width must be at least 1, got 0"),
        (lambda: Airbench(1, 9, 10, scale=0.0), "scale must be > 0, got 0.0"),
    ],
)
def test_out_of_range_is_refused_in_one_line(build, message):
    with pytest.raises(ValueError, match=r"^[a-z_]+[ :]") as refusal:
        build()
    assert str(refusal.value) == message


RECTANGLE = (12, 20)


def test_rectangles_go_through() -> None:
    """As wide as high or not: a network that keeps the places has so many more weights, the others have as many."""
    torch.manual_seed(0)
    squares = {"CNN": 64 * 4 * 4, "MLP": 3 * 12 * 12, "ViT": 3 * 3}
    rectangles = {"CNN": 64 * 4 * 8, "MLP": 3 * 12 * 20, "ViT": 3 * 5}
    units = {"CNN": 128, "MLP": 32, "ViT": 96}
    both = [[*small_models(3, size, 10), ViT(3, size, 10)] for size in (12, RECTANGLE)]
    for square, model in zip(*both, strict=True):
        images = torch.randn(6, 3, *RECTANGLE)
        logits = model.eval()(images)
        assert logits.shape == (6, 10)
        torch.testing.assert_close(model(images[:1]), logits[:1], rtol=1e-4, atol=1e-5)
        name = type(model).__name__
        more = (rectangles.get(name, 0) - squares.get(name, 0)) * units.get(name, 0)
        assert parameters(model) - parameters(square) == more


def test_patches_of_a_rectangle_are_a_grid_row_by_row() -> None:
    """One row of patches is looked at as an image of its own would be, but for its positions."""
    model = ViT(3, RECTANGLE, 10).eval()
    images = torch.randn(2, 3, *RECTANGLE)
    patches = model.patches(images).flatten(2)
    assert patches.shape == (2, 96, 15)
    torch.testing.assert_close(patches[..., 5:10], model.patches(images[:, :, 4:8]).flatten(2))


@pytest.mark.parametrize("size", [(5, 20), (20, 5)])
def test_the_shorter_side_has_to_be_large_enough(size: tuple[int, int]) -> None:
    for build, least in ((CNN, 6), (PreActResNet, 8), (resnet18, 8)):
        with pytest.raises(ValueError, match=f"^image_size must be at least {least} for {build.__name__}, got 5$"):
            build(3, size, 10)
    assert WideResNet(3, size, 10, depth=10, width=1)(torch.randn(2, 3, *size)).shape == (2, 10)
    with pytest.raises(ValueError, match=r"^image_size must be at least 4 for WideResNet, got 3$"):
        WideResNet(3, (3, 9), 10)
    for patch, pair in ((8, (12, 16)), (5, (15, 12))):
        with pytest.raises(ValueError, match=rf"^patch must divide image_size, \[{pair[0]},{pair[1]}\], got {patch}$"):
            ViT(3, pair, 10, patch=patch)
