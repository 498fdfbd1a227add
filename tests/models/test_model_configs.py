"""The shipped configs: every one names its own arguments, all of them, and builds a network that passes the check."""

from __future__ import annotations

import inspect
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
import yaml

from tests.huggingface_files import write_folder
from vicinal.data.inputs import Images, Table, Tokens, Waveforms
from vicinal.models import block_names, check

FOLDER = Path(__file__).parents[2] / "conf" / "model"
KINDS = (Images(3, 32), Waveforms(8000, 8000), Tokens(50, 12), Table(7))
GIVEN = [*dict.fromkeys(name for kind in KINDS for name in kind.arguments), "classes"]
OF_PLACES = {"centernet_small", "torchvision_detection", "torchvision_segmentation", "unet"}
"""Options whose outputs are not one number per class."""
OF_PLACES = {"unet", "torchvision_segmentation", "centernet_small", "torchvision_detection"}
"""Networks that say something of each place of an image, which their own tests check."""
PLAIN = {"int", "float", "bool", "str", "bool | str", "str | None", "list[int]", "Sequence[int]"}


def test_each_config_is_its_targets_signature_with_a_comment_a_line(tmp_path: Path):
    files = sorted(FOLDER.rglob("*.yaml"))
    of_images = ["airbench", "cnn", "mlp", "preact_resnet18", "preact_resnet34", "resnet18", "torchvision", "vit_tiny"]
    assert {file.stem for file in files} >= {*of_images, "wide_resnet28_10"}
    for file in files:
        config = yaml.safe_load(file.read_text())
        module, _, target = config.pop("_target_").rpartition(".")
        build = getattr(import_module(module), target)
        signature = inspect.signature(build).parameters
        given = [name for name in signature if name in GIVEN]
        own = {name: parameter for name, parameter in signature.items() if name not in GIVEN}
        assert list(signature)[: len(given)] == given
        assert given[-1] == "classes"
        assert set(config) == set(own), file
        assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in own.values())
        assert all(parameter.annotation in PLAIN for parameter in own.values()), file
        assert all("#" in line for line in file.read_text().splitlines() if not line.startswith("_target_")), file
        if file.stem == "timm" and find_spec("timm") is None:
            continue
        if file.stem == "huggingface":
            config["folder"] = str(write_folder(tmp_path))
        [inputs] = [kind for kind in KINDS if [*kind.arguments, "classes"] == given]
        with torch.device("meta"):
            model = build(**inputs.arguments, classes=10, **config)
        check(model, inputs.example(2), None if file.stem in OF_PLACES else (10,))
        assert len(block_names(model)) >= 2
