"""Jobs of a sweep are composed as Hydra does it, and what could change is resolved once."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from vicinal.config.composition import assigned, composer, hidden, literal, resolve_calls
from vicinal.config.schema import CONF, register
from vicinal.errors import UserError


@pytest.fixture(scope="module")
def loader() -> Iterator[ConfigLoaderImpl]:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        found = GlobalHydra.instance().config_loader()
        assert isinstance(found, ConfigLoaderImpl)
        yield found


def master(loader: ConfigLoaderImpl, *words: str) -> DictConfig:
    config = loader.load_configuration("config", list(words), RunMode.MULTIRUN)
    config.hydra.mode = RunMode.MULTIRUN  # as Hydra does before it sweeps
    return config


POINTS = [
    "mixup=none mixup.alpha=0.2 seed=0",
    "mixup=none mixup.alpha=0.4 seed=1",
    "mixup=manifold mixup.layers=[input,block1] +optimizer.maximize=true",
    "mixup=manifold mixup.layers=null ++trainer.epochs=3",
    "mixup=fmix ~mixup.decay",
    "experiment=mnist_cnn mixup=input optimizer=adamw optimizer.betas=[0.8,0.9]",
    "experiment=mnist_cnn mixup=input optimizer=adamw optimizer.betas=[0.8,0.99] seed=2",
    "+optimizer.dampening=0.1 scheduler=onecycle model=mlp dataset.root='a_b,c=d'",
    "+optimizer.maximize=true optimizer.maximize=false ++seed=3 rerun=true",
    "mixup={alpha:0.7,prob:0.5} mixup.alpha=0.4 mixup={alpha:0.3}",
    "mixup={alpha:0.7,prob:0.5} wandb.tags=[x,y] output_dir=${oc.env:HOME}/o",
]


@pytest.mark.slow
@pytest.mark.parametrize("own", [(), ("hydra.sweeper.max_batch_size=2", "hydra.sweep.dir='a b'")])
def test_configs_are_what_hydra_composes(loader: ConfigLoaderImpl, own: tuple[str, ...]) -> None:
    """All of them, what Hydra says of the job itself included, and though their options were composed before."""
    base = master(loader, *own)
    compose = composer(loader, base)
    for words in [point.split() for point in (*POINTS, *POINTS)]:
        config, expected = compose(words), loader.load_sweep_config(base, list(words))
        assert OmegaConf.to_container(config) == OmegaConf.to_container(expected), words
        assert config.hydra.overrides.task == words


@pytest.mark.parametrize(
    "point",
    [
        "trainer.no_such=1",
        "seed=abc",
        "+seed=1",
        "+optimizer.lr=1",
        "+trainer.epochs=1",
        "~mixup.no_such",
        "no_such=1",
        "mixup=nothing mixup.alpha=1",
        "+seed=[1]",
    ],
)
def test_what_hydra_refuses_is_refused_in_its_words(loader: ConfigLoaderImpl, point: str) -> None:
    base = master(loader)
    with pytest.raises(HydraException) as expected:
        loader.load_sweep_config(base, point.split())
    with pytest.raises(type(expected.value)) as caught:
        composer(loader, base)(point.split())
    assert str(caught.value) == str(expected.value)
    assert str(caught.value.__cause__) == str(expected.value.__cause__)


def test_a_config_does_not_see_what_is_set_in_another(loader: ConfigLoaderImpl) -> None:
    base = master(loader)
    points = [["mixup.alpha=0.9", "+optimizer.dampening=0.5"], ["seed=1"], ["mixup.alpha=0.3"]]
    first, second, third = map(composer(loader, base), points)
    assert [config.mixup.alpha for config in (first, second, third)] == [0.9, 0.2, 0.3]
    assert [config.seed for config in (first, second, third)] == [0, 1, 0]
    assert "dampening" not in second.optimizer


def test_hydra_composes_each_choice_of_options_once(loader: ConfigLoaderImpl, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = ConfigLoaderImpl.load_sweep_config
    monkeypatch.setattr(
        ConfigLoaderImpl, "load_sweep_config", lambda self, *given: (calls.append(given[1]), real(self, *given))[1]
    )
    compose = composer(loader, master(loader))
    for name, seed, lr in itertools.product(("none", "cutmix"), range(5), (0.1, 0.2)):
        compose([f"mixup={name}", f"seed={seed}", f"optimizer.lr={lr}", f"+optimizer.dampening={lr}"])
    assert calls == [["mixup=none"], ["mixup=cutmix"]]


def test_options_of_other_folders_are_found_and_hidden_ones_named(loader: ConfigLoaderImpl, tmp_path: Path) -> None:
    files = {
        "experiment/mine.yaml": "# @package _global_\ndefaults: [/parts/common]\nseed: 7\n",
        "parts/common.yaml": "# @package _global_\nrerun: true\n",
        "mixup/input.yaml": "_target_: not.read\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    base = master(loader, f"hydra.searchpath=['{tmp_path}']")
    config = composer(loader, base)(["experiment=mine"])
    assert (config.seed, config.rerun) == (7, True)
    assert list(hidden(config.hydra)) == [
        f"{tmp_path}/mixup/input.yaml is not used: {CONF}/mixup/input.yaml has the same name and comes first"
    ]


def resolved(loader: ConfigLoaderImpl, *words: str) -> DictConfig:
    base = master(loader)
    config = composer(loader, base)(words)
    resolve_calls(base, config)
    return config


def test_what_does_not_change_stays_an_interpolation(loader: ConfigLoaderImpl) -> None:
    config = resolved(loader, "output_dir='${oc.env:HOME}/${seed}'", "wandb.project='${mixup.prob}'")
    assert OmegaConf.to_container(config)["output_dir"] == "${oc.env:HOME}/${seed}"


@pytest.mark.parametrize("asked", ["job.num", "job.id", "runtime.output_dir", "no.such"])
def test_what_a_launched_job_alone_knows_is_refused(loader: ConfigLoaderImpl, asked: str) -> None:
    with pytest.raises(UserError) as caught:
        resolved(loader, f"output_dir='o/${{hydra:{asked}}}'")
    reason = f"hydra.{asked} is known only once a job is launched, and a sweep checks its jobs before"
    assert str(caught.value) == f"output_dir=o/${{hydra:{asked}}}: {reason}"


def test_what_hydra_knows_of_a_job_before_is_taken(loader: ConfigLoaderImpl) -> None:
    config = resolved(
        loader, "output_dir='o/${hydra:runtime.choices.mixup}/${hydra:runtime.version_base}'", "mixup=cutmix"
    )
    assert OmegaConf.to_container(config)["output_dir"] == "o/cutmix/1.3"


TEXT = st.text(st.sampled_from("a '\"\\${}:,=[]()é\n\t"), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.sampled_from("abc"), each, max_size=2),
    max_leaves=5,
)


@given(value=VALUES)
def test_no_text_is_taken_for_an_interpolation(value: object) -> None:
    config = OmegaConf.create({})
    OmegaConf.update(config, "x", literal(value), force_add=True)
    assert OmegaConf.to_container(config, resolve=True) == {"x": value}


def test_a_value_is_resolved_once(loader: ConfigLoaderImpl) -> None:
    values = itertools.count()
    OmegaConf.register_new_resolver("next", lambda: {"n": [next(values), "a ${b}'"]}, replace=True)
    base = master(loader)
    compose = composer(loader, base)
    jobs = [compose(["+optimizer.x=${next:}", f"seed={seed}"]) for seed in (0, 1)]
    for config in jobs:
        resolve_calls(base, config)
    for index, config in enumerate(jobs):
        for _ in range(2):
            assert OmegaConf.to_container(config.optimizer, resolve=True)["x"] == {"n": [index, "a ${b}'"]}


def test_a_time_is_one_for_all_jobs_of_a_sweep(loader: ConfigLoaderImpl) -> None:
    def times(base: DictConfig, count: int) -> list[str]:
        compose, found = composer(loader, base), []
        for _ in range(count):
            config = compose(["output_dir='${now:%H%M%S%f}'"])
            resolve_calls(base, config)
            found.append(config.output_dir)
        return found

    first, second = times(master(loader), 2)
    assert first == second
    assert times(master(loader), 1) != [first]


def test_a_dict_of_values_is_as_many_keys() -> None:
    words = ["mixup=none", "+mixup={alpha:0.2,own:{a:1,b:[x]}}", "++optimizer.lr=0.1", "dataset.note={}"]
    assert assigned(words) == {
        "mixup": "none", "mixup.alpha": "0.2", "mixup.own.a": "1", "mixup.own.b": "[x]", "optimizer.lr": "0.1",
        "dataset.note": "{}",
    }  # fmt: skip
