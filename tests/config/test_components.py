"""Every option of every group is composed and bound to its target; every experiment runs a batch."""

import inspect
import json
import math
import re
import sys
import typing
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from tests import tiny_data
from vicinal.config.components import READ, RUNTIME, _keys_of_inputs, _signature, bind
from vicinal.config.schema import BASES, CONF, GROUPS, TrainerConfig, WandbConfig, register
from vicinal.config.validation import supported
from vicinal.data import Samples, Source, contents, imagefolder, sources
from vicinal.errors import ConfigError
from vicinal.experiment import Experiment
from vicinal.mixing import InputMixup
from vicinal.mixing.laws import Uniform
from vicinal.mixing.one_of import OneOf

OPTIONS = {
    "dataset": 24,
    "experiment": 22,
    "hydra/help": 1,
    "hydra/hydra_logging": 1,
    "hydra/job_logging": 1,
    "hydra/launcher": 3,
    "hydra/output": 1,
    "hydra/sweeper": 2,
    "mixup": 32,
    "mixup/logmel": 3,
    "mixup/matched": 7,
    "mixup/reference": 8,
    "model": 19,
    "optimizer": 3,
    "scheduler": 4,
    "tracker": 4,
    "trainer": 1,
    "wandb": 1,
    "wandb_sweeps": 2,  # not composed: W&B reads them
}
"""How many files each folder of conf/ has."""
FOUND = sorted(path.relative_to(CONF).with_suffix("") for path in CONF.rglob("*.yaml") if path.parent != CONF)
COMPONENTS = [path for path in FOUND if path.parts[0] in GROUPS and path.name not in BASES]
EXPERIMENTS = [path.name for path in FOUND if path.parent.name == "experiment"]
PARTS = {"CIFAR10": (3, 32, 10), "CIFAR100": (3, 32, 100), "MNIST": (1, 28, 10)}
"""Channels, size and classes of torchvision's data sets that experiments use."""
NO_VAL = "dataset.val_size=0"
ALSO = {
    "mixup/transmix": ["model=vit_tiny"],
    "mixup/classmix": ["dataset=dsb2018", NO_VAL],
    "mixup/instance_paste": ["dataset=dsb2018", NO_VAL],
    "mixup/ssmix": ["dataset=trec", NO_VAL],
    "mixup/between_class": ["dataset=fsdd", NO_VAL],
    **{f"mixup/logmel/{name}": ["dataset=fsdd", NO_VAL] for name in ("input", "cutmix", "specmix")},
    "dataset/table": ["dataset.target=[price]"],
    "dataset/hf": ["dataset.path=${dataset.root}/hub", NO_VAL],
    "dataset/masks": ["dataset.folder=${dataset.root}/masks", "dataset.classes=2", NO_VAL],
    "dataset/coco": [
        *(f"dataset.{part}_file=${{dataset.root}}/coco/{part}.json" for part in ("train", "test")),
        *(f"dataset.{part}_images=${{dataset.root}}/coco/{part}" for part in ("train", "test")),
        NO_VAL,
    ],
    "dataset/voc": ["dataset.folder=${dataset.root}/bccd/VOCdevkit/VOC2007", "dataset.origin=0"],
    "dataset/bccd": ["dataset.names=[bar,dot]"],
    "dataset/speech_commands": ["dataset.folder=${dataset.root}/commands"],
    "dataset/wavfolder": ["dataset.folder=${dataset.root}/wavs"],
    "dataset/tsv": ["dataset.folder=${dataset.root}/sst2", NO_VAL],
    **{f"dataset/{name}": [NO_VAL] for name in ("dsb2018", "fsdd", "sst2", "trec")},
    "mixup/c_mixup": ["dataset=diabetes"],
    "model/airbench": ["dataset=mnist"],  # for larger images than the digits
    "model/table_mlp": ["dataset=diabetes"],
    "model/unet": ["dataset=dsb2018", NO_VAL],
    "model/torchvision_segmentation": ["dataset=dsb2018", NO_VAL],
    "model/centernet_small": ["dataset=bccd", "dataset.names=[bar,dot]"],
    "model/torchvision_detection": ["dataset=bccd", "dataset.names=[bar,dot]"],
    "model/speech_cnn": ["dataset=fsdd", NO_VAL],
    "model/kim_cnn": ["dataset=trec", NO_VAL],
    "model/text_transformer": ["dataset=trec", NO_VAL],
    "model/huggingface": ["dataset=trec", NO_VAL, "dataset.tokenizer=${dataset.root}/net", "dataset.length=16"],
}
"""Of an option that needs another one."""
OF_IMAGES = (
    *(
        "airbench",
        "centernet_small",
        "cnn",
        "mlp",
        "preact_resnet18",
        "preact_resnet34",
        "resnet18",
        "timm",
        "torchvision",
    ),
    *("torchvision_detection", "torchvision_segmentation", "unet", "vit_tiny", "wide_resnet28_10"),
)
CHOICE = "must take the arguments channels, image_size, classes; for these data choose " + " or ".join(
    f"model={name}" for name in OF_IMAGES
)
IMAGES = ("channels", "image_size")
"""What a network has to know of images."""
UNIFORM = {"_target_": "vicinal.mixing.laws.Uniform"}
CLASSES = 10
"""Of the tree of images."""


