"""What is logged of the mixing against the same plans, drawn again and counted here one sample at a time."""

import copy
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vicinal import build
from vicinal.experiment import Experiment
from vicinal.jobs.run import run
from vicinal.mixing import CutMix, InputMixup, ManifoldMixup, MixPlan, NoMix, Strategy
from vicinal.mixing.masks import Mask, ScalarMask
from vicinal.runs import checkpoint
from vicinal.tasks import CLASSIFICATION, DETECTION, MULTILABEL
from vicinal.tasks.losses import CrossEntropy
from vicinal.tasks.multilabel import MultilabelLoss
from vicinal.training.evaluation import evaluate
from vicinal.training.mixing_stats import FOLDED_BATCHES, LAM_BINS, MixingStats
from vicinal.training.objective import Objective
from vicinal.training.rng_streams import RngStreams

Compose = Callable[..., Experiment]
Row = dict[str, Any]

CPU = torch.device("cpu")
TINY = (
    "model=mlp",
    "model.hidden=[16]",
    "dataset.train_size=130",  # four batches of 30, and one of 10
    "dataset.val_size=50",
    "trainer.batch_size=30",
    "trainer.epochs=3",
    "trainer.precision=fp32",
    "trainer.threads=1",
    "wandb.images=0",
)
JOBS = {
    "input": "mixup=input",
    "manifold": "mixup=manifold mixup.layers=[input,hidden1,hidden1] mixup.alpha=1",
    "cutmix": "mixup=cutmix mixup.alpha=.2",
    "cutmix, labels not corrected": "mixup=cutmix mixup.labels=drawn",
    "smoothed": "mixup=cutmix trainer.label_smoothing=0.1",
    "augmented": "mixup=input dataset.augment=true dataset.flip=true",
    "off": "mixup=input mixup.alpha=0",
    "hardly ever": "mixup=manifold mixup.layers=[input,hidden1] mixup.prob=0.15",
}
JOBS |= {f"{name}, a sample each": f"{JOBS[name]} mixup.per_sample=true" for name in ("input", "manifold", "cutmix")}
JOBS |= {f"{name}, often not": f"{words} mixup.prob=0.7" for name, words in JOBS.items() if "prob" not in words}
SHARES = ("mixing/lam_mean_partner", "mixing/empty_boxes", "mixing/same_class", "mixing/unmixed")


def read_rows(experiment: Experiment) -> list[Row]:
    return [json.loads(line) for line in experiment.folder.metrics.read_text().splitlines()]


def drawn(experiment: Experiment) -> Iterator[list[tuple[MixPlan, list[int], torch.Size]]]:
    """The plans of each epoch, with the labels and the shape of its batches, from the seed alone."""
    streams, loader = RngStreams(experiment.seed), build.make_loaders(experiment, build.load_data(experiment)).train
    for _ in range(experiment.trainer.epochs):
        epoch = []
        for images, labels in loader.epoch(streams.order, streams.augmentation):
            plan = experiment.strategy.sample(images.shape, streams.mixing)
            epoch.append((plan, labels.tolist(), images.shape))
        yield epoch


def pixels_of_its_own(plan: MixPlan, shape: torch.Size) -> list[float]:
    """The share of each image's pixels that stay, seen on images that are mixed with images unlike themselves."""
    if plan.mask is None:
        return [float(lam) for lam in plan.lam]
    numbers = torch.arange(len(plan.lam), dtype=torch.float32)
    mixed = replace(plan, partner=numbers.long().roll(1)).mix(numbers.view(-1, 1, 1, 1).expand(-1, *shape[1:]))
    return [float((image == number).double().mean()) for image, number in zip(mixed, numbers, strict=True)]


