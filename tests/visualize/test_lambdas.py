"""The law of lambda as it is drawn: against closed forms, SciPy's test and the numbers that are known of CutMix."""

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from vicinal.visualize.jobs import jobs
from vicinal.visualize.lambdas import EDGES, FINE, Law, law_figure, laws

ALPHAS = (0.2, 1.0, 2.0)
BINS = len(EDGES) - 1
Laws = dict[float | None, list[Law]]
FINE_EDGES = np.linspace(0, 1, FINE + 1)


@pytest.fixture(scope="module")
def at_32_pixels() -> Laws:
    asked = jobs(["dataset.image_size=32", "mixup=input,manifold,cutmix"])
    return laws(asked, ALPHAS)


def density(law: Any) -> np.ndarray[Any, Any]:
    """The density of a law of SciPy's in each of the bins."""
    return np.diff(law.cdf(FINE_EDGES)) * FINE


@pytest.mark.parametrize(
    ("words", "law"),
    [
        ("mixup.law=beta", stats.beta(2, 2)),
        ("mixup.law=asymmetric mixup.beta=0.5", stats.beta(2, 0.5)),
        ("mixup.members=3", stats.beta(2, 4)),
        ("mixup.law=uniform mixup.low=0.25 mixup.high=0.75", stats.uniform(0.25, 0.5)),
    ],
)
def test_the_law_that_is_asked_for_is_drawn(words: str, law: Any) -> None:
    found = laws(jobs(["mixup=input", *words.split()]), [2.0], draws=2000)
    [axes] = law_figure(found, 8).axes
    [curve] = axes.lines
    assert curve.get_label() == "asked for"
    np.testing.assert_allclose(curve.get_ydata(), density(law), atol=1e-6)
    fixed = "uniform" in words
    assert (list(found), axes.get_title()) == (([None], "") if fixed else ([2.0], "alpha 2"))


def test_an_alpha_that_a_law_refuses_has_no_panel() -> None:
    words = ["mixup=input", "mixup.law=truncated", "mixup.low=0.99", "mixup.high=1"]
    found = laws(jobs(words), draws=100)
    assert {alpha: len(each) for alpha, each in found.items()} == {0.2: 1, 0.4: 1, 1.0: 1, 2.0: 0}
    assert [axes.get_title() for axes in law_figure(found, 8).axes] == ["alpha 0.2", "alpha 0.4", "alpha 1"]


def test_laws_of_one_option_are_named_and_drawn_apart() -> None:
    """Without alpha, which is that of the panel."""
    words = ["mixup=input,cutmix", "mixup.law=beta,uniform"]
    [axes] = law_figure(laws(jobs(words), [0.4], draws=2000), 8).axes
    dashes = {line.get_label(): line.get_linestyle() for line in axes.lines}
    assert list(dashes) == [f"input law={law}, cutmix law={law}, asked for" for law in ("beta", "uniform")]
    assert len(set(dashes.values())) == 2
    outlines = {patch.get_label(): patch for patch in axes.patches[1::2]}
    assert list(outlines) == ["input law=beta", "input law=uniform", "cutmix law=beta", "cutmix law=uniform"]
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    assert figure.legends[0].get_window_extent().x0 >= 0
    assert figure.legends[0].get_window_extent().x1 <= figure.bbox.x1
    looks = {(patch.get_edgecolor(), str(patch.get_linestyle())) for patch in outlines.values()}
    assert len(looks) == 4


def test_strategies_that_ask_for_different_laws_have_a_line_each() -> None:
    words = ["mixup=cutmix", "mixup.prob=0.5,1"]
    [axes] = law_figure(laws(jobs(words), [2.0], draws=2000), 8).axes
    by_name = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert set(by_name) == {"cutmix prob=0.5, asked for", "cutmix prob=1, asked for"}
    whole = density(stats.beta(2, 2))
    np.testing.assert_allclose(by_name["cutmix prob=1, asked for"], whole, atol=1e-6)
    half = whole / 2 + np.eye(FINE)[-1] * FINE / 2  # what is not mixed has a lambda of 1
    np.testing.assert_allclose(by_name["cutmix prob=0.5, asked for"], half, atol=1e-6)


