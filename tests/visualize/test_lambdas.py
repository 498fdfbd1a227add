"""The law of lambda as it is drawn: against closed forms, SciPy's test and the numbers that are known of CutMix."""

import numpy as np
import pytest
from scipy import stats

from vicinal.visualize.jobs import jobs
from vicinal.visualize.lambdas import BINS, Law, laws, nominal
from vicinal.visualize.show_mixing import law_figure

ALPHAS = (0.2, 1.0, 2.0)


@pytest.fixture(scope="module")
def at_32_pixels() -> list[Law]:
    asked = jobs(["dataset.image_size=32", "mixup=input,manifold,cutmix"])
    return laws(asked, ALPHAS)


def test_the_nominal_density_is_beta() -> None:
    x = np.linspace(0.01, 0.99, 99)
    np.testing.assert_allclose(nominal(0.5, x), 1 / (np.pi * np.sqrt(x * (1 - x))), rtol=1e-12)  # the arcsine law
    np.testing.assert_allclose(nominal(1, x), 1, rtol=1e-12)
    np.testing.assert_allclose(nominal(2, x), 6 * x * (1 - x), rtol=1e-12)
    np.testing.assert_array_equal(nominal(0.2, x), stats.beta.pdf(x, 0.2, 0.2))


def test_input_and_manifold_are_one_law_and_it_is_the_nominal_one(at_32_pixels: list[Law]) -> None:
    edges = np.linspace(0, 1, BINS + 1)
    for law in at_32_pixels:
        same, cutmix = law.effective
        assert (same.names, cutmix.names) == (("input", "manifold"), ("cutmix",))
        expected = np.diff(stats.beta.cdf(edges, law.alpha, law.alpha)) * BINS
        np.testing.assert_allclose(same.density, expected, atol=0.12)  # 5 standard errors of the fullest bin
        assert same.partner == pytest.approx(0.5, abs=0.01)


def test_cutmix_mixes_less_than_is_asked_for(at_32_pixels: list[Law]) -> None:
    cutmix = {law.alpha: law.effective[1] for law in at_32_pixels}
    assert cutmix[0.2].partner == pytest.approx(0.278, abs=0.01)
    assert cutmix[0.2].unmixed == pytest.approx(0.17, abs=0.02)
    assert cutmix[1.0].partner == pytest.approx(0.299, abs=0.01)
    assert cutmix[2.0].partner == pytest.approx(0.306, abs=0.01)


def test_densities_are_shares_of_all_draws(at_32_pixels: list[Law]) -> None:
    for each in (each for law in at_32_pixels for each in law.effective):
        assert each.density.mean() == pytest.approx(1)
        assert each.density[-1] / BINS >= each.unmixed


def test_the_figure_draws_these_numbers(at_32_pixels: list[Law]) -> None:
    figure = law_figure(at_32_pixels, 32)
    for axes, law in zip(figure.axes, at_32_pixels, strict=True):
        [curve] = axes.lines
        x, y = curve.get_data()
        np.testing.assert_array_equal(y, stats.beta.pdf(x, law.alpha, law.alpha))
        outlines = axes.patches[1::2]  # each has a filled form below it
        for outline, each in zip(outlines, law.effective, strict=True):
            np.testing.assert_array_equal(outline.get_data().values, each.density)
            assert f"E[1 - lambda] = {each.partner:.2f}" in "\n".join(text.get_text() for text in axes.texts)
    assert "32 x 32" in figure.get_suptitle()


def test_what_is_cut_off_is_written_down() -> None:
    [law] = laws(jobs(["mixup=input"]), [0.1])
    figure = law_figure([law], 8)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {f"{law.effective[0].density[0]:.1f}", f"{law.effective[0].density[-1]:.1f}"} <= {*texts}


def test_only_strategies_with_a_law_have_one() -> None:
    assert laws(jobs(["mixup=none"]), [1.0]) == [Law(1.0, ())]
