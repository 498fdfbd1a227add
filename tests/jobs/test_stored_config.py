"""A run's config.yaml is data: it runs nothing, imports nothing and names nothing that is not known or trusted."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.jobs.reproduce import reproduce
from vicinal.jobs.run import run
from vicinal.jobs.stored_config import checked, stored_config
from vicinal.runs.folder import RunFolder
from vicinal.visualize.between import stored

Train = Callable[..., tuple[int, str, str]]
QUICK = ("model=mlp", "model.hidden=[8]", "dataset.train_size=100", "dataset.val_size=50", "trainer.epochs=1")
STRATEGY = """
from pathlib import Path
from subprocess import Popen

import torch

from vicinal.mixing import MixPlan, Strategy

Path({mark!r}).touch()


class Fade(Strategy):
    def sample(self, shape, generator, context):
        return MixPlan(torch.full((shape[0],), 0.75), torch.arange(shape[0]).roll(1))
"""
DEEP = "it is not YAML" if yaml._yaml.get_version() >= (0, 2, 6) else "more than 24 levels are nested in it"
"""What libyaml refuses itself from 0.2.6 on, and leaves to us before."""


@pytest.fixture
def original(compose: Callable[..., Experiment]) -> RunFolder:
    """A completed run."""
    experiment = compose(*QUICK)
    run(experiment)
    return experiment.folder


def alter(folder: RunFolder, **groups: Any) -> None:
    """Change keys of the stored config, as somebody who hands the folder on may do: with fitting checksums."""
    content = yaml.safe_load(folder.config.read_text())
    for key, value in groups.items():
        content[key] = {**content[key], **value} if isinstance(content.get(key), dict) else value
    folder.config.write_text(yaml.safe_dump(content))
    folder.complete(folder.completed() or {})


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that can be imported, and the file that says that it has been."""
    mark = tmp_path / "was-run"
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/evil_fade.py").write_text(STRATEGY.format(mark=str(mark)))
    (tmp_path / "modules/vicinalx.py").write_text(STRATEGY.format(mark=str(mark)))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    yield mark
    for name in ("evil_fade", "vicinalx"):
        sys.modules.pop(name, None)


TARGETS = [
    ("mixup", {"_target_": "evil_fade.Fade"}),
    ("mixup", {"_target_": "vicinalx.Fade"}),
    ("mixup", {"_target_": "sympy.sympify", "a": "__import__('os').system('true')"}),
    ("mixup", {"_target_": "vicinal.mixing.sys.modules"}),
    ("mixup", {"_target_": "vicinal.mixing.strategies.torch.load"}),
    ("mixup", {"_target_": "vicinal.mixing.MixPlan.__init__"}),
    ("mixup", {"_target_": "vicinal.mixing"}),
    ("mixup", {"_target_": "vicinal.mixing."}),
    ("mixup", {"_target_": "vicinal.runs.checkpoint.load"}),
    ("mixup", {"_target_": ["vicinal.mixing.InputMixup"]}),
    ("mixup", {"_target_": None}),
    ("mixup", {"law": {"_target_": "vicinal.mixing.laws.torch.load"}}),
    ("mixup", {"law": {"_target_": "vicinal.models.mlp.MLP"}}),
    ("mixup", {"alpha": {"_target_": "os.system", "command": "true"}}),
    ("mixup", {"alpha": [{"_target_": "evil_fade.Fade", "_partial_": True}]}),
    ("model", {"_target_": "vicinal.mixing.InputMixup"}),
    ("model", {"hidden": [{"_target_": "vicinal.models.mlp.MLP"}]}),
    ("dataset", {"_target_": "numpy.load", "file": "x.npy", "allow_pickle": True}),
    ("dataset", {"_target_": "vicinal.data.sources.np.load"}),
    ("dataset", {"_target_": "joblib.load", "filename": "x"}),
    ("optimizer", {"_target_": "torch.optim.os.system"}),
    ("optimizer", {"_target_": "torch.load"}),
    ("optimizer", {"_target_": "torch.optimx.SGD"}),
    ("scheduler", {"_target_": "vicinal.training.checkpoint.load"}),
    ("trainer", {"epochs": {"_target_": "os.system", "command": "true"}}),
    ("tracker", {"_target_": "os.system"}),
    ("tracker", {"own": {"_target_": "evil_fade.Fade"}}),
    ("tracker", {"own": {"_target_": "vicinal.tracking.run_files.RunFiles", "folder": "a-folder-of-yours"}}),
    ("tracker", {"own": {"key": {"_target_": "vicinal.tracking.csv_file.CsvFile"}}}),
    ("_choices_", {"_target_": "os.system"}),
]


