"""An axis of a search has an effect if two of its values are two runs somewhere in the space."""

from collections.abc import Callable, Mapping

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.launch import axis_effects
from vicinal.launch.axis_effects import check_effects
from vicinal.launch.search_space import read_space

Compose = Callable[..., Experiment]
NOTHING = ", so there is nothing to choose"


def check(compose: Compose, *words: str) -> None:
    parsed = OverridesParser.create().parse_overrides(list(words))
    fixed = [str(word.input_line) for word in parsed if not word.is_sweep_override()]

    def run(values: Mapping[str, str]) -> Experiment:
        return compose("model=mlp", *fixed, *(f"{key}={text}" for key, text in values.items()))

    check_effects(read_space(parsed), run)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("mixup=none mixup.alpha=interval(0.1,1)", "mixup.alpha: has no effect with vicinal.mixing.NoMix"),
        ("++mixup.alpha=0.1,1 mixup=none", "mixup.alpha: has no effect with vicinal.mixing.NoMix"),
        (  # although the default, mixup=input, has one
            "mixup=none,cutout mixup.alpha=interval(0.1,1) optimizer.lr=interval(0.1,1)",
            "mixup.alpha: has no effect with vicinal.mixing.NoMix, vicinal.mixing.pasting.Cutout",
        ),
        ("mixup.law=uniform mixup.alpha=0.1,1", "mixup.alpha: has no effect with vicinal.mixing.InputMixup"),
        (
            "optimizer=adam optimizer.momentum=interval(0,0.9)",
            "optimizer.momentum: has no effect with torch.optim.Adam",
        ),
        (
            "dataset.label_noise=0 dataset.label_noise_kind=symmetric,asymmetric",
            "dataset.label_noise_kind: changes the result of no run",
        ),
        ("optimizer.lr=0.1,0.2 wandb.project=a,b", "wandb.project: changes the result of no run"),
        ("trainer.loss=auto,ce", "trainer.loss: changes the result of no run"),
    ],
)
def test_an_axis_that_changes_no_run_is_refused(words: str, line: str, compose: Compose) -> None:
    with pytest.raises(UserError) as refused:
        check(compose, *words.split())
    assert str(refused.value) == f"{line}{NOTHING}; leave it out"


@pytest.mark.parametrize("word", ["mixup.alpha=choice(0.1,0.10)", "mixup.alpha=0.1,1e-1", "mixup.alpha=choice(0.1)"])
def test_an_axis_of_one_value_is_refused(word: str, compose: Compose) -> None:
    with pytest.raises(UserError) as refused:
        check(compose, word, "optimizer.lr=interval(0.1,1)")
    assert str(refused.value) == f"mixup.alpha: 0.1 is its only value{NOTHING}; write mixup.alpha=0.1"


@pytest.mark.parametrize(
    "words",
    [
        "mixup=none,input mixup.alpha=interval(0.1,1)",
        "mixup=none,cutout,input mixup.law=constant,beta mixup.alpha=interval(0.1,1)",  # with two options together
        "mixup.prob=interval(0,1) mixup.alpha=interval(0.1,1)",  # not at its low end
        "optimizer=adam,sgd optimizer.momentum=interval(0,0.9)",
        "dataset.label_noise=0,0.2 dataset.label_noise_kind=symmetric,asymmetric",
        "trainer.loss=auto,ce,focal",
    ],
)
def test_an_effect_with_some_options_is_enough(words: str, compose: Compose) -> None:
    check(compose, *words.split())


def test_points_that_are_refused_decide_nothing(compose: Compose) -> None:
    """Where less than two values of an axis are left, it is not known whether it has an effect."""
    check(compose, "trainer.batch_size=64,-1", "mixup.alpha=-1,-2")
    with pytest.raises(UserError, match=r"mixup.alpha: has no effect with vicinal.mixing.NoMix"):
        check(compose, "trainer.batch_size=-1,64", "mixup=none", "mixup.alpha=1,2")


def test_a_space_that_is_too_large_to_be_looked_at_is_allowed(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(axis_effects, "MOST", 3)
    check(compose, "mixup.alpha=0.1,1", "mixup=none", "trainer.batch_size=16,32,64")
