"""Gradients of every network, as CPU kernels compute them, against float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vicinal.models.airbench import Airbench
from vicinal.models.cnn import CNN
from vicinal.models.mlp import MLP
from vicinal.models.preact_resnet import PreActResNet
from vicinal.models.resnet import resnet18
from vicinal.models.torchvision_zoo import torchvision_model
from vicinal.models.wide_resnet import WideResNet
from vicinal.training.convolutions import avoid_faults
from vicinal.training.hardware import DTYPES

pytestmark = pytest.mark.slow

LARGER = 10  # pixels per side of the images of a network that 8 are too few for
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "airbench, width 4": partial(Airbench, 3, LARGER, 10, width=4),
    "airbench": partial(Airbench, 3, LARGER, 10),
    "cnn": partial(CNN, 3, 8, 10),
    "mlp": partial(MLP, 3, 8, 10),
    **{f"preact18, width {width}": partial(PreActResNet, 3, 8, 10, width=width) for width in (1, 2, 4, 8, 16, 64)},
    "preact18 of mixup-cifar10": partial(PreActResNet, 3, 8, 10, width=8, stem_norm=True, activated_shortcut=True),
    "preact34, width 4": partial(PreActResNet, 3, 8, 10, depth=34, width=4, final_norm=True),
    "preact34, width 64": partial(PreActResNet, 3, 8, 10, depth=34),
    "wrn16-1": partial(WideResNet, 3, 8, 10, depth=16, width=1),
    "wrn16-2": partial(WideResNet, 3, 8, 10, depth=16, width=2),
    "wrn28-10": partial(WideResNet, 3, 8, 10),
    "resnet18": partial(resnet18, 3, 8, 10),
    "torchvision's resnet18": partial(torchvision_model, 3, 8, 10, name="resnet18"),
}
TOLERANCE = {"fp32": 1e-5, "bf16": 1e-2}
"""Of a layer's gradients, as a share of their norm. bf16 has 8 bits: what it multiplies is off by 1 part in 500."""
WHOLE = 1e-4
"""Of a network's gradient in fp32."""


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = NETWORKS[name]().train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.requires_grad_()  # what stays as it is in training, too


def off(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


def gradients(layer: nn.Module, inputs: Tensor, of_outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Of the weights and of the inputs."""
    inputs = inputs.detach().requires_grad_()
    layer.zero_grad()
    outputs = layer(inputs)
    assert outputs.dtype is of_outputs.dtype
    outputs.backward(of_outputs)
    assert isinstance(layer.weight, Tensor)
    assert layer.weight.grad is not None
    assert inputs.grad is not None
    return layer.weight.grad.clone(), inputs.grad


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_equal_those_in_float64(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the network in fp32; of each layer alone in both precisions.

    Without kinks: near 0, rounding would decide whether ReLU lets a gradient through.
    """
    monkeypatch.setattr("torch.nn.functional.relu", lambda hidden, inplace=False: F.silu(hidden))
    model = build(name)
    side = LARGER if name.startswith("airbench") else 8
    images, labels = torch.randn(8, 3, side, side), torch.arange(8)
    exact = copy.deepcopy(model).double()
    layers = {path: layer for path, layer in exact.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    seen: dict[str, tuple[str, Tensor, Tensor]] = {}

    def see(path: str, layer: nn.Module, inputs: tuple[Tensor], outputs: Tensor) -> None:
        outputs.retain_grad()
        seen[f"{layer} {inputs[0].shape}"] = path, inputs[0].detach(), outputs  # of equal ones the last will do

    hooks = [layer.register_forward_hook(partial(see, path)) for path, layer in layers.items()]
    F.cross_entropy(exact(images.double()), labels).backward()
    for hook in hooks:
        hook.remove()
    whole = flat(exact)
    alone = []
    for path, inputs, outputs in seen.values():
        assert outputs.grad is not None
        alone.append((path, inputs, outputs.grad, gradients(layers[path], inputs, outputs.grad)))

    for layout, precision in product((torch.channels_last, torch.contiguous_format), TOLERANCE):
        ours = copy.deepcopy(model).to(memory_format=layout)  # type: ignore[call-overload]
        avoid_faults(ours, precision)
        if precision == "fp32":
            F.cross_entropy(ours(images.to(memory_format=layout)), labels).backward()
            assert off(flat(ours), whole) < WHOLE
        for path, inputs, of_outputs, expected in alone:
            given = inputs.float().contiguous(memory_format=layout if inputs.ndim == 4 else torch.contiguous_format)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
                found = gradients(ours.get_submodule(path), given, of_outputs.to(DTYPES.get(precision, torch.float32)))
            for each, exactly in zip(found, expected, strict=True):
                assert off(each, exactly) < TOLERANCE[precision], (path, layout, precision)


def flat(model: nn.Module) -> Tensor:
    return torch.cat([weights.grad.double().flatten() for weights in model.parameters() if weights.grad is not None])