@pytest.mark.parametrize(("group", "node"), TARGETS, ids=lambda value: str(value)[:60])
def test_what_a_stored_config_may_not_name(original_config: Path, evil: Path, group: str, node: dict[str, Any]) -> None:
    content = yaml.safe_load(original_config.read_text())
    content[group] |= node
    original_config.write_text(yaml.safe_dump(content))
    before = set(sys.modules)
    with pytest.raises(UserError) as refused:
        checked(original_config)
    key = str(refused.value).removeprefix(f"{original_config}: ").partition("=")[0]
    assert key.startswith(f"{group}.")
    assert "\n" not in str(refused.value)
    assert not evil.exists()
    new = {name.partition(".")[0] for name in set(sys.modules) - before}
    assert new.isdisjoint({"evil_fade", "vicinalx", "sympy", "joblib"})


@pytest.fixture
def original_config(compose: Callable[..., Experiment], tmp_path: Path) -> Path:
    from vicinal.jobs.provenance import config_file

    (tmp_path / "config.yaml").write_bytes(config_file(compose(*QUICK)))
    return tmp_path / "config.yaml"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("seed: ${oc.env:HOME}", "seed=${oc.env:HOME}: a stored config is resolved; there is nothing to look up in it"),
        ("output_dir: a${now:}", "output_dir=a${now:}: a stored config is resolved; there is nothing to look up in it"),
    ],
)
def test_nothing_is_looked_up_for_a_stored_config(original_config: Path, text: str, line: str) -> None:
    key = text.partition(":")[0]
    lines = original_config.read_text().splitlines()
    original_config.write_text("\n".join([*(each for each in lines if not each.startswith(f"{key}:")), text]))
    with pytest.raises(UserError) as refused:
        checked(original_config)
    assert str(refused.value) == f"{original_config}: {line}"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "is not the config of a run, it has no seed"),
        (b"[1, 2]", "is damaged: it is not a mapping"),
        (b"a: [", "is damaged: it is not YAML"),
        (b"\xff\xfe", "is damaged: it is not YAML"),
        (b"[" * 30 + b"]" * 30, "is damaged: more than 24 levels are nested in it"),
        (b"[" * 20000, f"is damaged: {DEEP}"),
        (b"a: &a [1, 1]\nb: [*a, *a]\n", "is damaged: it has an alias (*), which none of ours has"),
        (
            b"seed: !!python/object/apply:os.system [true]",
            "is damaged: it has the tag tag:yaml.org,2002:python/object/apply:os.system",
        ),
        (b"defaults: [schema, {dataset: digits}]\nseed: 1\n", "it has no output_dir; a config of your own goes with"),
    ],
)
def test_what_is_no_config_of_a_run_is_one_line(tmp_path: Path, content: bytes, line: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError) as refused:
        checked(file)
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


def test_every_component_of_ours_may_be_named(compose: Callable[..., Experiment], tmp_path: Path) -> None:
    from vicinal.config.schema import BASES, CONF, GROUPS
    from vicinal.jobs.stored_config import OWN, _defined

    files = [file for group in GROUPS for file in (CONF / group).glob("*.yaml") if file.stem not in BASES]
    targets = [(file, yaml.safe_load(file.read_text()).get("_target_")) for file in files]
    assert sorted(file.stem for file, target in targets if target is None) == [
        "balanced",
        "bccd",
        "c_mixup",
        "regmixup",
        "remix",
        "sst2",
        "trec",
        "tutorial",
    ]  # of another's file
    assert len(files) == 79
    for file, target in targets:
        assert target is None or _defined(target, OWN[file.parent.name]), target


def test_every_tracker_of_ours_may_be_named() -> None:
    from vicinal.config.schema import CONF
    from vicinal.jobs.stored_config import OWN, _defined

    nodes = [node for file in (CONF / "tracker").glob("*.yaml") for node in yaml.safe_load(file.read_text()).values()]
    assert len(nodes) == 3
    assert all(_defined(node["_target_"], OWN["tracker"]) for node in nodes)


def test_a_config_of_a_version_without_trackers_has_the_default_one(original_config: Path) -> None:
    content = yaml.safe_load(original_config.read_text())
    del content["tracker"], content["_choices_"]["tracker"]
    original_config.write_text(yaml.safe_dump(content))
    cfg = stored_config(original_config, ["wandb.mode=offline"])
    assert set(cfg.tracker) == {"wandb"}
    assert Experiment.composed(cfg).wandb.mode == "offline"


def test_hydra_follows_nothing_of_a_stored_config(original: RunFolder, evil: Path, tmp_path: Path) -> None:
    """Callbacks, launchers, defaults and groups beside it; with the rest it is still a run that can be had again."""
    callback = {"evil": {"_target_": "evil_fade.Fade"}}
    hydra = {"callbacks": callback, "searchpath": [f"file://{tmp_path}"], "launcher": {"_target_": "evil_fade.Fade"}}
    alter(original, hydra=hydra, defaults=["_self_", {"mixup": "other"}, {"override hydra/launcher": "other"}])
    for group in ("mixup", "hydra/launcher"):
        (original.path / group).mkdir(parents=True)
        (original.path / group / "other.yaml").write_text("_target_: evil_fade.Fade\n")
    config = stored_config(original.config, ["dry_run=true"])
    assert "callbacks" not in config.hydra or not config.hydra.callbacks
    assert config.hydra.searchpath == []
    assert config.hydra.launcher._target_ == "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
    assert config.mixup._target_ == "vicinal.mixing.InputMixup"
    assert reproduce(original.path).verdict() == "bit-identical"
    assert stored(original.path).result["choices"]["mixup"] == "input"
    assert not evil.exists()