def content(path: Path) -> dict[str, Any]:
    """The keys of an option, with those of the file that it is based on."""
    own: Any = OmegaConf.to_container(OmegaConf.load((CONF / path).with_suffix(".yaml")))
    for base in own.pop("defaults", []):
        if isinstance(base, dict):  # another group's option
            continue
        own = {**content(Path(path.parts[0], base)), **own}  # a name counts from the group, in a folder too
    return dict(own)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What can be seen of an imagefolder before it is read, in one folder with tiny data of all other kinds."""
    tree = tmp_path_factory.mktemp("data") / "tree"
    for part in ("train", "test"):
        for name in range(CLASSES):
            (tree / f"{part}/class{name}").mkdir(parents=True)
            for index in range(4):  # enough for three parts
                (tree / f"{part}/class{name}/{index}.jpg").touch()
    tiny_data.write(tree)
    before = sorted(tree.rglob("*"))
    yield tree
    assert sorted(tree.rglob("*")) == before


@pytest.fixture
def composed(tree: Path, tmp_path: Path) -> Iterator[Callable[..., DictConfig]]:
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        common = (f"dataset.root={tree}", f"output_dir={tmp_path / 'outputs'}")
        yield lambda *words: compose("config", [*words, *common], return_hydra_config=True)


def test_all_options_are_found() -> None:
    assert Counter(str(path.parent) for path in FOUND) == OPTIONS


@pytest.mark.parametrize("path", COMPONENTS, ids=str)
def test_every_option_is_bound_to_its_target_with_every_key(path: Path, composed: Callable[..., DictConfig]) -> None:
    group, option = path.parts[0], "/".join(path.parts[1:])
    if option == "timm" and group == "model":
        pytest.importorskip("timm")
    experiment = Experiment.composed(composed(*ALSO.get(str(path), ()), f"{group}={option}"))
    component = getattr(experiment, group)
    file = content(path)
    parameters, hints = _signature(group, component.target)
    runtime = {*RUNTIME[group], *(experiment.sizes.inputs.arguments if group == "model" else ())}
    own = {name: each for name, each in parameters.items() if name not in runtime}
    typed = typing.get_type_hints(GROUPS[group])

    assert experiment.choices[group] == option
    assert component.target == file.pop("_target_")
    called = component.called
    idle = called.unused(**{name: file[name] for name in file if name in own}) if hasattr(called, "unused") else set()
    assert set(component.values) == set(file) - idle
    assert set(component.arguments) == (set(file) - idle) & set(own)
    ours = {item.name for item in fields(GROUPS[group])} if group == "dataset" else set(READ.get(group, ()))
    assert set(file) - set(own) <= ours, "a key that nothing reads"
    nested = {"strategies", "weights"} if called is OneOf else set()  # each is checked when it is built
    assert all(name in typed or supported(hints[name]) is not Any for name in set(file) - nested), (
        "a key nothing checks"
    )
    needed = {name for name, each in own.items() if each.default is inspect.Parameter.empty}
    assert needed <= set(file), "a default that the command line would not show"
    if group == "dataset":
        assert set(file) >= {*_keys_of_inputs(GROUPS[group], file["inputs"], frozenset(own))} - {"_target_"}
    elif component.target.startswith("vicinal."):
        assert set(file) >= set(own) - idle - {"members"}  # of the strategies that mix more than two


def test_defaults_of_a_target_are_those_of_its_file() -> None:
    """Someone who calls it from Python gets what the command line gives, where the signature says anything."""
    different = []
    for path in COMPONENTS:
        file = content(path)
        if not file["_target_"].startswith("vicinal.") or "_target_" not in OmegaConf.load(CONF / f"{path}.yaml"):
            continue  # a variant of another option, on purpose
        parameters, _ = _signature(path.parts[0], file["_target_"])
        for name, parameter in parameters.items():
            default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
            # null is settled by the program, from the network or the data
            if default not in (inspect.Parameter.empty, None) and file.get(name) not in (None, default):
                different.append(f"{path}: {name}")
    assert different == [  # several options of one class
        "dataset/coco: bad_boxes",  # COCO has boxes that lie outside their images, and VOC has none
        "model/preact_resnet34: depth",
    ]


@pytest.mark.parametrize("group", ["trainer", "wandb"])
def test_the_typed_groups_are_their_dataclasses(group: str, composed: Callable[..., DictConfig]) -> None:
    experiment = Experiment.composed(composed())
    schema = {"trainer": TrainerConfig, "wandb": WandbConfig}[group]
    settled = {"project": "vicinal", "tags": []} if group == "wandb" else {}
    assert getattr(experiment, group) == replace(schema(), **settled)
    assert list(experiment.config[group]) == [item.name for item in fields(schema)]


def test_shared_keys_of_a_group_are_typed_once_for_all_options() -> None:
    """A key that two targets of a group share has one type: that of the group's dataclass, or the same in both."""
    untyped = []
    for group, schema in GROUPS.items():
        hints: dict[str, set[Any]] = {}
        for path in COMPONENTS:
            if path.parts[0] == group:
                file = content(path)
                _, own = _signature(group, file["_target_"])
                for name in file:
                    hints.setdefault(name, set()).add(str(own.get(name)))
        known = {item.name for item in fields(schema)}
        untyped += [f"{group}.{name}" for name, found in hints.items() if len(found) > 1 and name not in known]
    assert untyped == ["dataset.test_file"]  # which a table can do without


