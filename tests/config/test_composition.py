"""Jobs of a sweep are composed as Hydra does it, from files that were seen, and launched with values that were seen."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from vicinal.config.composition import Composer, Observer, _literal, _spelled, hidden, resolve_once
from vicinal.config.schema import CONF, register
from vicinal.errors import UserError
from vicinal.launch.config_snapshot import contents


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
    "mixup=cutmix ~mixup.correct_lam",
    "experiment=mnist_cnn mixup=input optimizer=adamw optimizer.betas=[0.8,0.9]",
    "experiment=mnist_cnn mixup=input optimizer=adamw optimizer.betas=[0.8,0.99] seed=2",
    "+optimizer.dampening=0.1 scheduler=onecycle model=mlp dataset.root='a_b,c=d'",
    "mixup={alpha:0.7,prob:0.5} wandb.tags=[x,y] output_dir=${oc.env:HOME}/o",
]


@pytest.mark.slow
@pytest.mark.parametrize("own", [(), ("hydra.sweeper.max_batch_size=2", "hydra.sweep.dir='a b'")])
def test_configs_are_what_hydra_composes(loader: ConfigLoaderImpl, own: tuple[str, ...]) -> None:
    """All of them, what Hydra says of the job itself included, and though their options were composed before."""
    base = master(loader, *own)
    observer = Observer(base)
    composer = observer.from_copy(CONF)
    for words in [point.split() for point in (*POINTS, *POINTS)]:
        seen, launched, expected = (each.load_sweep_config(base, list(words)) for each in (observer, composer, loader))
        assert OmegaConf.to_container(seen) == OmegaConf.to_container(expected), words
        for each in (launched, expected):
            del each.hydra.runtime.config_sources  # the copy takes the place of all folders
        assert OmegaConf.to_container(launched) == OmegaConf.to_container(expected), words
        assert launched.hydra.overrides.task == words
    other = master(loader, "hydra.sweep.dir=c")
    assert composer.load_sweep_config(other, ["seed=1"]).hydra.sweep.dir == "c"


def test_a_config_does_not_see_what_is_set_in_another(loader: ConfigLoaderImpl) -> None:
    base = master(loader)
    points = [["mixup.alpha=0.9", "+optimizer.dampening=0.5"], ["seed=1"], ["mixup.alpha=0.3"]]
    observer = Observer(base)
    first, second, third = (observer.load_sweep_config(base, point) for point in points)
    assert [config.mixup.alpha for config in (first, second, third)] == [0.9, 0.2, 0.3]
    assert [config.seed for config in (first, second, third)] == [0, 1, 0]
    assert "dampening" not in second.optimizer


def test_hydra_composes_each_choice_of_options_once(loader: ConfigLoaderImpl, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = ConfigLoaderImpl.load_sweep_config
    monkeypatch.setattr(
        ConfigLoaderImpl, "load_sweep_config", lambda self, *given: (calls.append(given[1]), real(self, *given))[1]
    )
    base = master(loader)
    observer = Observer(base)
    for name, seed, lr in itertools.product(("none", "cutmix"), range(5), (0.1, 0.2)):
        observer.load_sweep_config(base, [f"mixup={name}", f"seed={seed}", f"optimizer.lr={lr}"])
    assert calls == [["mixup=none"], ["mixup=cutmix"]]


def test_the_files_that_were_read_are_remembered_and_no_others(loader: ConfigLoaderImpl, tmp_path: Path) -> None:
    mine = {
        "experiment/mine.yaml": "# @package _global_\ndefaults: [/parts/common]\nseed: 7\n",
        "parts/common.yaml": "# @package _global_\nrerun: true\n",
        "mixup/unchosen.yaml": "_target_: vicinal.mixing.InputMixup\nprob: 0.5\n",  # its keys may be crossed
        "mixup/input.yaml": "_target_: not.read\n",
        "outputs/runs/some/config.yaml": "a: 1\n",
    }
    for name, text in mine.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    base = master(loader, f"hydra.searchpath=['{tmp_path}']")
    observer = Observer(base)
    config = observer.load_sweep_config(base, ["experiment=mine"])
    assert (config.seed, config.rerun) == (7, True)
    own = {name: each for name, each in observer.seen.items() if each.content != contents(CONF).get(name)}
    read = {name: text for name, text in mine.items() if name.startswith(("experiment", "parts", "mixup/unchosen"))}
    assert {name: (each.path, each.content.decode()) for name, each in own.items()} == {
        name: (tmp_path / name, text) for name, text in read.items()
    }
    assert observer.seen.keys() == contents(CONF).keys() | read.keys()
    assert list(hidden(config.hydra)) == [
        f"{tmp_path}/mixup/input.yaml is not used: {CONF}/mixup/input.yaml has the same name and comes first"
    ]


def resolved(loader: ConfigLoaderImpl, *words: str) -> tuple[tuple[str, ...], DictConfig]:
    base = master(loader)
    config = Observer(base).load_sweep_config(base, list(words))
    return resolve_once(base, config), config


def test_what_does_not_change_stays_an_interpolation(loader: ConfigLoaderImpl) -> None:
    words, config = resolved(loader, "output_dir='${oc.env:HOME}/${seed}'", "wandb.project='${mixup.prob}'")
    assert words == ()
    assert OmegaConf.to_container(config)["output_dir"] == "${oc.env:HOME}/${seed}"


@pytest.mark.parametrize("asked", ["job.num", "job.id", "runtime.output_dir", "no.such"])
def test_what_a_launched_job_alone_knows_is_refused(loader: ConfigLoaderImpl, asked: str) -> None:
    with pytest.raises(UserError) as caught:
        resolved(loader, f"output_dir='o/${{hydra:{asked}}}'")
    reason = f"hydra.{asked} is known only once a job is launched, and a sweep checks its jobs before"
    assert str(caught.value) == f"output_dir=o/${{hydra:{asked}}}: {reason}"


def test_what_hydra_knows_of_a_job_before_is_taken(loader: ConfigLoaderImpl) -> None:
    words, config = resolved(
        loader, "output_dir='o/${hydra:runtime.choices.mixup}/${hydra:runtime.version_base}'", "mixup=cutmix"
    )
    assert config.output_dir == "o/cutmix/1.3"
    assert words == ("++output_dir='o/cutmix/1.3'",)


TEXT = st.text(st.sampled_from("a '\"\\${}:,=[]()é\n\t"), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.sampled_from("abc"), each, max_size=2),
    max_leaves=5,
)


@given(value=VALUES)
def test_a_value_is_spelled_as_it_is_read(value: object) -> None:
    word = OverridesParser.create().parse_override(f"++x={_spelled(_literal(value))}")
    config = OmegaConf.create({})
    OmegaConf.update(config, "x", word.value(), force_add=True)
    assert OmegaConf.to_container(config, resolve=True) == {"x": value}


def test_a_job_is_launched_with_the_value_that_was_seen(loader: ConfigLoaderImpl) -> None:
    values = itertools.count()
    OmegaConf.register_new_resolver("next", lambda: {"n": [next(values), "a ${b}'"]}, replace=True)
    base = master(loader)
    observer = Observer(base)
    jobs = [observer.load_sweep_config(base, ["+optimizer.x=${next:}", f"seed={seed}"]) for seed in (0, 1)]
    words = [resolve_once(base, config) for config in jobs]
    for index, config in enumerate(jobs):
        launched = observer.load_sweep_config(base, [f"seed={index}", *words[index]])
        for each in (config, launched, launched):
            assert OmegaConf.to_container(each.optimizer, resolve=True)["x"] == {"n": [index, "a ${b}'"]}


def test_a_time_is_one_for_all_jobs_of_a_sweep(loader: ConfigLoaderImpl) -> None:
    base = master(loader)
    observer = Observer(base)
    words = ["output_dir='${now:%H%M%S%f}'"]
    first, second = (resolve_once(base, observer.load_sweep_config(base, words)) for _ in range(2))
    assert first == second
    other = master(loader)
    assert resolve_once(other, Observer(other).load_sweep_config(other, words)) != first


def test_a_composer_is_of_one_sweep_at_a_time(loader: ConfigLoaderImpl) -> None:
    base = master(loader)
    composer = Observer(base).from_copy(CONF)
    composer.load_sweep_config(base, ["mixup=none"])
    composer.load_sweep_config(base, ["mixup=cutmix"])
    assert len(Composer._chosen) == 2
    composer.load_sweep_config(master(loader, "hydra.sweep.dir=d"), ["mixup=none"])
    assert len(Composer._chosen) == 1
