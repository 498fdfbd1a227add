"""Long-tailed class sizes: those of the papers, the same for every strategy and seed of a run, and recorded."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vicinal import build
from vicinal.data.imbalance import imbalanced
from vicinal.experiment import Experiment
from vicinal.jobs.run import run

Compose = Callable[..., Experiment]
TINY = ("model=mlp", "model.hidden=[4]", "trainer.epochs=1")


def sizes(counts: list[int], kind: str, ratio: float) -> list[int]:
    """Class sizes that are left of a set with these."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    kept = imbalanced(labels, kind, ratio, 0, [str(label) for label in range(len(counts))])
    return np.bincount(labels[kept], minlength=len(counts)).tolist()


def test_the_sizes_of_long_tailed_cifar() -> None:
    assert sizes([5000] * 10, "exponential", 100) == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    totals = {(10, 10): 20431, (10, 50): 13996, (10, 200): 11203, (100, 10): 19573, (100, 50): 12608, (100, 100): 10847}
    for (classes, ratio), total in totals.items():
        assert sum(sizes([50_000 // classes] * classes, "exponential", ratio)) == total
    assert sizes([5000] * 10, "step", 100) == [5000] * 5 + [50] * 5
    assert sizes([60] * 5, "step", 10) == [60, 60, 60, 6, 6]


@given(
    counts=st.lists(st.integers(20, 60), min_size=2, max_size=9),
    kind=st.sampled_from(["exponential", "step"]),
    ratio=st.floats(1, 20),
    seed=st.integers(0, 2**32 - 1),
)
def test_classes_have_the_ratio_and_no_more_than_there_is(
    counts: list[int], kind: str, ratio: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    names = [str(label) for label in range(len(counts))]
    kept = imbalanced(labels, kind, ratio, seed, names)
    assert torch.equal(kept, kept.unique())
    found = np.bincount(labels[kept], minlength=len(counts))
    assert (found <= counts).all()
    assert (np.diff(found) <= 0).all()
    assert found[0] / (found[-1] + 1) < ratio <= (found[0] + 1) / found[-1]
    assert torch.equal(kept, imbalanced(labels, kind, ratio, seed, names))
    equal = imbalanced(labels, kind, 1.0, seed, names)
    assert np.bincount(labels[equal]).tolist() == [min(counts)] * len(counts)


def test_the_rounding_of_a_power_costs_no_image() -> None:
    """8 ** (2 / 3) is a little below 4, and 64 ** (1 / 3) too."""
    for counts, ratio in (([64, 32, 16, 8], 8), ([5000, 2500, 1250, 625], 8), ([64, 16, 4, 1], 64)):
        assert sizes(counts, "exponential", ratio) == counts
    assert sizes([21, 36, 2, 22], "exponential", 8) == [8, 4, 2, 1]


def test_a_ratio_that_rounding_leaves_without_an_image_is_refused() -> None:
    assert sizes([54, 53, 52, 1], "exponential", 54) == [54, 14, 3, 1]
    reason = (
        "imbalance_ratio must be one that leaves each class an image, with sizes rounded down: of 3 nothing would be"
    )
    with pytest.raises(ValueError, match=f"^{reason} left beside 1 of 0, got 1.5$"):
        sizes([54, 53, 52, 1], "exponential", 1.5)


def test_a_larger_ratio_keeps_some_of_the_same_images_drawn_at_random() -> None:
    labels = torch.arange(4000) % 4
    names = list("abcd")
    more, fewer = (set(imbalanced(labels, "exponential", ratio, 0, names).tolist()) for ratio in (10, 100))
    assert fewer < more
    of_last = [index // 4 for index in more if index % 4 == 3]
    assert len(of_last) == 100
    assert abs(np.mean(of_last) - 499.5) < 4 * 1000 / np.sqrt(12 * 100)
    assert more != set(imbalanced(labels, "exponential", 10, 1, names).tolist())


def test_golden_images() -> None:
    assert imbalanced(torch.arange(12) % 2, "step", 3, 1, ["a", "b"]).tolist() == [0, 1, 2, 3, 4, 6, 8, 10]


def test_only_the_training_part_has_a_tail_and_noise_comes_after_it(compose: Compose) -> None:
    words = (*TINY, "dataset.imbalance=exponential", "dataset.imbalance_ratio=20")
    whole, tail = build.load_data(compose(*TINY)), build.load_data(compose(*words))
    assert tail.val is not None
    assert whole.val is not None
    assert tail.val.targets.tolist() == whole.val.targets.tolist()
    assert torch.equal(tail.test.targets, whole.test.targets)
    counts = tail.train.targets.bincount().tolist()
    assert counts == [int(counts[0] / 20 ** (k / 9)) for k in range(10)]
    assert counts[0] == whole.train.targets.bincount()[0]
    noisy = build.load_data(compose(*words, "dataset.label_noise=0.4", "seed=3", "mixup=none"))
    assert noisy.train.rows is not None
    assert torch.equal(noisy.train.rows, tail.train.rows)
    assert noisy.noise is not None
    assert len(noisy.noise.index) == round(0.4 * sum(counts))


def test_class_sizes_are_recorded(compose: Compose, caplog: pytest.LogCaptureFixture) -> None:
    words = (*TINY, "dataset.train_size=200", "dataset.imbalance=step", "dataset.imbalance_ratio=4")
    with caplog.at_level("INFO"):
        result = run(compose(*words))
    counts = result["class_counts"]
    assert counts == [20] * 5 + [5] * 5
    line = "training images per class (dataset.imbalance): 0 20, 1 20, "
    assert any(record.getMessage().startswith(line) for record in caplog.records)


def test_class_sizes_are_those_before_label_noise(compose: Compose, caplog: pytest.LogCaptureFixture) -> None:
    words = (*TINY, "dataset.train_size=200", "dataset.imbalance=step", "dataset.imbalance_ratio=4")
    with caplog.at_level("INFO"):
        result = run(compose(*words, "dataset.label_noise=0.5"))
    assert result["class_counts"] == [20] * 5 + [5] * 5
    line = "training images per class (dataset.imbalance): 0 20, 1 20, "
    assert any(record.getMessage().startswith(line) for record in caplog.records)


@pytest.mark.parametrize("kind", ["exponential", "step"])
@given(st.lists(st.integers(1, 60), min_size=2, max_size=6))
def test_the_largest_ratio_that_is_named_is_taken_and_no_larger(kind: str, counts: list[int]) -> None:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    names = [*map(str, range(len(counts)))]
    with pytest.raises(ValueError, match="imbalance_ratio must be at most") as refused:
        imbalanced(labels, kind, 1e6, 0, names)
    most = int(str(refused.value).split()[5].rstrip(":"))
    assert len(imbalanced(labels, kind, most, 0, names))
    with pytest.raises(ValueError, match=f"imbalance_ratio must be at most {most}:"):
        imbalanced(labels, kind, most + 1, 0, names)


def test_without_imbalance_a_run_keeps_its_id(compose: Compose) -> None:
    assert compose("dataset.imbalance=none", "dataset.imbalance_ratio=7").run_id == compose().run_id
    assert compose("dataset.imbalance=step").cell_id != compose("dataset.imbalance=exponential").cell_id


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("dataset.imbalance=linear", "dataset.imbalance=linear: must be one of none, exponential, step"),
        (
            "dataset.imbalance=step dataset.imbalance_ratio=0.5",
            "dataset.imbalance_ratio=0.5: must be a finite number in [1, 1000000000]",
        ),
        (
            "dataset.imbalance=step dataset.imbalance_ratio=500",
            "dataset.imbalance_ratio=500: must be at most 122: of 9 nothing would be left beside 122 of 0",
        ),
    ],
)
def test_impossible_tails_are_refused_in_one_line(
    train: Callable[..., tuple[int, str, str]], words: str, line: str
) -> None:
    code, _, err = train(*words.split())
    assert (code, err) == (1, f"error: {line}\n")
