"""The shipped configs: every one names its own arguments, all of them, and builds a network that passes the check."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

import torch
import yaml

from vicinal.data.inputs import Images, Table, Tokens
from vicinal.models import block_names, check

FOLDER = Path(__file__).parents[2] / "conf" / "model"
SAMPLES = {"image": Images(3, 32), "table": Table(10), "tokens": Tokens(50, 12)}
"""An example of each kind of input that networks of ``conf/`` take."""
PLAIN = {"int", "float", "bool", "str", "list[int]"}


def test_each_config_is_its_targets_signature_with_a_comment_a_line():
    files = sorted(FOLDER.rglob("*.yaml"))
    assert {"cnn", "mlp", "table_mlp", "kim_cnn", "text_transformer"} < {file.stem for file in files}
    for file in files:
        config = yaml.safe_load(file.read_text())
        module, _, target = config.pop("_target_").rpartition(".")
        build = getattr(import_module(module), target)
        signature = inspect.signature(build).parameters
        inputs = next(kind for kind in SAMPLES.values() if kind.arguments.keys() <= signature.keys())
        given = [*inputs.arguments, "classes"]
        own = {name: parameter for name, parameter in signature.items() if name not in given}
        assert list(signature)[: len(given)] == given
        assert set(config) == set(own), file
        assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in own.values())
        assert all(parameter.annotation in PLAIN for parameter in own.values()), file
        assert all("#" in line for line in file.read_text().splitlines() if not line.startswith("_target_")), file
        with torch.device("meta"):
            model = build(*inputs.arguments.values(), 10, **config)
        check(model, inputs.example(2), (10,))
        assert len(block_names(model)) >= 2