def counted(epoch: list[tuple[MixPlan, list[int], torch.Size]], classes: int, smoothing: float) -> Row:
    """The row of an epoch, a sample at a time."""
    own: list[float] = []
    empty, same, entropy, ceiling, floor, unmixed = [], [], [], [], [], []
    layers: Counter[str] = Counter()
    for plan, labels, shape in epoch:
        unmixed.append(not plan.active)
        if plan.active:
            layers[plan.layer or "input"] += 1
        shares = pixels_of_its_own(plan, shape) if plan.active else [1.0] * len(labels)
        own += shares
        for row, (label, partner) in enumerate(zip(labels, plan.partner.tolist(), strict=True)):
            target = np.zeros(classes)
            lam = float(plan.lam[row]) if plan.active else 1.0
            target[label] += lam
            target[labels[partner]] += 1 - lam
            smoothed = (1 - smoothing) * target + smoothing / classes
            entropy.append(-sum(p * math.log(p) for p in target if p > 0))
            floor.append(-sum(p * math.log(p) for p in smoothed if p > 0))
            ceiling.append(target.max())
            if plan.active:
                same.append(label == labels[partner])
                empty.append(shares[row] == 1)
    edges = (np.arange(LAM_BINS + 1, dtype=np.float32) / np.float32(LAM_BINS)).astype(float)
    histogram = np.histogram(np.array(own), bins=edges)[0].tolist()
    expected = {
        "mixing/lam_mean_partner": 1 - np.mean(own),
        "mixing/unmixed": np.mean(unmixed),
        "mixing/target_entropy": np.mean(entropy),
        "mixing/lam": histogram,
        "train/acc1_ceiling": np.mean(ceiling),
        "train/loss_floor": np.mean(floor),
        **{f"mixing/layer/{name}": number for name, number in layers.items()},
    }
    return expected | ({"mixing/empty_boxes": np.mean(empty), "mixing/same_class": np.mean(same)} if same else {})


@pytest.mark.parametrize("fold", [2, FOLDED_BATCHES])
@pytest.mark.parametrize("name", JOBS)
def test_what_is_logged_is_what_was_drawn(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, name: str, fold: int
) -> None:
    monkeypatch.setattr("vicinal.training.mixing_stats.FOLDED_BATCHES", fold)
    experiment = compose(*TINY, *JOBS[name].split())
    run(experiment)
    depths = {f"mixing/layer/{depth}" for depth in experiment.strategy.depths}
    rows = read_rows(experiment)
    for row, epoch in zip(rows, drawn(experiment), strict=True):
        expected = counted(epoch, 10, experiment.trainer.label_smoothing)
        logged = {key: row.pop(key) for key in [*row] if key.startswith("mixing/") and key != "mixing/lam_law"}
        logged |= {key: row[key] for key in ("train/acc1_ceiling", "train/loss_floor")}
        assert logged.keys() == expected.keys() | depths
        for key in depths - expected.keys():
            assert logged.pop(key) == 0
        assert logged.pop("mixing/lam") == expected.pop("mixing/lam")
        assert logged == pytest.approx(expected, rel=1e-6, abs=1e-7)
        assert sum(number for key, number in logged.items() if key in depths) == round(
            5 * (1 - logged["mixing/unmixed"])
        )
    assert ["mixing/lam_law" in row for row in rows] == [True, False, False]
    assert rows[0]["mixing/lam_law"] == experiment.strategy.law_of_lambda(LAM_BINS)


def test_the_cases_are_not_trivial(compose: Compose) -> None:
    """Each number that is compared above is neither 0 nor 1 in some of them."""
    found: dict[str, set[float]] = {key: set() for key in SHARES}
    for words in JOBS.values():
        for epoch in drawn(compose(*TINY, *words.split())):
            row = counted(epoch, 10, 0.0)
            for key in SHARES:
                found[key].add(row.get(key, -1))
    assert all(len({value for value in values if 0 < value < 1}) >= 3 for values in found.values())
    assert -1 in found["mixing/empty_boxes"]


def test_nothing_is_said_of_mixing_without_any(compose: Compose) -> None:
    experiment = compose(*TINY, "mixup=none")
    run(experiment)
    for row in read_rows(experiment):
        assert not [key for key in row if key.startswith("mixing/")]
        assert (row["train/acc1_ceiling"], row["train/loss_floor"]) == (1, 0)
        assert {"train_clean/acc1", "train_clean/loss"} <= row.keys()