def test_an_integer_and_its_float_are_the_same_run(composed: Callable[..., DictConfig]) -> None:
    ids = {Experiment.composed(composed(f"mixup.alpha={alpha}")).run_id for alpha in ("1", "1.0", "1e0")}
    assert len(ids) == 1


def test_a_target_that_would_run_a_program_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^mixup\._target_=os\.system: must be the path of a class or function"):
        bind("mixup", {"_target_": "os.system", "command": "true"})


@pytest.mark.parametrize(
    ("group", "target", "reason"),
    [
        ("mixup", "numpy.load", "must be a subclass of Strategy, or a function that returns one"),
        ("mixup", "vicinal.mixing.MixPlan", "must be a subclass of Strategy, or a function that returns one"),
        ("mixup", "json.loads", "must be a subclass of Strategy, or a function that returns one"),
        ("dataset", "collections.UserDict", "must be a subclass of Source, or a function that returns one"),
        (
            "model",
            "numpy.load",
            CHOICE,
        ),
        ("optimizer", "numpy.testing.runstring", "must take the arguments params"),
        (
            "optimizer",
            "torch.optim.lr_scheduler.StepLR",
            "must be a subclass of Optimizer, or a function that returns one",
        ),
        ("scheduler", "numpy.testing.runstring", "must take the arguments optimizer, total_steps, steps_per_epoch"),
    ],
)
def test_a_target_that_is_no_component_is_refused_before_it_is_called(group: str, target: str, reason: str) -> None:
    with pytest.raises(ConfigError) as refused:
        bind(group, {"_target_": target}, inputs=IMAGES if group == "model" else ())
    assert str(refused.value) == f"{group}._target_={target}: {reason}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": -1}, "alpha=-1: must be a finite number >= 0"),
        ({"alpha": "x"}, "alpha=x: must be a number or null"),
        ({"alpha": 1, "members": 2.5}, "members=2.5: must be an integer"),
        ({"alpha": 1, "window": [0]}, "window=[0]: must be [start, stop] with 0 <= start < stop"),
        ({"alpha": 1, "law": {**UNIFORM, "low": 2, "high": 3}}, "law.low=2: must be in [0, 1]"),
        ({"alpha": 1, "law": {**UNIFORM, "low": [1], "high": 3}}, "law.low=[1]: must be a number"),
        (
            {"alpha": 1, "law": {**UNIFORM, "low": 0.2}},
            "law.high=???: is missing; vicinal.mixing.laws.Uniform needs it",
        ),
    ],
)
def test_a_mistake_in_a_part_of_a_part_is_named_by_its_whole_key(arguments: dict[str, Any], message: str) -> None:
    switch = {"_target_": "vicinal.mixing.one_of.OneOf", "weights": {"a": 1.0}}
    inner = {"_target_": "vicinal.mixing.InputMixup", **arguments}
    with pytest.raises(ConfigError) as refused:
        bind("mixup", {**switch, "strategies": {"a": {**switch, "strategies": {"a": inner}}}})()
    assert str(refused.value) == f"mixup.strategies.a.strategies.a.{message}"