def test_a_stored_config_on_the_command_line_is_data_too(
    original: RunFolder, evil: Path, train: Train, tmp_path: Path
) -> None:
    callback = {"evil": {"_target_": "evil_fade.Fade"}}
    alter(original, hydra={"callbacks": callback, "run": {"dir": "elsewhere"}})
    back = ("--config-path", str(original.path), "--config-name", "config", "dry_run=true")
    code, out, err = train(*back)
    assert (code, err, out.startswith(f"{original.path}: done")) == (0, "", True)
    assert not (tmp_path / "elsewhere").exists()
    alter(original, mixup={"_target_": "evil_fade.Fade"})
    code, out, err = train(*back)
    reason = "nothing of ours; --trust evil_fade runs it, if you trust who wrote this"
    assert (code, out, err) == (1, "", f"error: {original.config}: mixup._target_=evil_fade.Fade: {reason}\n")
    code, _, err = train("--experimental-rerun", str(original.path / "config.pickle"))
    assert (code, "a pickle is a program, not data" in err) == (1, True)
    assert not evil.exists()


def test_what_is_trusted_is_run_and_nothing_that_it_imports(
    compose: Callable[..., Experiment], evil: Path, tmp_path: Path
) -> None:
    experiment = compose(*QUICK, "mixup=none", "mixup._target_=evil_fade.Fade")  # one's own words may name any code
    run(experiment)
    path = experiment.folder.path
    evil.unlink()
    del sys.modules["evil_fade"]
    with pytest.raises(UserError, match=r"mixup\._target_=evil_fade\.Fade: nothing of ours; --trust evil_fade runs it"):
        reproduce(path)
    assert not evil.exists()
    assert not (path.parents[1] / "reproductions").exists()
    assert reproduce(path, trusted=["evil_fade"]).verdict() == "bit-identical"
    assert evil.exists()
    for target in ("evil_fade.Popen", "evil_fade.torch.load", "evil_fade.Fade.sample"):
        alter(experiment.folder, mixup={"_target_": target})
        with pytest.raises(UserError, match="must be a class or function, by the module that defines or exports it"):
            stored(path, trusted=["evil_fade"])


def test_names_from_a_config_do_not_lead_out_of_the_output_folder(
    original: RunFolder, compose: Callable[..., Experiment], tmp_path: Path
) -> None:
    runs = tmp_path / "outputs/runs"
    config = stored_config(original.config, [f"output_dir={tmp_path / 'outputs'}", "seed=7"])
    for choice in ("../../../x", "/etc/x", "a/../../b", "x\n\x1b[31m", "..", "", "a" * 500):
        config._choices_ = {"dataset": choice, "model": "mlp", "mixup": choice}
        experiment = Experiment.composed(config)
        assert experiment.folder.path.parent == runs
        assert experiment.folder.path.resolve().parent == runs
        assert len(experiment.folder.path.name) < 200
        assert experiment.name.isprintable()
    named = compose(*QUICK, "+hydra.runtime.choices.mixup=../../x", "seed=7")
    assert named.folder.path.parent == runs


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("~seed", "+seed=abc"), "seed=abc: must be an integer"),
        (("~seed", "+seed=../../x"), "seed=../../x: must be an integer"),
        (("~seed", "+seed=[1]"), "seed=[1]: must be an integer"),
        (("~rerun", "+rerun=x"), "rerun=x: must be true or false"),
    ],
)
def test_a_key_that_is_taken_out_and_put_in_again_has_its_type(
    train: Train, tmp_path: Path, words: tuple[str, ...], line: str
) -> None:
    code, out, err = train(*words, "dry_run=true")
    assert (code, out, err) == (1, "", f"error: {line}\n")
    assert not (tmp_path / "outputs/runs").exists()


def test_a_copied_folder_is_a_run_all_the_same(original: RunFolder, tmp_path: Path) -> None:
    """Of an earlier version too, whose config began with instructions to Hydra."""
    copy = RunFolder(Path(shutil.copytree(original.path, tmp_path / original.path.name)))
    alter(copy, defaults=["schema", "_self_", {"override hydra/help": "vicinal"}], hydra={"job": {"name": "train"}})
    assert reproduce(copy.path).verdict() == "bit-identical"


@pytest.mark.parametrize(
    "words",
    ["mixup=one_of", "mixup=reference/timm", "mixup.law={_target_:vicinal.mixing.laws.Uniform,low:0.3,high:0.5}"],
)
def test_parts_of_a_strategy_need_no_trust(compose: Callable[..., Experiment], tmp_path: Path, words: str) -> None:
    from vicinal.jobs.provenance import config_file

    experiment = compose(*QUICK, words)
    (tmp_path / "config.yaml").write_bytes(config_file(experiment))
    assert Experiment.composed(stored_config(tmp_path / "config.yaml")).run_id == experiment.run_id
