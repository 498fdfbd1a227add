"""timm's networks against timm itself: weights, channels, sizes and rates; foreign weights are refused in a line."""

from __future__ import annotations

import logging
import pickle
import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vicinal import build
from vicinal.errors import ConfigError, UserError
from vicinal.experiment import Experiment
from vicinal.mixing import MixPlan, mixed_forward
from vicinal.models import block_names, check
from vicinal.models import timm_zoo as module
from vicinal.models.timm_zoo import timm_model
from vicinal.utils.file_hash import file_hash

timm = pytest.importorskip("timm")

NETWORKS = {
    "resnet18": ("layer1", "layer4", 32),
    "vit_tiny_patch16_224": ("patch_embed", "blocks.11", 32),
    "convnext_atto": ("stem", "stages.3", 32),
    "mobilenetv3_small_050": ("bn1", "blocks.5", 32),
    "xcit_nano_12_p16_224": ("blocks.0", "blocks.11", 32),
    "deit_tiny_distilled_patch16_224": ("patch_embed", "blocks.11", 32),
    "poolformer_s12": ("stem", "stages.3", 32),
}
"""First and last block, and a size that is not the network's own."""


def seeded(name: str, channels: int = 3, image_size: Any = 32, classes: int = 10, **words: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm_model(channels, image_size, classes, name=name, **words)


def state(name: str, classes: int = 20, seed: int = 1, **words: Any) -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return dict(timm.create_model(name, num_classes=classes, **words).state_dict())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a ResNet-18 for 20 classes."""
    file = tmp_path_factory.mktemp("timm") / "resnet18.safetensors"
    save_file(state("resnet18"), file)
    return file


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_block_of_a_network_can_be_mixed(name: str, channels: int) -> None:
    first, last, size = NETWORKS[name]
    model = seeded(name, channels, size).eval()
    images, order = torch.randn(2, channels, size, size), torch.tensor([1, 0])
    assert {first, last} <= {*block_names(model)}
    plain = model(images)
    assert plain.shape == (2, 10)
    for block in (first, last):
        whole = MixPlan(torch.ones(2), order, layer=block)
        torch.testing.assert_close(mixed_forward(model, images, whole), plain)
        other = MixPlan(torch.zeros(2), order, layer=block)
        torch.testing.assert_close(mixed_forward(model, images, other), plain[order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_go_through_without_memory(name: str) -> None:
    with torch.device("meta"):
        model = timm_model(3, 32, 10, name=name, drop=0.1)
    real = seeded(name)
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    assert {key: weight.shape for key, weight in model.state_dict().items()} == {
        key: weight.shape for key, weight in real.state_dict().items()
    }
    check(model, torch.empty(2, 3, 32, 32, device="meta"), (10,))


def test_without_weights_it_is_timms_own_to_the_bit() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = timm.create_model("vit_tiny_patch16_224", num_classes=10, in_chans=1, img_size=32).state_dict()
    ours = seeded("vit_tiny_patch16_224", channels=1).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit"])
def test_weights_of_a_file_are_loaded_as_timm_loads_them(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Own classes: all of them. Other classes, channels and sizes: what timm makes of them, and a line."""
    caplog.set_level(logging.INFO, "vicinal")
    file, own = tmp_path / "weights.safetensors", state(name)
    save_file(own, file)
    images = torch.randn(2, 3, 160, 160)
    theirs = timm.create_model(name, num_classes=20).eval()
    theirs.load_state_dict(own)
    model = seeded(name, image_size=160, classes=20, pretrained=str(file)).eval()
    assert torch.equal(model(images), theirs(images))
    assert [text for text in caplog.messages if "classifier" in text] == []

    other = seeded(name, channels=1, image_size=32, classes=7, pretrained=str(file))
    sized = {"img_size": 32} if "vit" in name else {}
    overlay = {"file": str(file), "num_classes": 20}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=7, in_chans=1, **sized
        ).state_dict()
    found = other.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert caplog.messages[-2:] == [
        f"{file} has a classifier of 20 classes: that of 7 is drawn by the seed",
        f"{file}: its first weights, for 3 channels, are fitted to 1",
    ]
    assert not [key for key, value in getattr(other, "pretrained_cfg", {}).items() if key == "state_dict"]
    with torch.device("meta"):
        shapes = timm_model(1, 32, 7, name=name, pretrained=str(file)).state_dict()
    assert {key: weight.shape for key, weight in shapes.items()} == {key: w.shape for key, w in expected.items()}