NESTED = """
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from vicinal.mixing import InputMixup, NoMix
from vicinal.mixing.laws import Law

@dataclass(frozen=True)
class Parts(NoMix):
    inner: InputMixup
    laws: Sequence[Law] = ()
    numbers: Mapping[str, float] | None = None
    pair: tuple[int, float] = (1, 2.5)
    other: Any = None

def folder(path: Path, size: tuple[int, int]) -> tuple:
    return path, size
"""


def test_the_parts_of_a_component_are_built_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nested_parts.py").write_text(NESTED)
    monkeypatch.syspath_prepend(tmp_path)
    node = {"_target_": "nested_parts.Parts", "inner": {"_target_": "vicinal.mixing.InputMixup", "alpha": 2.0}}
    law = {**UNIFORM, "low": 0.1, "high": 0.2}
    folder = {"_target_": "nested_parts.folder", "path": "a/b", "size": [1, 2]}  # a path reaches it as text, as before
    assert bind("mixup", {**node, "other": folder})().other == ("a/b", [1, 2])
    written_in_c = {"_target_": "math.sqrt", "_args_": [4]}
    built: Any = bind("mixup", {**node, "laws": [law], "numbers": {"a": 1}, "pair": [3, 0.5], "other": written_in_c})()
    assert built.inner == InputMixup(2.0)
    assert built.laws == [Uniform(0.1, 0.2)]
    assert (built.numbers, built.pair, built.other) == ({"a": 1.0}, [3, 0.5], 2.0)
    for key, value, message in [
        ("laws", 5, "laws=5: must be a list"),
        ("laws", [law, {**law, "low": "x"}], "laws[1].low=x: must be a number"),
        ("numbers", {"a": "x"}, "numbers={a:x}: must be a mapping of names to numbers or null"),
        ("other", {"a": {"_target_": "math.pi"}}, "other.a._target_=math.pi: must be the path of a class or function"),
    ]:
        with pytest.raises(ConfigError, match=f"^{re.escape(f'mixup.{message}')}"):
            bind("mixup", {**node, key: value})


def test_a_target_whose_module_is_broken_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_strategy.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError) as refused:
        bind("mixup", {"_target_": "broken_strategy.Fade"})
    reason = "cannot be imported: ZeroDivisionError: division by zero"
    assert str(refused.value) == f"mixup._target_=broken_strategy.Fade: {reason}"