def test_input_and_manifold_are_one_law_and_it_is_the_nominal_one(at_32_pixels: Laws) -> None:
    for alpha, (same, cutmix) in at_32_pixels.items():
        assert (same.names, cutmix.names) == (["input", "manifold"], ["cutmix"])
        expected = np.diff(stats.beta.cdf(EDGES, alpha, alpha)) * BINS
        np.testing.assert_allclose(same.density, expected, atol=0.12)  # 5 standard errors of the fullest bin
        assert same.partner == pytest.approx(0.5, abs=0.01)


def test_cutmix_mixes_less_than_is_asked_for(at_32_pixels: Laws) -> None:
    cutmix = {alpha: found for alpha, (_, found) in at_32_pixels.items()}
    assert cutmix[0.2].partner == pytest.approx(0.278, abs=0.01)
    assert cutmix[0.2].unmixed == pytest.approx(0.17, abs=0.02)
    assert cutmix[1.0].partner == pytest.approx(0.299, abs=0.01)
    assert cutmix[2.0].partner == pytest.approx(0.306, abs=0.01)


def test_densities_are_shares_of_all_draws(at_32_pixels: Laws) -> None:
    for each in (law for found in at_32_pixels.values() for law in found):
        assert each.density.mean() == pytest.approx(1)
        assert each.density[-1] / BINS >= each.unmixed


def test_the_figure_draws_these_numbers(at_32_pixels: Laws) -> None:
    figure = law_figure(at_32_pixels, 32)
    for axes, (alpha, found) in zip(figure.axes, at_32_pixels.items(), strict=True):
        [curve] = axes.lines
        np.testing.assert_allclose(curve.get_ydata(), density(stats.beta(alpha, alpha)), rtol=1e-5, atol=1e-6)
        outlines = axes.patches[1::2]  # each has a filled form below it
        for outline, each in zip(outlines, found, strict=True):
            np.testing.assert_array_equal(outline.get_data().values, each.density)
            assert f"E[1 - lambda] = {each.partner:.2f}" in "\n".join(text.get_text() for text in axes.texts)
    assert "32 x 32" in figure.get_suptitle()


def test_what_is_cut_off_is_written_down() -> None:
    found = laws(jobs(["mixup=input"]), [0.1])
    [law] = found[0.1]
    figure = law_figure(found, 8)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {f"{law.density[0]:.1f}", f"{law.density[-1]:.1f}"} <= {*texts}


def test_only_strategies_with_a_law_have_one() -> None:
    assert laws(jobs(["mixup=none"]), [1.0]) == {1.0: []}


@pytest.mark.parametrize("probabilities", ["0.5,1", "1,0.5"])
def test_strategies_of_one_option_that_differ_have_laws_of_their_own(probabilities: str) -> None:
    found = laws(jobs(["mixup=input", "mixup.alpha=0.2,0.4", f"mixup.prob={probabilities}"]), [1.0], draws=2000)[1.0]
    half, whole = sorted(found, key=lambda law: law.partner)
    assert half.names == ["input prob=0.5"]
    assert whole.names == ["input prob=1"]
    assert half.unmixed == pytest.approx(0.5, abs=0.05)
    assert (whole.partner, whole.unmixed) == (pytest.approx(0.5, abs=0.03), 0)
    assert law_figure({1.0: found}, 8).axes[0].get_legend_handles_labels()[1][:2] == [law.names[0] for law in found]


def test_draws_that_need_more_than_a_shape_have_no_histogram() -> None:
    words = ["mixup=input,saliencymix,unimix,remix,ricap", "mixup.alpha=1"]
    [law] = laws(jobs(words), [1.0], draws=100)[1.0]
    assert law.names == ["input"]
    assert laws(jobs(["mixup=input", "mixup.alpha_end=2"]), [1.0]) == {1.0: []}


def test_the_boxes_of_a_rectangle_have_a_law_of_their_own() -> None:
    """At 1 x 20 pixels no box of CutMix has a row, so that nothing is mixed."""
    found = laws(jobs(["dataset.image_size=[6,60]", "mixup=cutmix"]), [1.0], draws=2000)
    [law] = found[1.0]
    [square] = laws(jobs(["dataset.image_size=6", "mixup=cutmix"]), [1.0], draws=2000)[1.0]
    assert 0 < square.partner < law.partner < 0.5  # sides of 60 pixels are rounded down by less
    assert "6 x 60 pixels" in law_figure(found, (6, 60)).get_suptitle()