@pytest.mark.parametrize("strategy", [NoMix(), InputMixup(1.0)])
def test_no_floor_is_said_of_a_loss_whose_bounds_are_not_known(strategy: Strategy) -> None:
    """Whether or not anything is mixed."""
    mixing_stats = MixingStats(strategy.depths, torch.ones(3), Objective(DETECTION, None), CPU)
    shape = (4, 1, 4, 4)
    mixing_stats.add(strategy.sample(shape, torch.Generator().manual_seed(0)), torch.zeros(4, 2, 5), shape)
    assert not {"train/loss_floor", "mixing/target_entropy"} & mixing_stats.read().keys()


def read(strategy: Strategy, batches: int, shape: tuple[int, ...], classes: int = 10) -> Row:
    """Return the statistics of so many batches."""
    generator = torch.Generator().manual_seed(0)
    mixing_stats = MixingStats(strategy.depths, torch.ones(classes), Objective(CLASSIFICATION, CrossEntropy()), CPU)
    for _ in range(batches):
        labels = torch.randint(classes, shape[:1], generator=generator)
        mixing_stats.add(strategy.sample(shape, generator), labels, shape)
    return mixing_stats.read()


@pytest.mark.parametrize("per_sample", [False, True])
def test_cutmix_at_32_pixels(per_sample: bool) -> None:
    row = read(CutMix(0.2, per_sample=per_sample), 40 if per_sample else 20_000, (500 if per_sample else 1, 3, 32, 32))
    assert row["mixing/empty_boxes"] == pytest.approx(0.17, abs=0.02)
    assert row["mixing/lam_mean_partner"] == pytest.approx(0.278, abs=0.01)
    # One batch in three thousand draws a lambda that float64 cannot tell from 1, and is not mixed.
    assert row["mixing/unmixed"] == (0 if per_sample else pytest.approx(3e-4, abs=3e-4))


def test_labels_that_are_not_corrected_do_not_hide_what_happens_to_the_images() -> None:
    shape = (500, 3, 32, 32)
    told, untold = (read(CutMix(0.2, per_sample=True, labels=labels), 40, shape) for labels in ("area", "drawn"))
    for key in ("mixing/empty_boxes", "mixing/lam_mean_partner", "mixing/lam"):
        assert told[key] == untold[key]
    assert untold["train/loss_floor"] < 0.9 * told["train/loss_floor"]


def test_same_class_pairs_are_a_tenth_of_ten_classes() -> None:
    row = read(InputMixup(1.0), 100, (256, 1, 2, 2))
    assert row["mixing/same_class"] == pytest.approx(0.1 + 0.9 / 256, abs=0.01)  # one in 256 is its own partner


@pytest.mark.parametrize(
    "strategy", [InputMixup(0.2, per_sample=True), ManifoldMixup(2.0, ["a", "b"], prob=0.6, per_sample=True)]
)
def test_the_histogram_follows_the_law(strategy: InputMixup | ManifoldMixup) -> None:
    row, law = read(strategy, 100, (1000, 1, 2, 2)), np.array(strategy.law_of_lambda(LAM_BINS))
    deviation = np.sqrt(100_000 * law * (1 - law))
    assert np.abs(np.array(row["mixing/lam"]) - 100_000 * law).max() < (4 * deviation).max()
    assert sum(row["mixing/lam"]) == 100_000


def test_bins_are_closed_below_and_the_last_on_both_sides() -> None:
    lam = torch.tensor([0.0, 0.05, 0.35, 0.7, 0.95, 1.0, 0.3499, 0.9999])
    mixing_stats = MixingStats(["input"], torch.ones(2), Objective(CLASSIFICATION, CrossEntropy()), CPU)
    mixing_stats.add(MixPlan(lam, torch.arange(8)), torch.zeros(8, dtype=torch.int64), (8, 1, 2, 2))
    row = mixing_stats.read()
    expected = [0] * LAM_BINS
    for bin_ in (0, 1, 7, 14, 19, 19, 6, 19):
        expected[bin_] += 1
    assert row["mixing/lam"] == expected
    assert (row["mixing/same_class"], row["mixing/target_entropy"], row["mixing/empty_boxes"]) == (1, 0, 1 / 8)


