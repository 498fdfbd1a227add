"""Between test images: closed forms for errors and gradients, and weights that are those of the run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import Normalize

from vicinal.data import Loader, Samples
from vicinal.errors import UserError
from vicinal.jobs.run import run
from vicinal.visualize.between import Line, between, chain, figure, jacobian_norm, lines, stored
from vicinal.visualize.jobs import jobs


class Steps(nn.Module):
    """Class k for a pixel in [k, k + 1)."""

    def forward(self, images: Tensor) -> Tensor:
        return -(images.flatten(1)[:, :1] - torch.tensor([0.5, 1.5, 2.5])).abs()


def linear(seed: int = 0) -> nn.Sequential:
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)))
    return model


def test_misses_are_those_of_a_network_that_is_known() -> None:
    # From 2.25 (class 2) to .25 (class 0): 2.25, 2.05 | 1.85, 1.65, 1.45, 1.25, 1.05 | .85, .65, .45, .25
    images, labels = Tensor([0.25, 2.25]).view(2, 1, 1, 1), torch.tensor([0, 2])
    found = between(Steps(), images, labels)
    there = [0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0]
    assert found.miss.tolist() == [(one + other) / 2 for one, other in zip(there, reversed(there), strict=True)]
    assert found.miss.max() == 1
    assert found.pairs == 2


def test_at_the_ends_a_miss_is_an_error_that_is_not_the_partners_class() -> None:
    images, labels = Tensor([0.5, 1.5, 2.5, 0.5]).view(4, 1, 1, 1), torch.tensor([0, 0, 2, 2])
    # Taken for 0, 1, 2 and 0. The second is wrong for its pair as first (0 and 2) and as partner (0 and 0); the last is
    # not as first, since its partner is a 0, but as partner (2 and 2).
    found = between(Steps(), images, labels, places=2)
    assert found.miss.tolist() == [0.5, 0.25]
    assert found.lam.tolist() == [0, 1]


def test_the_gradient_of_a_linear_network_is_its_weight_everywhere() -> None:
    model = linear()
    images = torch.rand(7, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    found = between(model, images, torch.zeros(7, dtype=torch.int64))
    norm = np.linalg.norm(model[1].weight.detach().numpy())
    np.testing.assert_allclose(found.gradient, np.full(11, norm), rtol=1e-5)


def test_the_gradient_is_of_pixels_whatever_the_normalisation() -> None:
    model, std = linear(), [0.25, 4.0]
    images = torch.rand(5, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    weight = model[1].weight.detach().view(3, 2, 2, 2) / Tensor(std).view(1, 2, 1, 1)
    _, norm = jacobian_norm(nn.Sequential(Normalize([0.5, 0.1], std), model), images)
    torch.testing.assert_close(norm, weight.norm().expand(5))


def test_the_gradient_of_a_curved_network_is_that_of_torchs_jacobian() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    images = torch.rand(4, 2, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    logits, norm = jacobian_norm(model, images)
    for image, own, logit in zip(images, norm, logits, strict=True):
        jacobian = torch.autograd.functional.jacobian(model, image[None])  # type: ignore[no-untyped-call]
        torch.testing.assert_close(own.double(), jacobian.norm(), rtol=1e-6, atol=0)
        torch.testing.assert_close(logit, model(image[None])[0].detach())


def test_pairs_are_random_images_that_differ_and_the_same_every_time() -> None:
    images = torch.arange(50, dtype=torch.uint8).view(50, 1, 1, 1)
    test = Samples(images, torch.arange(50))
    some, labels = chain(test, 20)
    assert len({*labels.tolist()}) == 20
    assert some.flatten().tolist() == labels.tolist() != sorted(labels.tolist())
    assert all(map(torch.equal, chain(test, 20), (some, labels)))
    assert len(chain(test, 80)[1]) == 50


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A completed run of each of two strategies; not to be changed."""
    words = ["mixup=none,input", "mixup.alpha=1", "model=mlp", "trainer.epochs=2", "trainer.precision=fp32"]
    asked = jobs([*words, "trainer.threads=1", f"output_dir={tmp_path_factory.mktemp('outputs')}"])
    for job in asked:
        run(job.experiment)
    return {job.experiment.choices["mixup"]: job.experiment.folder.path for job in asked}


