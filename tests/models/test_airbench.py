"""The network of fast trainings: its size, its weights before training, and its forward from the weights alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.data.test_imagefolder import write_tree
from vicinal import build
from vicinal.experiment import Experiment
from vicinal.jobs.session import new_training
from vicinal.models import block_names
from vicinal.models.airbench import EPS, Airbench
from vicinal.tracking.tracker import Tracker
from vicinal.training.parameter_groups import grouped


def smooth(count: int, channels: int, side: int, seed: int = 0) -> Tensor:
    """Images whose neighbouring pixels and channels are alike, as in photographs."""
    generator = torch.Generator().manual_seed(seed)
    grey = torch.randn(count, 1, side + 2, side + 2, generator=generator)
    colour = torch.randn(count, channels, side + 2, side + 2, generator=generator)
    return F.avg_pool2d(grey + 0.3 * colour, 3, 1)


def closed_form(channels: int, width: int, classes: int) -> tuple[int, int]:
    """All parameters, and those that are trained."""
    patch = 4 * channels
    filters, pairs = 2 * patch, ((2 * patch, width), (width, 4 * width), (4 * width, 4 * width))
    convolutions = sum(9 * a * b + 9 * b * b for a, b in pairs)
    norms = 2 * sum(b for _, b in pairs)  # biases; there are as many scales
    trained = filters + convolutions + norms + 4 * width * classes
    return trained + filters * patch + norms, trained


@pytest.mark.parametrize(("channels", "width", "classes"), [(3, 64, 10), (1, 8, 7), (4, 3, 2)])
def test_the_number_of_parameters_is_the_closed_form(channels: int, width: int, classes: int) -> None:
    with torch.device("meta"):
        model = Airbench(channels, 32, classes, width=width)
    parts = [(part.numel(), part.requires_grad) for part in model.parameters()]
    found = sum(size for size, _ in parts), sum(size for size, trained in parts if trained)
    assert found == closed_form(channels, width, classes)
    if (channels, width, classes) == (3, 64, 10):
        assert found == (1_972_792, 1_972_792 - 24 * 12 - 2 * (64 + 256 + 256))


def test_blocks_have_the_shapes_of_the_paper() -> None:
    model, shapes = Airbench(3, 32, 10), {}
    assert block_names(model) == ("whiten", "layer1", "layer2", "layer3")
    for name in model.blocks:
        model.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: shapes.update({name: tuple(output.shape[1:])})
        )
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert shapes == {"whiten": (24, 31, 31), "layer1": (64, 15, 15), "layer2": (256, 7, 7), "layer3": (256, 3, 3)}


def test_convolutions_begin_as_the_identity_of_the_channels_that_they_can_pass_on() -> None:
    model = Airbench(3, 32, 10, width=16)  # 24 channels to 16, 16 to 64, 64 to 64
    for name, channels in (("layer1", 16), ("layer2", 16), ("layer3", 64)):
        first, second = (part for part in model.get_submodule(name) if isinstance(part, nn.Conv2d))
        given = torch.randn(2, first.in_channels, 9, 9)
        torch.testing.assert_close(first(given)[:, :channels], given[:, :channels])
        hidden = torch.randn(2, second.in_channels, 9, 9)
        torch.testing.assert_close(second(hidden), hidden)
    drawn = model.layer2[0].weight[16:]
    assert drawn.std().item() == pytest.approx((1 / 3 / (9 * 16)) ** 0.5, rel=0.02)  # uniform, as torch draws it
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 6
    for norm in norms:
        assert not norm.weight.requires_grad
        assert (norm.eps, norm.momentum) == (1e-12, 0.4)
        assert (norm.weight == 1).all()
        assert (norm.bias == 0).all()
    assert model.head.bias is None


@pytest.mark.parametrize("channels", [1, 3])
def test_patches_are_whitened(channels: int) -> None:
    """The second moments of the first half of the channels are the unit matrix, but for what EPS takes off."""
    images = smooth(200, channels, 12) * 5
    model = Airbench(channels, 12, 10, width=4)
    model.initialise(iter(images.split(30)))
    conv = model.whiten[0]
    outputs = conv(images).double().transpose(0, 1).flatten(1)
    half = 4 * channels
    assert torch.equal(outputs[half:], -outputs[:half])
    moments = outputs[:half] @ outputs[:half].T / outputs.shape[1]
    patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(1, 4, 5, 0, 2, 3).flatten(0, 2).flatten(1).double()
    variances = torch.linalg.svdvals(patches / patches.shape[1] ** 0.5) ** 2  # in falling order
    torch.testing.assert_close(moments, torch.diag(variances / (variances + EPS)), rtol=1e-4, atol=1e-4)
    assert moments.diagonal().min() > 0.9
    assert (conv.bias == 0).all()
    assert not conv.weight.requires_grad


def test_images_without_any_variance_leave_the_filters_finite() -> None:
    model = Airbench(1, 9, 10, width=2)
    model.initialise([torch.zeros(3, 1, 9, 9)])
    assert model.whiten[0].weight.isfinite().all()


@pytest.mark.parametrize("training", [False, True])
def test_it_equals_a_functional_forward(training: bool) -> None:
    torch.manual_seed(1)
    model = Airbench(3, 21, 10, width=8, scale=0.25).train(training)
    model.initialise([smooth(10, 3, 21)])
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    w, images = {name: part.clone() for name, part in model.state_dict().items()}, smooth(4, 3, 21, seed=1)

    def norm_gelu(x: Tensor, name: str) -> Tensor:
        mean, variance = w[f"{name}.running_mean"][:, None, None], w[f"{name}.running_var"][:, None, None]
        if training:
            mean, variance = x.mean((0, 2, 3))[:, None, None], x.var((0, 2, 3), correction=0)[:, None, None]
        x = (x - mean) / variance.sqrt() + w[f"{name}.bias"][:, None, None]
        return x * (1 + torch.erf(x / 2**0.5)) / 2

    x = F.conv2d(images, w["whiten.0.weight"], w["whiten.0.bias"])
    x = x * (1 + torch.erf(x / 2**0.5)) / 2
    for group in ("layer1", "layer2", "layer3"):
        x = norm_gelu(F.max_pool2d(F.conv2d(x, w[f"{group}.0.weight"], padding=1), 2), f"{group}.2")
        x = norm_gelu(F.conv2d(x, w[f"{group}.4.weight"], padding=1), f"{group}.5")
    expected = F.linear(x.flatten(2).max(2).values, w["head.weight"]) * 0.25
    torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-5)


def test_the_recipe_makes_the_steps_of_the_published_code(compose: Callable[..., Experiment]) -> None:
    """There, the loss is summed, and the hyperparameters are decoupled: airbench94.py, version 01a2367."""
    experiment = compose("experiment=cifar10_fast", "optimizer.fused=false", "hydra.mode=RUN")
    steps, batch, momentum = 490, 1024, 0.85
    scale = 1024 * (1 + 1 / (1 - momentum))
    rate, decay = 11.5 / scale, 0.0153 * batch / scale
    torch.manual_seed(0)
    ours, theirs = (Airbench(3, 32, 10, width=2).double() for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    named = [(name, part) for name, part in theirs.named_parameters() if part.requires_grad]
    biases = [part for name, part in named if name.endswith((".2.bias", ".5.bias"))]
    others = [part for _, part in named if not any(part is bias for bias in biases)]
    assert len(biases) == 6
    groups = [
        {"params": biases, "lr": 64 * rate, "weight_decay": decay / (64 * rate)},
        {"params": others, "lr": rate, "weight_decay": decay / rate},
    ]
    published = torch.optim.SGD(groups, momentum=momentum, nesterov=True)
    optimizer = grouped(experiment.optimizer, ours, experiment.optimizer.values["norm_bias_lr"])
    for step in range(3):
        gradients = torch.Generator().manual_seed(step)
        for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            if own.requires_grad:
                own.grad = torch.randn(own.shape, generator=gradients, dtype=torch.float64)
                other.grad = batch * own.grad
        optimizer.step()
        published.step()
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)

    optimizer = torch.optim.SGD(ours.parameters(), lr=1.0)
    schedule = experiment.scheduler(optimizer=optimizer, total_steps=steps, steps_per_epoch=49)
    peak = 0.23 * steps
    for step in range(steps):
        rise, fall = 0.2 + 0.8 * step / peak, 1 - 0.93 * (step - peak) / (steps - peak)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(min(rise, fall), abs=0.01)  # they round the peak's step
        optimizer.step()
        schedule.step()


def test_a_run_begins_with_filters_of_its_training_images(compose: Callable[..., Experiment], tmp_path: Path) -> None:
    """The same for all seeds, and of the training part alone; they are not trained, and not decayed."""
    words = ("dataset=imagefolder", f"dataset.root={write_tree(tmp_path / 'tree')}", "dataset.image_size=16")
    more = ("dataset.val_size=4", "model=airbench", "model.width=2", "mixup=none", "optimizer.norm_bias_lr=64")
    filters = []
    for seed in (0, 1):
        experiment = compose(*words, *more, "optimizer.weight_decay=0.1", f"seed={seed}")
        data = build.load_data(experiment)
        learner = new_training(experiment, data, experiment.task, 2, Tracker()).learner
        filters.append(learner.model.whiten[0].weight.detach().clone())
        before = {name: part.detach().clone() for name, part in learner.model.named_parameters()}
        for inputs, labels in build.make_loaders(experiment, data).train.batches():
            learner.step(inputs, labels, experiment.strategy.sample(inputs.shape, torch.Generator()))
        for name, part in learner.model.named_parameters():
            assert torch.equal(part, before[name]) is not part.requires_grad, name
            assert (part in learner.optimizer.state) is part.requires_grad
    assert torch.equal(*filters)
    own = Airbench(3, 16, 2, width=2)
    own.initialise([data.normalised(data.train.gathered().float() / 255)])
    torch.testing.assert_close(filters[0], own.whiten[0].weight.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_compiled_in_bf16_its_gradients_are_those_in_float32() -> None:
    """Within what bf16 rounds, 0.16 uncompiled; the largest of rounded numbers has a gradient too."""
    torch.manual_seed(0)
    network, images = Airbench(3, 12, 4, width=4), torch.randn(8, 3, 12, 12)
    network.initialise([images])
    labels, gradients = torch.arange(8) % 4, []
    for forward, short in ((network, False), (torch.compile(network, dynamic=False), True)):
        network.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=short):
            torch.nn.functional.cross_entropy(forward(images), labels).backward()
        gradients.append([part.grad.clone() for part in network.parameters() if part.grad is not None])
    torch._dynamo.reset()
    assert len(gradients[0]) == 14
    for exact, compiled in zip(*gradients, strict=True):
        assert float((exact - compiled).norm()) <= 0.2 * float(exact.norm())
