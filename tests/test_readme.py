"""What the README says is true: its code runs, its commands compose, its options are all there are."""

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests import tiny_data
from vicinal.config.schema import BASES, CONF
from vicinal.models.preact_resnet import PreActResNet

README = (CONF.parent / "README.md").read_text()
PAGES = [
    README,
    *(file.read_text() for file in sorted((CONF.parent / "docs").glob("*.md")) if file.stem != "extending"),
]
COMMANDS = sorted({each for page in PAGES for each in re.findall(r"(?<!PYTHONPATH=\. )python train\.py[^`\n]*", page)})


def test_its_code_gives_a_loss_whose_gradient_reaches_all_weights():
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    model = PreActResNet(3, 16, 10, width=4)
    names = {
        "images": torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)),
        "labels": torch.arange(6),
        "generator": torch.Generator().manual_seed(0),
        "model": model,
    }
    exec(code, names)
    names["loss"].backward()
    assert names["plan"].layer in (None, "layer1", "layer2")
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_the_methods_page_in_python_is_regmixup():
    """Its two blocks, one after the other: the loss is that of the mixed and the clean batch."""
    page = (CONF.parent / "docs/methods.md").read_text()
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(6, 1, 8, 8, generator=generator), torch.tensor([0, 1, 2, 0, 1, 2])
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    names = {"images": images, "labels": labels, "num_classes": 3, "model": model, "generator": generator}
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(code, names)
    mixed, plan = model(names["plan"].mix(images)), names["plan"]
    expected = plan.loss(mixed, labels) + torch.nn.functional.cross_entropy(model(images), labels)
    torch.testing.assert_close(names["step"].loss, expected)
    assert names["targets"].sum(dim=1).tolist() == pytest.approx([1] * 6)
    assert model[1].weight.grad.abs().sum() > 0


def test_its_tables_name_every_option_and_every_experiment():
    for group in ("dataset", "model", "optimizer", "scheduler", "mixup"):
        [row] = re.findall(rf"^\| `{group}` \| (.*) \|$", README, re.MULTILINE)
        files = [path.relative_to(CONF / group) for path in (CONF / group).rglob("*.yaml")]
        options = {str(path.with_suffix("")) for path in files} - {*BASES}
        assert options <= set(re.findall(r"`([a-z0-9_/]+)`", row)), group
    named = set(re.findall(r"experiment=(\w+)", "".join(PAGES)))
    assert named == {path.stem for path in (CONF / "experiment").glob("*.yaml")}


PLACES = {
    "dataset=hf": "hub",
    "dataset=masks": "masks",
    "dataset=tsv": "sst2",
    "model=huggingface": "net",
    "dataset=bccd": "bccd/VOCdevkit/VOC2007",
    "experiment=blood_cells_detection": "bccd/VOCdevkit/VOC2007",
}
"""Folder of the tiny data that a command's <folder> stands for, if not that of all of them."""
SMALL = {
    "cifar10_jpeg_strategies|dsb2018|nuclei_segmentation|trec|trec_questions|sst2_sentiment|tsv": [
        "dataset.val_size=0",
        "dataset.train_size=null",
    ],
    "bccd|blood_cells_detection": ["dataset.names=[bar,dot]"],
    "hf": ["dataset.val_size=0"],
    "table": ["dataset.file=table.csv", "dataset.target=[large]"],
    "imagefolder": ["dataset.val_size=0"],
}
"""Words that make these data sets and experiments fit the tiny data."""


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_compose(
    command: str, train: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if "--help" in command or "-sc install=" in command:  # tests/cli/test_completion.py
        return
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            (tmp_path / part / name / "0.jpg").touch()
    if re.search(r"<|dataset=(trec|table)|=rotated_mnist", command):
        tiny_data.write(tmp_path)
    monkeypatch.setenv("VICINAL_DATA", str(tmp_path))
    place = next((folder for words, folder in PLACES.items() if words in command), "")
    words = shlex.split(re.sub(r"=(<[^>]*>|\.\.\.)", f"={tmp_path / place}", command))[2:]
    for names, more in SMALL.items():
        if re.search(rf"(dataset|experiment)=({names})\b", command):
            words += more
    code, printed, err = train(*words, "dry_run=true")
    if command.endswith("mixup.layers=[input,layer1]"):
        line = "error: mixup.layers=layer1: no block of vicinal.models.cnn.CNN; allowed: input, block1, block2, hidden"
        assert (code, err) == (1, line + "\n")
        assert f"$ {command}\n{line}\n" in README
    else:
        assert (code, err) == (0, "")
        assert re.search(r"-s\d+(: new$| .*│ new +│)", printed, re.MULTILINE)


def test_its_result_is_that_of_docs():
    """Mean, deviation, interval and difference of each row, by strategy and alpha."""

    def rows(text: str, columns: slice) -> dict[tuple[str, str], set[str]]:
        lines = re.findall(r"^\| (none|input|manifold|cutmix) \| ([-\d]+) \| (.*) \|$", text, re.MULTILINE)
        return {(name, alpha): {cell.strip() for cell in rest.split("|")[columns]} for name, alpha, rest in lines}

    stored = rows((CONF.parent / "docs/results/noisy_digits.md").read_text(), slice(None))
    shown = rows(README, slice(None))
    assert len(shown) == 4
    assert all(cells <= stored[key] for key, cells in shown.items())


def test_its_strategy_works(
    tmp_path: Path, train: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
):
    for name, content in re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", README, re.DOTALL):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_mixing", raising=False)  # docs/extending.md has one too
    code, printed, err = train("--config-dir", "my", "mixup=none,fixed", "mixup.lam=0.6,0.7", "dry_run=true", "-m")
    assert (code, err) == (0, "")
    assert "3 different runs" in printed or printed.count("│ new") == 3


def test_the_commands_are_found():
    assert len(COMMANDS) >= 10