@pytest.mark.parametrize(
    ("complaint", "line"),
    [
        ("depth must be 18 or 34, got 7", "model.depth=18: must be 18 or 34"),
        ("depth=7: must be 18 or 34", "model.depth=18: must be 18 or 34"),
        ("image_size must be at least 8, got 7", "dataset.image_size=7: must be at least 8"),
        ("image_size: too small, got 7", "dataset.image_size=7: too small"),
        (
            "model must return logits, not 3",
            "model._target_=vicinal.models.preact_resnet.PreActResNet: must return logits, not 3",
        ),
        ("the width is odd", "model.width=64: the width is odd"),
        ("out of luck", "model._target_=vicinal.models.preact_resnet.PreActResNet: out of luck"),
    ],
)
def test_a_complaint_of_a_component_begins_with_the_key(complaint: str, line: str) -> None:
    node = {"_target_": "vicinal.models.preact_resnet.PreActResNet", "depth": 18, "width": 64}
    model = bind("model", node, inputs=IMAGES)
    with pytest.raises(ConfigError) as refused, model.refusals(channels=3, image_size=7, classes=10):
        raise ValueError(complaint)
    assert str(refused.value) == line


def test_other_errors_of_a_component_are_named_by_their_type() -> None:
    model = bind("model", {"_target_": "vicinal.models.resnet.resnet18"}, inputs=IMAGES)
    with pytest.raises(ConfigError) as refused:
        model(channels=3, image_size=8, classes="many")
    assert str(refused.value).startswith("model._target_=vicinal.models.resnet.resnet18: TypeError: ")


def test_a_data_set_may_leave_out_what_the_schema_has_a_default_for() -> None:
    needed = {"root": ".", "cache_dir": ".", "channels": 1, "image_size": 8}
    component = bind("dataset", {"_target_": "vicinal.data.sources.digits", **needed})
    others = {"rate", "length", "vocabulary", "features"}  # of other inputs than images
    others |= {
        "resize",
        "keep",
        "workers",
        "stage_to",
        "decoder",
        "crop",
        "crop_scale",
        "crop_ratio",
    }  # of sources that take them
    left_out = [item for item in fields(GROUPS["dataset"]) if item.name not in (*needed, *others, "_target_")]
    assert component.values == needed | {item.name: item.default for item in left_out}
    assert len(left_out) == 18


# Experiments


def random_images(count: int, channels: int, size: int, classes: int) -> Samples:
    generator = torch.Generator().manual_seed(count)
    pixels = torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8, generator=generator)
    return Samples(pixels, torch.arange(count) % classes)


def random_source(channels: int, size: int, classes: int) -> Source:
    names = tuple(map(str, range(classes)))
    return Source(*(random_images(count * classes, channels, size, classes) for count in (4, 1)), names)


@contents.reads(lambda root, name: [])
def fake_torchvision(root: str, name: str) -> Source:
    return random_source(*PARTS[name])


@contents.reads(preview=imagefolder.preview, fingerprint=imagefolder.fingerprint)
def fake_imagefolder(
    folder: str,
    image_size: int,
    channels: int,
    cache_dir: str,
    val_size: int | None,
    on_error: str = "fail",
    resize: int | None = None,
    keep: str = "auto",
    crop: str = "padded",
    workers: int | str = "auto",
    stage_to: str | None = None,
    decoder: str = "pillow",
) -> Source:
    return random_source(channels, image_size, CLASSES)


Train = Callable[..., tuple[int, str]]