@pytest.mark.parametrize("numbers", [1024, 1025, 3000])
def test_targets_of_many_numbers_are_counted(numbers: int) -> None:
    """More numbers than are kept until the fold: three samples of two kinds, each mixed with the next by half."""
    targets = torch.zeros(3, numbers)
    targets[0, 0] = targets[1:, -1] = 1.0
    mixing_stats = MixingStats(["input"], torch.ones(numbers), Objective(MULTILABEL, MultilabelLoss()), CPU)
    mixing_stats.add(MixPlan(torch.full((3,), 0.5), torch.tensor([1, 2, 0])), targets, (3, 1, 2, 2))
    assert mixing_stats.read()["mixing/same_class"] == pytest.approx(1 / 3)


@dataclass(frozen=True)
class Stripes(Mask):
    """The left columns are one's own; nobody but this test knows it."""

    columns: Tensor  # (B,)

    def mix(self, x: Tensor, other: Tensor) -> Tensor:
        return torch.where(torch.arange(x.shape[-1]) < self.columns.view(-1, 1, 1, 1), x, other)

    def to(self, device: torch.device) -> Mask:
        return Stripes(self.columns.to(device))


class Unheard(Strategy):
    """Masks and depths of its own, and no law."""

    def __init__(self) -> None:
        self.number = 0

    def sample(self, shape: Any, generator: torch.Generator, context: object = None) -> MixPlan:
        self.number += 1
        if self.number % 2:
            return MixPlan(torch.full((4,), 0.5), torch.arange(4).roll(1), mask=Stripes(torch.tensor([0, 1, 2, 4])))
        mask = ScalarMask(torch.full((4,), 0.25)) if self.number % 4 else Stripes(torch.tensor([0, 1, 2, 4]))
        return MixPlan(
            torch.full((4,), 0.5), torch.arange(4).roll(1), layer=None if self.number % 4 else "deep", mask=mask
        )


def test_a_new_strategy_needs_nothing_here() -> None:
    row = read(Unheard(), 4, (4, 3, 4, 4), classes=1000)
    own = 2 * [0, 0.25, 0.5, 1] + [0.25] * 4 + [0.5] * 4  # a mask inside the network is that of the labels
    assert row["mixing/lam"] == np.histogram(own, LAM_BINS, (0, 1))[0].tolist()
    assert row["mixing/lam_mean_partner"] == pytest.approx(1 - np.mean(own))
    assert row["mixing/empty_boxes"] == 2 / 16
    assert (row["mixing/layer/input"], row["mixing/layer/deep"]) == (3, 1)
    assert row["mixing/target_entropy"] == pytest.approx(math.log(2), rel=1e-6)
    assert Unheard().law_of_lambda(LAM_BINS) is NoMix().law_of_lambda(LAM_BINS) is None