@pytest.mark.parametrize("form", ["plain", "checkpoint", "parallel", "no head"])
def test_files_of_torch_save_are_read_too(form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    own = state("test_resnet")
    content: Any = {
        "plain": own,
        "checkpoint": {"epoch": 3, "state_dict": own, "arch": "test_resnet", "args": Namespace(lr=0.1)},  # timm's own
        "parallel": {f"module.{key}": weight for key, weight in own.items()},
        "no head": {key: weight for key, weight in own.items() if not key.startswith("fc.")},
    }[form]
    file = tmp_path / "weights.pth"
    torch.save(content, file)
    found = seeded("test_resnet", classes=20, pretrained=str(file)).state_dict()
    body = [key for key in own if not key.startswith("fc.")]
    assert all(torch.equal(found[key], own[key]) for key in body)
    assert torch.equal(found["fc.weight"], own["fc.weight"]) is (form != "no head")
    assert (f"{file} has no classifier: that of 20 is drawn by the seed" in caplog.messages) is (form == "no head")


class Harm:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path("ran"),)  # type: ignore[return-value]


def refused(file: Path, name: str = "test_resnet") -> str:
    with pytest.raises(ValueError, match=r"^pretrained ") as error:
        seeded(name, pretrained=str(file))
    return str(error.value)


