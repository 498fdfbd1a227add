"""Decision regions and hidden representations: the same each time, those of the model, and as the papers say."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.svm import SVC
from torch import Tensor

from vicinal.mixing import ManifoldMixup
from vicinal.visualize.boundary import (
    HIDDEN,
    REACH,
    SIDE,
    STRATEGIES,
    TOYS,
    Regions,
    figure,
    probability,
    regions,
    spread,
    square,
    toy,
)
from vicinal.visualize.canvas import write

Found = dict[str, dict[str, Regions]]


@pytest.fixture(scope="module")
def found() -> Found:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    made = {name: {kind: regions(name, strategy) for kind, strategy in STRATEGIES.items()} for name in TOYS}
    torch.set_num_threads(threads)
    return made


@pytest.mark.parametrize("name", TOYS)
def test_a_toy_is_seeded_balanced_and_not_linear(name: str) -> None:
    points, labels = toy(name, 512, seed=0)
    again, other = toy(name, 512, seed=0), toy(name, 512, seed=1)
    assert torch.equal(points, again[0])
    assert torch.equal(labels, again[1])
    assert not torch.equal(points, other[0])
    assert labels.bincount().tolist() == [256, 256]
    assert points.abs().max() < REACH
    lines, curves = (SVC(kernel=kernel, C=10, gamma=4.0).fit(points, labels) for kernel in ("linear", "rbf"))
    fresh, answers = toy(name, 512, seed=2)
    assert lines.score(fresh, answers) < 0.9
    assert curves.score(fresh, answers) > 0.98


@pytest.mark.slow
def test_training_again_gives_the_same_bits(found: Found) -> None:
    torch.set_num_threads(1)
    once, again = found["moons"]["manifold"], regions("moons", STRATEGIES["manifold"])
    assert all(map(torch.equal, once.model.state_dict().values(), again.model.state_dict().values()))
    for name in ("points", "labels", "hidden"):
        assert torch.equal(getattr(once, name), getattr(again, name))
    assert (once.accuracy, once.spread) == (again.accuracy, again.spread)


def test_strategies_start_from_the_same_weights_and_see_the_same_batches() -> None:
    off = ManifoldMixup(alpha=0.0, layers=[HIDDEN])
    none, same = (regions("moons", strategy, steps=20) for strategy in (STRATEGIES["none"], off))
    assert all(map(torch.equal, none.model.state_dict().values(), same.model.state_dict().values()))


@pytest.mark.slow
@pytest.mark.parametrize("name", TOYS)
def test_all_learn_and_none_and_manifold_learn_more_than_input(name: str, found: Found) -> None:
    accuracy = {kind: each.accuracy for kind, each in found[name].items()}
    assert accuracy["none"] > 0.98
    assert accuracy["manifold"] > 0.98
    assert 0.9 < accuracy["input"] < min(accuracy["none"], accuracy["manifold"])  # chords cross the other class


@pytest.mark.slow
@pytest.mark.parametrize("name", TOYS)
def test_manifold_mixup_draws_classes_together_and_is_less_sure_between_them(name: str, found: Found) -> None:
    none, manifold = found[name]["none"], found[name]["manifold"]
    assert manifold.spread < none.spread
    unsure = [_unsure(each) for each in (none, manifold)]
    assert unsure[1] > 2 * unsure[0]


def _unsure(found: Regions) -> float:
    share = probability(found.model, square(SIDE))
    return ((share > 0.1) & (share < 0.9)).float().mean().item()


@pytest.mark.slow
@pytest.mark.parametrize("kind", STRATEGIES)
def test_the_figure_draws_what_the_model_says(kind: str, found: Found) -> None:
    drawn = figure(found)
    for row, name in enumerate(TOYS):
        each = found[name][kind]
        place = len(STRATEGIES) * row + list(STRATEGIES).index(kind)
        plane, hidden = (half.axes[place] for half in drawn.subfigs)
        for axes, model, points in ((plane, each.model, each.points), (hidden, each.model[2], each.hidden)):
            field = np.asarray(axes.images[0].get_array())
            left, right, bottom, top = axes.images[0].get_extent()
            for line, column in ((0, 0), (0, SIDE - 1), (SIDE // 2, 7), (SIDE - 1, SIDE // 3)):
                at = Tensor([left + (right - left) * column / (SIDE - 1), bottom + (top - bottom) * line / (SIDE - 1)])
                with torch.no_grad():
                    expected = model(at[None]).softmax(dim=1)[0, 1].item()
                assert field[line, column] == pytest.approx(expected, abs=1e-3)
            dots = np.concatenate([np.asarray(some.get_offsets()) for some in axes.collections[-2:]])
            by_class = torch.cat([points[each.labels == label] for label in (0, 1)]).numpy()
            np.testing.assert_array_equal(dots, by_class)
        assert f"{each.accuracy:.3f}" in plane.get_xlabel()
        assert f"{each.spread:.2f}" in hidden.get_xlabel()


def test_the_lattice_goes_row_by_row_from_below() -> None:
    assert square(2, 1.0).tolist() == [[-1, -1], [1, -1], [-1, 1], [1, 1]]


def test_spread_of_classes_that_are_known() -> None:
    # Two classes 4 apart, each of two points one to the left and one to the right of its mean: 1 / 4 along x
    points = Tensor([[-1, 0], [1, 0], [-1, 4], [1, 4]])
    labels = torch.tensor([0, 0, 1, 1])
    assert spread(points, labels) == pytest.approx(0.25)
    turn = torch.linalg.qr(torch.randn(2, 2, generator=torch.Generator().manual_seed(0))).Q
    assert spread(7 * points @ turn + 3, labels) == pytest.approx(0.25)  # neither scale nor rotation counts


@pytest.mark.slow
def test_the_command_prints_its_numbers_and_writes_the_same_bytes_each_time(
    script: Any, tmp_path: Path, found: Found
) -> None:
    """What it trains anew is drawn as what this file has trained."""
    code, printed = script("show_boundary", "--data", "circles", "--out", "circles.png")
    lines = [
        f"circles  {kind:9} accuracy {each.accuracy:.4f}  spread of the hidden classes {each.spread:.3f}"
        for kind, each in found["circles"].items()
    ]
    assert (code, printed.splitlines()) == (0, [*lines, "circles.png"])
    other = write(tmp_path / "other.png", partial(figure, {"circles": found["circles"]}))
    assert (tmp_path / "circles.png").read_bytes() == other.read_bytes()


def test_a_mistake_is_one_line(script: Any) -> None:
    code, _ = script("show_boundary", "--data", "rings")
    assert str(code).startswith("error: argument --data: invalid choice: 'rings'")
    assert script("show_boundary", "--seed", "-1")[0] == (
        "error: argument --seed: -1: must be an integer >= 0; --help says more"
    )