@pytest.fixture
def own(runs: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of a completed run."""
    shutil.copytree(runs["none"], tmp_path / "own")
    return tmp_path / "own"


def test_the_weights_are_those_of_the_run(runs: dict[str, Path]) -> None:
    for strategy, path in runs.items():
        result, model, data = stored(path)
        loader = Loader(data.test, 360, data.mean, data.std, device=torch.device("cpu"))
        [(images, labels)] = loader.batches()
        with torch.inference_mode():
            logits = model(images)
            other = model(Normalize(data.mean, data.std)(data.test.gathered().float() / 255))
        assert result.items() <= json.loads((path / "result.json").read_bytes()).items()
        assert (logits.argmax(dim=1) == labels).float().mean() == pytest.approx(result["test"]["last"]["acc1"])
        torch.testing.assert_close(other, logits, rtol=1e-4, atol=1e-4)
        assert (result["choices"]["mixup"], result["seed"]) == (strategy, 0)
        assert not model.training


def test_the_command_draws_the_runs_it_is_given(runs: dict[str, Path], script: Any, tmp_path: Path) -> None:
    words = (*map(str, runs.values()), "--pairs", "30", "--out", "between.png")
    code, printed = script("show_between", *words)
    measured = lines(list(runs.values()), pairs=30)
    assert code == 0
    assert printed.splitlines() == [
        *(
            f"{path.name}: misses at most {line.between.miss.max():.3f}, "
            f"gradient norm {line.between.gradient.mean():.2f} on average"
            for path, line in zip(runs.values(), measured, strict=True)
        ),
        "between.png",
    ]
    before = (tmp_path / "between.png").read_bytes()
    script("show_between", *words)
    assert (tmp_path / "between.png").read_bytes() == before


def result(cell: str, strategy: str, seed: int) -> dict[str, Any]:
    return {"name": "a", "cell_id": cell, "seed": seed, "choices": {"mixup": strategy}}


def test_the_figure_draws_means_over_the_seeds_of_a_cell() -> None:
    model, labels = linear(), torch.arange(6) % 3
    images = torch.rand(6, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    both = [between(linear(seed), images, labels) for seed in (0, 1)]
    alone = between(model, images, labels)
    shown = [
        *(Line(result("cell-a", "input", seed), each) for seed, each in enumerate(both)),
        Line(result("cell-b", "none", 4), alone),
    ]
    drawn = figure(shown)
    for axes, scale, name in zip(drawn.axes, (100, 1), ("miss", "gradient"), strict=True):
        values = [scale * getattr(line.between, name) for line in shown]
        thin, other, mean, single = (line.get_ydata() for line in axes.lines)
        np.testing.assert_array_equal(thin, values[0])
        np.testing.assert_array_equal(other, values[1])
        np.testing.assert_allclose(mean, (values[0] + values[1]) / 2, rtol=1e-6)
        np.testing.assert_array_equal(single, values[2])
    names = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert names == ["a cell-a, 2 seeds", "a cell-b, seed 4"]
    assert "same 6 random pairs" in drawn.texts[0].get_text()


def test_without_weights_the_line_says_so(own: Path, script: Any) -> None:
    file = own / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:-100])
    code, _ = script("show_between", str(own))
    assert code == (
        f"error: {file} is damaged: its checksum is wrong, so there are no weights; rerun=true trains the run again"
    )
    file.unlink()
    code, _ = script("show_between", str(own))
    assert code == f"error: {file} is missing, so there are no weights; rerun=true trains the run again"


def test_what_is_no_completed_run_is_one_line(own: Path, script: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert script("show_between", "empty")[0] == "error: empty: this is not the folder of a run: it has no result.json"
    assert script("show_between", "gone")[0] == "error: gone: there is no such folder"
    assert script("show_between", "seed=1")[0] == "error: say which runs: their folders, such as outputs/runs/*"
    line = "error: argument --pairs: 1: must be an integer >= 2; --help says more"
    assert script("show_between", "gone", "--pairs", "1")[0] == line  # an image has no line to itself
    (own / "result.json").unlink()
    assert script("show_between", str(own))[0] == f"error: {own}: the run is not completed; train.py resumes it"


def test_runs_with_other_test_images_are_not_compared(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from vicinal.visualize import between as module

    first, second = runs.values()

    def other(path: Path, *words: Any) -> Any:
        found = stored(path, *words)
        if path == second:
            test = found.data.test
            return found._replace(data=replace(found.data, test=test._replace(inputs=test.inputs.flip(0))))
        return found

    monkeypatch.setattr(module, "stored", other)
    with pytest.raises(UserError, match=f"^{second}: its test images are not those of {first}"):
        lines([first, second], pairs=20)


def test_a_run_is_read_wherever_it_is(own: Path, runs: dict[str, Path]) -> None:
    there, here = (stored(path).model.state_dict() for path in (runs["none"], own))
    assert all(map(torch.equal, there.values(), here.values()))
