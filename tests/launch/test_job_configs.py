"""The file of a job is its checked config: whole, without secrets, verified, and enough to launch the job by."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from vicinal.config.schema import CONF, register
from vicinal.experiment import Experiment
from vicinal.launch.job_configs import JobConfigs
from vicinal.runs.files import DamagedError

Compose = Callable[..., Experiment]
MODEL = """
from vicinal.models.mlp import MLP

class Own(MLP):
    def __init__(self, channels, image_size, classes, sizes, text, cls_token=""):
        super().__init__(channels, image_size, classes)
"""


@pytest.fixture
def master() -> DictConfig:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = GlobalHydra.instance().config_loader().load_configuration("config", [], RunMode.MULTIRUN)
    config.hydra.mode = RunMode.MULTIRUN
    return config


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words that choose a network of the user's own."""
    (tmp_path / "own_model_of_a_job.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    sizes = "+model.sizes={1:[1.0e-5,1e30,null],2:{c:[true,'1e-5','no','2020-01-01']}}"
    return ["model=mlp", "model._target_=own_model_of_a_job.Own", "~model.hidden", sizes]


def launched(configs: JobConfigs, master: DictConfig, *words: str) -> DictConfig:
    sent: JobConfigs = pickle.loads(pickle.dumps(configs))  # to another process
    return sent.load_sweep_config(master, list(words))


def test_the_launched_config_is_the_checked_one(
    compose: Compose, master: DictConfig, own: list[str], tmp_path: Path
) -> None:
    words = [*own, "+model.text='a: #b é\n\ttwo'", "wandb.tags=['\\${x}']", "mixup=cutmix", "+mixup.layers=[input]"]
    experiment = compose(*words)
    configs = JobConfigs(tmp_path / "jobs")
    config = launched(configs, master, *words, configs.add(experiment))
    assert config.hydra.overrides.task == words
    assert (config.hydra.runtime.choices.mixup, master.hydra.runtime.choices.mixup) == ("cutmix", "input")
    HydraConfig.instance().set_config(config)  # Hydra's own node is whole
    HydraConfig.instance().cfg = None
    again = Experiment.composed(config)
    assert re.fullmatch(r"digits-mlp-cutmix-alpha1-target_own_model_of_a_job.Own-.*", experiment.name)
    assert (experiment.config["model"]["text"], experiment.wandb.tags) == ("a: #b é\n\ttwo", ["${x}"])
    assert again.config == experiment.request()
    assert (again.run_id, again.folder.path) == (experiment.run_id, experiment.folder.path)
    assert again.ineffective_keys() == [] != experiment.ineffective_keys()  # the sweep has told of them


def test_secrets_are_not_in_the_file_and_reach_the_job(
    compose: Compose, master: DictConfig, own: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_TOKEN", "hidden-value")
    experiment = compose(*own, "+model.cls_token=a-secret", "+model.text=plain", "wandb.tags=[hidden-value]")
    configs = JobConfigs(tmp_path / "jobs")
    word = configs.add(experiment)
    [file] = (tmp_path / "jobs").iterdir()
    content = OmegaConf.load(file)
    assert (content.model.cls_token, content.wandb.tags) == ("<cls_token>", ["<SOME_TOKEN>"])
    config = launched(configs, master, word)
    assert (config.model.cls_token, config.wandb.tags) == ("a-secret", ["hidden-value"])
    assert Experiment.composed(config).run_id == experiment.run_id


def test_a_file_that_was_edited_is_not_used(compose: Compose, master: DictConfig, tmp_path: Path) -> None:
    configs = JobConfigs(tmp_path / "jobs")
    word = configs.add(compose())
    [file] = (tmp_path / "jobs").iterdir()
    file.write_text(file.read_text().replace("vicinal.mixing", "os"))
    with pytest.raises(DamagedError, match=f"^{file} is damaged: .* rerun the same command to resume$"):
        configs.load_sweep_config(master, [word])
    assert configs.add(compose()) == word
    configs.load_sweep_config(master, [word])


def test_two_processes_with_other_settings_do_not_share_a_file(compose: Compose, tmp_path: Path) -> None:
    configs = JobConfigs(tmp_path / "jobs")
    assert configs.add(compose("wandb.mode=disabled")) != configs.add(compose("wandb.mode=offline"))
    assert len(list((tmp_path / "jobs").iterdir())) == 2