@pytest.mark.parametrize("strategy", [CutMix(0.2, prob=0.7), ManifoldMixup(1.0, ["input", "a"], per_sample=True)])
def test_statistics_continue_to_the_bit(strategy: Strategy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after each of thirteen steps, through a file, with counts every fourth mixed batch."""
    monkeypatch.setattr("vicinal.training.mixing_stats.FOLDED_BATCHES", 4)

    def fresh() -> MixingStats:
        return MixingStats(strategy.depths, torch.ones(10), Objective(CLASSIFICATION, CrossEntropy(0.1)), CPU)

    def steps(stats: MixingStats, numbers: range) -> Row:
        for number in range(13):
            plan = strategy.sample(shape, generator := torch.Generator().manual_seed(number))
            if number in numbers:
                stats.add(plan, torch.randint(10, (7,), generator=generator), shape)
        return stats.read()

    shape = torch.Size([7, 1, 16, 16])
    whole = steps(fresh(), range(13))
    for cut in range(14):
        before = fresh()
        monkeypatch.setattr(before, "read", dict)
        steps(before, range(cut))
        file = io.BytesIO()
        torch.save(before.state_dict(), file)
        file.seek(0)
        after = fresh()
        after.load_state_dict(torch.load(file, weights_only=True))
        assert steps(after, range(cut, 13)) == whole  # every float to the last bit
    ended = fresh()
    steps(ended, range(13))
    again = fresh()
    again.load_state_dict(copy.deepcopy(ended.state_dict()))
    assert again.read() == whole


# The clean subset


def clean(experiment: Experiment) -> tuple[Tensor, Tensor]:
    loader = build.make_loaders(experiment, build.load_data(experiment)).clean
    assert loader is not None
    images, labels = zip(*((images.clone(), labels) for images, labels in loader.batches()), strict=True)
    return torch.cat(images), torch.cat(labels)


def test_the_clean_subset_is_the_same_for_all(compose: Compose) -> None:
    words = (*TINY, "trainer.clean_subset=60", "trainer.eval_batch_size=25")
    images, labels = clean(compose(*words))
    assert images.shape == (60, 1, 8, 8)
    for other in ("mixup=none", "mixup=cutmix", "seed=3", "dataset.augment=true", "model=cnn"):
        same_images, same_labels = clean(compose(*words, other))
        assert torch.equal(images, same_images)
        assert torch.equal(labels, same_labels)
    assert not torch.equal(images, clean(compose(*words, "dataset.split_seed=1"))[0])
    data = build.load_data(compose(*TINY))
    mean, std = data.mean[0], data.std[0]
    train = {pixels.numpy().tobytes() for pixels in data.train.gathered()}
    chosen = {((image * std + mean) * 255).round().to(torch.uint8).numpy().tobytes() for image in images}
    assert len(chosen) == 60
    assert chosen <= train


def test_it_has_as_many_images_as_there_are_at_most(compose: Compose) -> None:
    images, labels = clean(compose(*TINY))
    assert len(images) == len(labels) == 130
    assert build.make_loaders(compose(*TINY, "trainer.clean_subset=0"), build.load_data(compose(*TINY))).clean is None


def test_the_clean_scores_are_those_of_the_plain_images(compose: Compose) -> None:
    experiment = compose(*TINY, "model.dropout=0.3", "dataset.augment=true", "trainer.ema_decay=0.8")
    run(experiment)
    row = read_rows(experiment)[-1]
    model = build.make_model(experiment)
    model.load_state_dict(torch.load(experiment.folder.checkpoint, weights_only=True)["model"])
    images, labels = clean(experiment)
    scores = evaluate(CLASSIFICATION, model, [(images, labels)], experiment.hardware)
    assert row["train_clean/acc1"] == scores["acc1"]
    assert row["train_clean/loss"] == pytest.approx(scores["nll"], rel=1e-6)
    logits = model.eval()(images)
    assert row["train_clean/acc1"] == pytest.approx(float((logits.argmax(1) == labels).double().mean()), rel=1e-12)


def test_it_changes_nothing(compose: Compose, tmp_path: Path) -> None:
    """Weights and all other numbers, with augmentation, dropout and batches of evaluation that are larger than it."""
    words = (*TINY, "dataset.augment=true", "model.dropout=0.3", "mixup=cutmix")
    on = compose(*words, f"output_dir={tmp_path / 'on'}", "trainer.clean_subset=33")
    off = compose(*words, f"output_dir={tmp_path / 'off'}", "trainer.clean_subset=0")
    for experiment in (on, off):
        run(experiment)
    assert on.run_id == off.run_id
    ours, theirs = (checkpoint.load(each.folder.checkpoint) for each in (on, off))
    for part in ("model", "best_model"):
        assert ours[part].keys() == theirs[part].keys()
        assert all(torch.equal(value, theirs[part][name]) for name, value in ours[part].items())
    assert ours["class_names"] == theirs["class_names"]
    assert ours["predictions"].keys() == theirs["predictions"].keys()
    assert all(torch.equal(value, theirs["predictions"][name]) for name, value in ours["predictions"].items())
    for rows in (ours["rows"], theirs["rows"]):
        for row in rows:
            for name in [name for name in row if name.startswith("train_clean/")]:
                del row[name]
    assert ours["rows"] == theirs["rows"]
    for with_it, without in zip(read_rows(on), read_rows(off), strict=True):
        for key in ("throughput", "seconds", "train_clean/acc1", "train_clean/loss"):
            with_it.pop(key)
            without.pop(key, None)
        assert with_it == without