@pytest.fixture
def train_on_fakes(train: Callable[..., tuple[int, str, str]], tree: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """``train.py`` on random images of the right shape: exit code, and what it printed."""
    for module, name, fake in (
        (sources, "torchvision_dataset", fake_torchvision),
        (imagefolder, "imagefolder", fake_imagefolder),
    ):
        real, ours = (list(inspect.signature(each).parameters) for each in (getattr(module, name), fake))
        assert real == ours
        monkeypatch.setattr(module, name, fake)

    def run(*words: str) -> tuple[int, str]:
        code, out, err = train(*words, f"dataset.root={tree}")
        return code, out + err

    return run


JOBS = {
    "alpha_sweep": (6, 3),
    "noisy_digits": (7, 5),
    "strategies": (4, 3),
    "cifar10_jpeg_strategies": (4, 3),
    "cifar10_fast": (1, 5),
    "tutorial": (3, 3),
    "methods": (20, 5),
    "long_tail": (12, 5),
    "label_noise": (12, 5),
    "nuclei_segmentation": (10, 5),
    "blood_cells_detection": (8, 3),
    "spoken_digits": (8, 5),
    "trec_questions": (8, 5),
    "sst2_sentiment": (8, 5),
    "diabetes_regression": (8, 5),
    "rotated_mnist": (8, 5),
}
"""Experiments that are sweeps, with their cells and seeds; the others are one job."""
BOXES = {"dataset.names": "[bar,dot]"}
IMAGENET = {
    "dataset.image_size": 32,
    "dataset.crop": "padded",
    "dataset.val_size": 10,
    "model.name": "resnet18",
    "trainer.shards": 1,
}
TINY: dict[str, dict[str, Any]] = {
    "cifar10_jpeg_strategies": {"dataset.train_size": 20, "dataset.val_size": 10},
    "nuclei_segmentation": {"dataset.train_size": 4, "dataset.val_size": 2},
    "blood_cells_detection": BOXES,
    "spoken_digits": {"dataset.train_size": 20, "dataset.val_size": 10},
    "trec_questions": {"dataset.train_size": 20, "dataset.val_size": 6},
    "sst2_sentiment": {"dataset.train_size": 4, "dataset.val_size": None},
    "rotated_mnist": {"dataset.train_size": 20, "dataset.val_size": 10},
    "imagenet_resnet50": IMAGENET,
    "imagenet_resnet50_timm": IMAGENET,
}
"""What the tiny data of an experiment allow."""


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_point_of_an_experiment_is_bound_at_full_size(name: str, train_on_fakes: Train, tmp_path: Path) -> None:
    words = [] if name in JOBS else ["hydra.mode=RUN"]
    tiny = [f"{key}={value}" for key, value in TINY.get(name, {}).items() if value is not None]
    code, printed = train_on_fakes(*words, f"experiment={name}", *tiny, "dry_run=true")
    assert code == 0, printed
    folders = set(re.findall(r"(\S+-s\d+)(?:: new$| .*│ new +│)", printed, re.MULTILINE))
    assert len(folders) == math.prod(JOBS.get(name, (1, 1)))
    assert not [path for path in (tmp_path / "outputs").rglob("*") if path.is_file()]


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_runs_one_batch(
    name: str, train_on_fakes: Train, composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    recipe = composed(f"experiment={name}")
    classes = recipe.dataset.classes or CLASSES
    count = max(2 * CLASSES, classes)
    small = {
        "trainer.epochs": 1,
        "trainer.batch_size": count,
        "trainer.threads": 1,
        "trainer.precision": "fp32",
        "dataset.train_size": count,
        "dataset.val_size": classes,
        "dataset.imbalance_ratio": 2 if recipe.dataset.get("imbalance", "none") != "none" else None,
        "model.width": 2 if "width" in recipe.model else None,
        "scheduler": "constant" if "pct_start" in recipe.scheduler else None,  # which needs more than a step
        "scheduler.warmup_epochs": 0 if "warmup_epochs" in recipe.scheduler else None,
        "seed": 0,
        **TINY.get(name, {}),
    }
    if name == "blood_cells_detection":  # their own part for validation
        small |= {"dataset.train_size": 4, "dataset.val_size": None, "trainer.batch_size": 4}
    jobs, _ = JOBS.get(name, (1, 1))  # of one seed
    if "trainer.epochs" in (recipe.hydra.sweeper.params or {}):
        jobs //= 2
    code, printed = train_on_fakes(
        f"experiment={name}", *(f"{key}={value}" for key, value in small.items() if value is not None)
    )
    assert code == 0, printed
    runs = list((tmp_path / "outputs/runs").iterdir())
    assert len(runs) == jobs
    for run in runs:
        (row,) = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        assert row["step"] == 1
        assert math.isfinite(row["train/loss"])
        result = json.loads((run / "result.json").read_text())
        assert result["status"] == "completed"
        assert result["choices"]["experiment"] == name


# A new variant is one class and one file

VARIANT = '''
from dataclasses import dataclass

import torch

from vicinal.mixing import MixPlan, Strategy


@dataclass(frozen=True)
class Fade(Strategy):
    """Each image with its neighbour, always by the same amount."""

    strength: float

    def sample(self, shape, generator, context):
        return MixPlan(torch.full((shape[0],), 1 - self.strength), torch.arange(shape[0]).roll(1))
'''


def test_a_new_strategy_is_a_class_and_a_file(
    train_on_fakes: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "house_strategies.py").write_text(VARIANT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "house_strategies", raising=False)
    (tmp_path / "own/mixup").mkdir(parents=True)
    (tmp_path / "own/mixup/fade.yaml").write_text("_target_: house_strategies.Fade\nstrength: 0.5\n")
    own = ["--config-dir", str(tmp_path / "own"), "mixup=fade", "trainer.threads=1", "trainer.precision=fp32"]
    own += ["trainer.epochs=1", "dataset.train_size=64", "trainer.batch_size=64"]

    code, printed = train_on_fakes(*own, "mixup.strength=0.25")
    assert code == 0, printed
    (run,) = (tmp_path / "outputs/runs").iterdir()
    assert run.name.startswith("digits-cnn-fade-")
    result = json.loads((run / "result.json").read_text())
    assert (result["status"], result["config"]["mixup"]["strength"]) == ("completed", 0.25)
    row = json.loads((run / "metrics.jsonl").read_text())
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    same = (row["train/acc1_ceiling"] - 0.75) / 0.25  # the share of pairs of one class
    assert 0 <= same < 0.3
    assert same * 64 == pytest.approx(round(same * 64), abs=1e-4)
    assert row["train/loss_floor"] == pytest.approx((1 - same) * entropy, rel=1e-5)
    assert row["mixing/same_class"] == pytest.approx(same, abs=1e-6)
    assert (row["mixing/lam_mean_partner"], row["mixing/lam"][15]) == (0.25, 64)
    assert "mixing/lam_law" not in row

    typo = "mixup.strenght=1: house_strategies.Fade has no such argument; did you mean strength? allowed: strength\n"
    (tmp_path / "own/mixup/faint.yaml").write_text("defaults: [fade]\nstrenght: 1\n")
    for option in ("faint", "fade,faint"):  # a mistake in a file is no key that another option has
        assert train_on_fakes(*own, f"mixup={option}", *["-m"] * ("," in option)) == (1, f"error: {typo}")
    (tmp_path / "own/mixup/faint.yaml").unlink()
    (tmp_path / "more/mixup").mkdir(parents=True)
    (tmp_path / "more/mixup/half.yaml").write_text("_target_: house_strategies.Fade\nhalf: 0.5\nstrength: ${.half}\n")
    (tmp_path / "more/mixup/away.yaml").write_text("_target_: not_installed.Away\nfar: 1\n")
    more = ["--config-dir", str(tmp_path / "more"), *own[3:], "dry_run=true"]
    for words in (["mixup=half", "mixup.half=0.25"], ["mixup=input", "+mixup.far=2"]):  # of another value, or option
        code, printed = train_on_fakes(*more, *words)
        assert code == 0, printed
    assert train_on_fakes(*own, "mixup.strenght=1") == (1, f"error: {typo}")
    assert train_on_fakes(*own, "+mixup.strenght=1") == (1, f"error: {typo}")
    assert train_on_fakes(*own, "mixup.strength=much") == (1, "error: mixup.strength=much: must be a number\n")
    assert train_on_fakes(*own, "mixup.strength=null") == (1, "error: mixup.strength=null: must be a number\n")
    assert train_on_fakes(*own, "~mixup.strength") == (
        1,
        "error: mixup.strength=???: is missing; house_strategies.Fade needs it\n",
    )