def test_foreign_weights_are_refused_in_a_line(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file, fit = tmp_path / "weights.pth", "that fit images of 32 pixels"
    assert refused(file) == f"pretrained must be true, false or a file of weights; there is no such file, got {file}"
    expected = f"pretrained must be weights of resnet34 {fit}: layer1.2.conv1.weight is missing, got {weights}"
    assert refused(weights, "resnet34") == expected
    torch.save({**state("test_resnet"), "more": torch.zeros(1)}, file)
    assert (
        refused(file) == f"pretrained must be weights of test_resnet {fit}: more is not one of its weights, got {file}"
    )
    torch.save({**state("test_resnet"), "bn1.weight": torch.zeros(1)}, file)
    assert refused(file) == f"pretrained must be weights of test_resnet {fit}: bn1.weight has another shape, got {file}"
    torch.save({"epoch": 3}, file)
    assert refused(file) == f"pretrained must be weights by their names; something else is in it, got {file}"
    file.write_bytes(pickle.dumps(Harm()))
    assert refused(file) == f"pretrained must be weights alone, and torch.load finds other things, got {file}"
    assert not Path("ran").exists()
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(weights.read_bytes()[:1000])
    assert refused(damaged).startswith("pretrained must be weights that can be read (")
    assert "\n" not in refused(damaged)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ({"name": "resnet19"}, r"name must be one of timm.list_models\(\), such as resnet18 or .*, got resnet19"),
        ({"name": "resnet18.b1_in1k"}, r"name must be one of .*, such as resnet18.a1_in1k or .*, got resnet18.b1_in1k"),
        ({"name": "hf-hub:somebody/network"}, r"name must be one of timm.list_models\(\), such as .*"),
        ({"name": "vgg11", "drop_path": 0.1}, "drop_path must be 0 for vgg11, which takes no other"),
        ({"name": "resnet18", "drop_path": 1.0}, r"drop_path must be a probability in \[0, 1\), got 1.0"),
        ({"name": "resnet18", "drop": -0.1}, r"drop must be a probability in \[0, 1\), got -0.1"),
        (
            {"name": "test_vit", "image_size": 40},
            r"image_size does not fit test_vit \(.*divisible.*\), which takes 48, got 40",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_built_is_refused_in_a_line(words: dict[str, Any], line: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=f"^{line}$"):
        seeded(**words)


def test_a_network_for_colours_alone_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def colours(pretrained: bool = False, num_classes: int = 10, **other: Any) -> nn.Module:
        if "in_chans" in other:
            raise TypeError("Network.__init__() got an unexpected keyword argument 'in_chans'")
        return nn.Linear(1, num_classes)

    monkeypatch.setattr(timm, "create_model", lambda name, **words: colours(**words))
    with pytest.raises(ValueError, match=r"^channels must be 3 for resnet18, which takes no other$"):
        seeded("resnet18", channels=1)


def test_outputs_that_are_not_logits_are_refused_before_the_training() -> None:
    """A network that names its depths, or one of a tuple, as some of timm are in training."""

    class Pair(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return images.mean((2, 3)), images.mean((2, 3))

    with pytest.raises(ValueError, match=r"^model must return logits \(2, 3\) for 2 images, not tuple$"):
        check(Pair(), torch.empty(2, 3, 32, 32, device="meta"), (3,))


def test_the_rates_are_those_of_timm() -> None:
    model = seeded("convnext_atto", drop_path=0.3, drop=0.2)
    rates = [layer.drop_prob for layer in model.modules() if isinstance(layer, timm.layers.DropPath)]
    assert max(rates) == pytest.approx(0.3)
    assert rates == sorted(rates)
    assert 0.2 in [layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)]
    images = torch.randn(4, 3, 32, 32)
    torch.manual_seed(0)
    one, again = model(images), model(images)
    assert not torch.equal(one, again)
    torch.manual_seed(0)
    assert torch.equal(model(images), one)


def test_the_identity_has_the_content_of_a_file_wherever_it_lies(weights: Path, tmp_path: Path) -> None:
    fingerprint = timm_model.fingerprint  # type: ignore[attr-defined]
    assert fingerprint("resnet18") == {}
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(weights.read_bytes())
    assert (
        fingerprint("resnet18", str(copy))
        == fingerprint("resnet18", str(weights))
        == {"pretrained": file_hash(weights)}
    )
    copy.write_bytes(copy.read_bytes() + b" ")
    assert fingerprint("resnet18", str(copy)) != fingerprint("resnet18", str(weights))


def test_weights_that_change_between_the_check_and_the_training_are_refused(
    compose: Callable[..., Experiment], tmp_path: Path
) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(state("test_resnet"), file)
    experiment = compose("model=timm", "model.name=test_resnet", f"model.pretrained={file}")
    build.make_model(experiment)
    save_file(state("test_resnet", seed=2), file)
    with pytest.raises(ConfigError) as caught:
        build.make_model(experiment)
    changed = "its files have changed since this command began; run it again"
    assert str(caught.value) == f"model.pretrained={file}: {changed}"


def test_without_timm_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    expected = "model=timm needs timm, which is not installed: pip install 'vicinal[timm]'"
    with pytest.raises(UserError, match=re.escape(expected)):
        seeded("resnet18")


@pytest.mark.parametrize("name", ["test_vit", "resnet18", "test_convnext"])
def test_rectangles_are_timms_own_to_the_bit(name: str) -> None:
    model = seeded(name, image_size=(64, 96)).eval()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sized = {"img_size": (64, 96)} if name == "test_vit" else {}
        theirs = timm.create_model(name, num_classes=10, **sized).eval()
    theirs.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 64, 96)
    assert torch.equal(model(images), theirs(images))


@pytest.mark.parametrize(
    ("name", "size", "fits"),
    [("test_vit", (40, 64), "[48,64]"), ("test_vit", (64, 40), "[64,48]"), ("nest_tiny", (64, 96), "96")],
)
def test_a_rectangle_that_does_not_fit_is_refused_with_a_size_that_does(
    name: str, size: tuple[int, int], fits: str
) -> None:
    line = rf"^image_size does not fit {name} \(.*\), which takes {re.escape(fits)}, got \[{size[0]},{size[1]}\]$"
    with torch.device("meta"), pytest.raises(ValueError, match=line):
        timm_model(3, size, 10, name=name)
