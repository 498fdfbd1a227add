"""What is shown of a strategy is what it does: to the images that a training really begins with."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vicinal import build
from vicinal.config.schema import CONF
from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.jobs.run import run
from vicinal.mixing.masks import Boxes
from vicinal.training.learner import Learner
from vicinal.training.rng_streams import RngStreams
from vicinal.visualize.canvas import OWN, PARTNER
from vicinal.visualize.jobs import jobs
from vicinal.visualize.lambdas import laws
from vicinal.visualize.mixing import BLOCKS, Row, caption, check, grid, rows

COUNT = 6
WORDS = ("dataset.augment=true", "mixup.alpha=1", "trainer.batch_size=32", "seed=3")


@pytest.fixture(scope="module")
def shown() -> dict[str, tuple[Experiment, Row]]:
    asked = jobs(WORDS)
    found = rows(asked, COUNT)
    return {row.label[0]: (job.experiment, row) for job, row in zip(asked, found, strict=True)}


def test_all_strategies_are_shown_where_none_is_named(shown: dict[str, tuple[Experiment, Row]]) -> None:
    assert list(shown) == ["none", "input", "manifold", "cutmix"]


@pytest.mark.parametrize("strategy", ["none", "input", "manifold", "cutmix"])
def test_the_tensors_are_those_of_the_plan_to_the_bit(strategy: str, shown: dict[str, tuple[Experiment, Row]]) -> None:
    experiment, row = shown[strategy]
    data = build.load_data(experiment)
    streams = RngStreams(experiment.seed)
    batches = build.make_loaders(experiment, data).train.epoch(streams.order, streams.augmentation)
    for index in range(COUNT):
        images, labels = next(batches)
        plan = experiment.strategy.sample(images.shape, streams.mixing)
        partner = int(plan.partner[0])
        sample = row.samples[index]
        assert torch.equal(sample.original, images[0])
        assert torch.equal(sample.partner, images[partner])
        assert torch.equal(sample.mixed, plan.mix(images)[0])
        assert torch.equal(sample.target, plan.targets(labels, 10)[0])
        assert (sample.label, sample.partner_label) == (labels[0], labels[partner])
        assert torch.equal(sample.plan.lam, plan.lam)
        assert sample.layer == plan.layer
        assert torch.equal(sample.plan.partner, plan.partner)


@pytest.mark.parametrize("strategy", ["none", "input", "manifold", "cutmix"])
def test_masks_are_the_m_of_the_equation(strategy: str, shown: dict[str, tuple[Experiment, Row]]) -> None:
    _, row = shown[strategy]
    for plan, _, _, original, partner, mixed, mask, _ in row.samples:
        torch.testing.assert_close(mixed, mask * original + (1 - mask) * partner, rtol=0, atol=1e-5)
        torch.testing.assert_close(mask.mean(), plan.lam[0], rtol=0, atol=1e-6)
        if isinstance(plan.mask, Boxes):
            top, bottom, left, right = (side[0] for side in plan.mask.sides)
            assert mask[0, top:bottom, left:right].sum() == 0
            assert (mask == 0).sum() == (bottom - top) * (right - left)


@pytest.mark.parametrize(
    "words",
    [
        ("mixup=cutmix",),
        ("mixup=saliencymix",),
        ("mixup=unimix", "dataset.imbalance=exponential"),
        ("mixup=input", "mixup.partner=nearest"),
        ("mixup=input", "mixup.partner=same_class", "dataset.label_noise=0.4"),
        ("mixup=input", "mixup.alpha_end=8", "trainer.batch_size=800"),
        ("mixup=input", "mixup.window=[0,0.5]", "trainer.batch_size=512"),
    ],
    ids=" ".join,
)
def test_the_first_images_are_those_that_a_training_takes_first(
    words: tuple[str, ...], compose: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Any, ...]] = []
    step = Learner.step

    def watched(self: Learner, images: torch.Tensor, labels: torch.Tensor, plan: Any) -> Any:
        seen.append((images[0].clone(), int(labels[0]), plan, plan.mix(images)[0].clone()))
        return step(self, images, labels, plan)

    monkeypatch.setattr(Learner, "step", watched)
    words = (*WORDS, *words, "trainer.epochs=2")
    run(compose(*words))
    [row] = rows(jobs(words), COUNT)
    assert len(seen) > 3
    for sample, (image, label, plan, mixed) in zip(row.samples, seen, strict=False):
        assert torch.equal(sample.original, image)
        assert sample.label == label
        assert sample.plan.active == plan.active
        assert torch.equal(sample.plan.lam, plan.lam)
        assert torch.equal(sample.plan.partner, plan.partner)
        assert torch.equal(sample.mixed, mixed)


def test_more_images_than_a_training_has_batches_are_as_in_its_last_epoch() -> None:
    words = ("mixup=input", "mixup.window=[0,0.5]", "mixup.taper=false", "trainer.epochs=2", "trainer.batch_size=800")
    [row] = rows(jobs(words), 7)
    assert [sample.plan.active for sample in row.samples] == [True, True, False, False, False, False, False]


def test_a_crop_is_the_own_part_of_a_mosaic() -> None:
    [row] = rows(jobs(["mixup=ricap", "mixup.alpha=1"]), COUNT)
    for sample in row.samples:
        (height, width), own = sample.plan.boundary, sample.mask[0]
        assert own[:height, :width].all()
        assert own.sum() == height * width
        assert own.mean() == pytest.approx(float(sample.plan.lam[0]))


def test_the_figure_draws_these_numbers(shown: dict[str, tuple[Experiment, Row]]) -> None:
    figure = grid([row for _, row in shown.values()])
    axes = iter(figure.axes)
    for _, row in shown.values():
        blocks = {name: [next(axes) for _ in range(COUNT)] for name in BLOCKS}
        for index, sample in enumerate(row.samples):
            active = sample.plan.active
            for name, image in (("originals", sample.original), ("mixed", sample.mixed), ("partners", sample.partner)):
                if name == "partners" and not active:
                    assert not blocks[name][index].images
                    continue
                [drawn] = blocks[name][index].images
                assert np.array_equal(drawn.get_array(), row.pixels(image)[:, :, 0].numpy())  # grey
                assert drawn.get_clim() == (0, 1)
            [mask] = blocks["masks m"][index].images
            assert np.array_equal(mask.get_array(), sample.mask[0].numpy())
            bars = blocks["targets"][index].patches
            same = not active or sample.label == sample.partner_label
            labels = [sample.label] if same else [sample.label, sample.partner_label]
            assert [bar.get_width() for bar in bars] == [sample.target[label].item() for label in labels]
            assert sum(bar.get_width() for bar in bars) == pytest.approx(1, abs=1e-6)
    assert next(axes, None) is None


@pytest.mark.parametrize(
    "words", [("mixup=ricap", "mixup.alpha=1"), ("mixup=zeta",), ("mixup=input", "mixup.members=3", "mixup.alpha=1")]
)
def test_a_target_of_several_samples_is_drawn_whole(words: tuple[str, ...]) -> None:
    [row] = rows(jobs(words), COUNT)
    axes = grid([row]).axes
    for sample, partner, target in zip(row.samples, axes[COUNT : 2 * COUNT], axes[4 * COUNT :], strict=True):
        widths = [bar.get_width() for bar in target.patches]
        texts = [text.get_text() for text in target.texts]
        assert sum(widths) == pytest.approx(1, abs=1e-5)
        assert widths[0] == sample.target[sample.label].item()
        assert widths[1] == sample.target[torch.arange(10) != sample.label].max().item()
        classes = int((sample.target > 0).sum())
        assert texts[-1].startswith(f"{classes - 2} more") is (classes > 2)
        assert partner.get_xlabel().startswith(f"1 of {sample.plan.members.shape[1] - 1}: ")


def test_what_is_blank_has_no_partner() -> None:
    [row] = rows(jobs(["mixup=cutout"]), COUNT)
    axes = grid([row]).axes
    for sample, partner, target in zip(row.samples, axes[COUNT : 2 * COUNT], axes[4 * COUNT :], strict=True):
        assert 0 < sample.mask.mean() < 1
        assert (partner.get_xlabel(), len(partner.images)) == ("no partner", 0)
        assert [text.get_text() for text in target.texts] == [f"{row.data.class_names[sample.label]}  1.00"]


def test_the_weights_that_a_plan_finds_in_the_pass_are_drawn() -> None:
    words = ["mixup=patchup", "mixup.layers=[input]", "mixup.block=1", "mixup.gamma=0.3"]
    [row] = rows(jobs(words), COUNT)
    for sample in row.samples:
        if sample.label != sample.partner_label:
            assert sample.target[sample.label].item() == pytest.approx(sample.plan.settled().lam[0].item())
            assert sample.mask.mean().item() == pytest.approx(sample.target[sample.label].item(), abs=0.02)


def test_features_that_are_mixed_are_said_to_be(shown: dict[str, tuple[Experiment, Row]]) -> None:
    _, row = shown["manifold"]
    assert {sample.layer for sample in row.samples} == {None, "block1", "block2"}
    assert "not the image" in caption([row])
    assert "not the image" not in caption([shown["input"][1]])
    mixed = grid([row]).axes[3 * COUNT : 4 * COUNT]
    assert [axes.get_xlabel() for axes in mixed] == [f"at {sample.layer or 'input'}" for sample in row.samples]


def test_pixels_undo_the_normalisation(shown: dict[str, tuple[Experiment, Row]]) -> None:
    experiment, row = shown["none"]
    data = build.load_data(experiment)
    shown_pixels = torch.stack([row.pixels(sample.original) for sample in row.samples])
    values = {round(16 * value) / 16 for value in shown_pixels.flatten().tolist()}
    assert values <= {step / 16 for step in range(17)}
    known = {image.numpy().tobytes() for image in data.train.gathered()}
    plain = rows(jobs(["mixup=none", "seed=3"]), 3)[0]
    for sample in plain.samples:
        image = (plain.pixels(sample.original) * 255).round().to(torch.uint8)
        assert image.permute(2, 0, 1).numpy().tobytes() in known
    assert (shown_pixels * 255).round().max() == 255


def test_words_are_those_of_a_sweep_and_equal_runs_are_one_row() -> None:
    found = jobs(["mixup=none,cutmix", "mixup.alpha=0.5,2"])
    labels = [row.label for row in rows(found, 1)]
    assert labels == [("none",), ("cutmix", "alpha 0.5"), ("cutmix", "alpha 2")]
    [row] = rows(jobs(["mixup=input", "mixup.per_sample=true"]), 1)
    assert len({*row.samples[0].plan.lam.tolist()}) > 1


def test_blue_and_vermilion_are_what_they_say() -> None:
    figure = grid(rows(jobs(["mixup=input", "mixup.alpha=1"]), 1))
    bars = figure.axes[4].patches
    assert [bar.get_facecolor() for bar in bars] == [
        (*(int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)), 1.0) for color in (OWN, PARTNER)
    ]


def test_the_command_writes_both_pictures_and_the_same_bytes_each_time(script: Any, tmp_path: Path) -> None:
    words = ("dataset=digits", "mixup=none,cutmix", "--out", "a/grid.png", "--images", "2", "--alphas", "1")
    assert script("show_mixing", *words) == (0, "a/grid.png\na/grid-lambda.png\n")
    files = [tmp_path / "a" / name for name in ("grid.png", "grid-lambda.png")]
    before = [file.read_bytes() for file in files]
    for file in files:
        with Image.open(file) as picture:
            assert picture.format == "PNG"
            assert len(picture.convert("RGB").getcolors() or []) > 20
    script("show_mixing", *words)
    assert [file.read_bytes() for file in files] == before


OPTIONS = sorted(file.relative_to(CONF / "mixup").with_suffix("").as_posix() for file in CONF.glob("mixup/**/*.yaml"))
OF_OTHER_DATA = [
    "between_class",
    "c_mixup",
    "classmix",
    "instance_paste",
    "ssmix",
    *(f"logmel/{k}" for k in ("cutmix", "input", "specmix")),
]
OF_NETWORKS = ["puzzlemix", "transmix"]
OF_COLOURS = ["moex"]


@pytest.mark.parametrize(
    "option", [name for name in OPTIONS if name not in ("base", *OF_OTHER_DATA, *OF_NETWORKS, *OF_COLOURS)]
)
def test_every_other_option_is_drawn(option: str) -> None:
    asked = jobs([f"mixup={option}"])
    check(asked[0].experiment)
    [row] = rows(asked, 2)
    assert all(0 <= sample.mask.min() <= sample.mask.max() <= 1 for sample in row.samples)
    laws(asked, [1.0], draws=10)


@pytest.mark.parametrize("option", OF_OTHER_DATA)
def test_an_option_of_other_data_is_refused_in_one_line(option: str) -> None:
    with pytest.raises(UserError, match=r"^mixup\.[^\n]+$"):
        jobs([f"mixup={option}"])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["mixup=puzzlemix"], "mixup=puzzlemix: cannot be drawn: only a network tells how much each pixel matters"),
        (
            ["mixup=none,cutmix", "mixup.depth=block1"],
            "mixup=cutmix: cannot be drawn: only a network tells the shape at the block of mixup.depth",
        ),
        (["mixup=moex"], "mixup=moex: cannot be drawn: moments are exchanged over channels, and there is one"),
        (
            ["mixup=transmix", "model=vit_tiny"],
            "mixup=transmix: cannot be drawn: only a network tells the attention that targets follow",
        ),
    ],
)
def test_what_a_network_has_to_tell_is_refused(words: list[str], line: str, script: Any, tmp_path: Path) -> None:
    assert script("show_mixing", *words) == (f"error: {line}", "")
    assert not [*tmp_path.iterdir()]


def test_strategies_that_look_at_the_batch_are_drawn_without_a_law(script: Any, tmp_path: Path) -> None:
    words = ("mixup=saliencymix,unimix,ricap", "--out", "a.png", "--images", "1")
    assert script("show_mixing", *words) == (0, "a.png\n")
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_without_a_law_there_is_no_picture_of_one(script: Any, tmp_path: Path) -> None:
    assert script("show_mixing", "mixup=none", "--out", "none.png", "--images", "1") == (0, "none.png\n")
    assert [file.name for file in tmp_path.iterdir()] == ["none.png"]


def test_options_of_ones_own_are_drawn(script: Any, tmp_path: Path) -> None:
    own = tmp_path / "my, [own] it's"
    (own / "mixup").mkdir(parents=True)
    (own / "mixup/strong.yaml").write_text("defaults: [input]\nalpha: 8\n")
    words = ("mixup=strong", "--images", "1", "--out", "a.png")
    assert script("show_mixing", "--config-dir", own.name, *words) == (0, "a.png\na-lambda.png\n")
    assert script("show_mixing", *words)[0].startswith("error: mixup=strong: no such option")
    line = "error: argument --config-dir: no: there is no such folder; --help says more"
    assert script("show_mixing", "--config-dir", "no") == (line, "")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["mixup=cutmx"],
            "error: mixup=cutmx: no such option; did you mean cutmix? allowed: "
            + ", ".join(
                [
                    *sorted(file.stem for file in (CONF / "mixup").glob("*.yaml") if file.stem != "base"),
                    *sorted(f"{file.parent.name}/{file.stem}" for file in (CONF / "mixup").glob("*/*.yaml")),
                ]
            ),
        ),
        (["mixup.alpha=-1"], "error: mixup.alpha=-1: must be a finite number in [0, 1000000]"),
        (["--images", "0"], "error: argument --images: 0: must be an integer >= 1; --help says more"),
        (["--out", "a.svg"], "error: argument --out: a.svg: must end in .png; --help says more"),
        (["--alphas", "0"], "error: argument --alphas: 0: must be a finite number > 0; --help says more"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], line: str, script: Any, tmp_path: Path) -> None:
    assert script("show_mixing", *words) == (line, "")
    assert not [*tmp_path.iterdir()]


def test_the_pictures_of_a_rectangle_have_its_shape(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(4):
                Image.new("RGB", (20, 12), (60 * number, 9 * number, number)).save(
                    tmp_path / part / name / f"{number}.png"
                )
    words = (
        "dataset=imagefolder",
        f"dataset.root={tmp_path}",
        f"dataset.cache_dir={tmp_path}/cache",
        "dataset.val_size=2",
    )
    asked = jobs([*words, "dataset.image_size=[12,20]", "mixup=cutmix", "trainer.batch_size=4"])
    shown = rows(asked, 1)
    assert shown[0].samples[0].mixed.shape == (3, 12, 20)
    axes = dict(zip(BLOCKS, grid(shown).axes, strict=True))
    assert [axes[name].get_box_aspect() for name in BLOCKS] == [0.6, 0.6, 0.6, 0.6, 1]
    assert axes["mixed"].get_images()[0].get_array().shape == (12, 20, 3)
