"""Wrong training labels: exactly as many as asked for, the same for every strategy and seed of a run, and recorded."""

import csv
import json
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from vicinal import build
from vicinal.data.label_noise import asymmetric, symmetric
from vicinal.experiment import Experiment
from vicinal.jobs.reproduce import reproduce
from vicinal.jobs.run import run

Compose = Callable[..., Experiment]
TINY = ("model=mlp", "model.hidden=[4]", "trainer.epochs=1")


@given(st.lists(st.integers(0, 3), max_size=60), st.floats(0, 1), st.integers(0, 2**63 - 1))
def test_exactly_the_share_is_wrong_and_the_rest_is_left(labels: list[int], share: float, seed: int) -> None:
    given_labels = torch.tensor(labels, dtype=torch.int64)
    noisy, noise = symmetric(given_labels, share, 4, seed)
    wrong = (noisy != given_labels).nonzero().flatten()
    assert torch.equal(wrong, noise.index)
    assert len(wrong) == round(share * len(labels))
    assert torch.equal(noise.label, noisy[wrong])
    assert torch.equal(noise.true_label, given_labels[wrong])
    assert ((noisy >= 0) & (noisy < 4)).all()
    assert torch.equal(noisy, symmetric(given_labels, share, 4, seed)[0])


def test_all_other_classes_are_equally_likely() -> None:
    _, noise = symmetric(torch.zeros(90_000, dtype=torch.int64), 1.0, 10, seed=0)
    counts = torch.bincount(noise.label, minlength=10)
    assert counts[0] == 0
    assert chisquare(counts[1:].numpy()).pvalue > 0.01


def test_golden_labels() -> None:
    noisy, noise = symmetric(torch.arange(8) % 4, 0.5, 4, seed=1)
    assert (noise.index.tolist(), noisy.tolist()) == ([2, 4, 5, 6], [0, 1, 1, 3, 3, 2, 1, 3])


@given(st.lists(st.integers(0, 3), max_size=60), st.floats(0, 1), st.integers(0, 2**63 - 1))
def test_a_pair_flip_turns_the_share_of_each_class_into_the_next(labels: list[int], share: float, seed: int) -> None:
    given_labels = torch.tensor(labels, dtype=torch.int64)
    noisy, noise = asymmetric(given_labels, share, "abcd", seed)
    assert torch.equal((noisy != given_labels).nonzero().flatten(), noise.index)
    for label in range(4):
        wrong = noisy[given_labels == label]
        assert ((wrong == label) | (wrong == (label + 1) % 4)).all()
        assert (wrong != label).sum() == round(share * len(wrong))
    assert torch.equal(noise.label, noisy[noise.index])
    assert torch.equal(noise.true_label, given_labels[noise.index])
    assert torch.equal(noisy, asymmetric(given_labels, share, "abcd", seed)[0])


def test_cifar_10_has_a_map_of_its_own() -> None:
    """The transition matrix of Patrini et al. for a rate of 0.3, by class in the order of the data set."""
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    labels = torch.arange(10_000) % 10
    noisy, noise = asymmetric(labels, 0.3, names, seed=0)
    transitions = torch.bincount(labels * 10 + noisy, minlength=100).view(10, 10) / 1000
    expected = torch.eye(10)
    for label, other in ((9, 1), (2, 0), (4, 7), (3, 5), (5, 3)):
        expected[label, label], expected[label, other] = 0.7, 0.3
    assert torch.equal(transitions, expected)
    assert len(noise.index) == 1500
    assert not torch.equal(noisy, asymmetric(labels, 0.3, names, seed=1)[0])


def test_a_run_with_asymmetric_noise(compose: Compose) -> None:
    words = (*TINY, "dataset.label_noise=0.25", "dataset.imbalance=step")
    noisy, symmetrical = (
        build.load_data(compose(*words, f"dataset.label_noise_kind={kind}")) for kind in ("asymmetric", "symmetric")
    )
    assert noisy.noise is not None
    assert noisy.noise.label.tolist() == ((noisy.noise.true_label + 1) % 10).tolist()
    assert not torch.equal(noisy.train.targets, symmetrical.train.targets)


def test_a_run_has_clean_validation_and_test_and_noise_that_strategies_and_seeds_share(compose: Compose) -> None:
    clean = build.load_data(compose(*TINY))
    noisy = build.load_data(compose(*TINY, "dataset.label_noise=0.4"))
    other = build.load_data(compose(*TINY, "dataset.label_noise=0.4", "mixup=none", "seed=7"))
    assert clean.noise is None
    assert noisy.noise is not None
    assert (noisy.train.targets != clean.train.targets).sum() == round(0.4 * len(clean.train.targets)) == 495
    assert torch.equal(noisy.train.targets, other.train.targets)
    assert noisy.val is not None
    assert clean.val is not None
    assert torch.equal(noisy.val.targets, clean.val.targets)
    assert torch.equal(noisy.test.targets, clean.test.targets)
    cut = build.load_data(compose(*TINY, "dataset.label_noise=0.4", "dataset.split_seed=1"))
    assert cut.noise is not None
    assert not torch.equal(cut.noise.index, noisy.noise.index)


def test_the_wrong_labels_are_listed_and_sealed(compose: Compose) -> None:
    experiment = compose(*TINY, "dataset.label_noise=0.25", "dataset.train_size=100")
    result = run(experiment)
    clean = build.load_data(compose(*TINY, "dataset.train_size=100")).train
    rows = list(csv.reader(experiment.folder.noisy_labels.read_text().splitlines()))
    assert rows[0] == ["image", "label", "true_label"]
    assert result["noisy_labels"] == len(rows) - 1 == 25
    assert clean.rows is not None
    true = dict(zip(clean.rows.tolist(), clean.targets.tolist(), strict=True))
    assert all(true[int(image)] == int(label) for image, _, label in rows[1:])
    assert experiment.folder.damage() == []
    experiment.folder.noisy_labels.write_text("image,label,true_label\n")
    [line] = experiment.folder.damage()
    assert line.startswith(f"{experiment.folder.noisy_labels} is damaged: its checksum is not")


def test_without_noise_a_run_keeps_its_id_and_says_zero(compose: Compose) -> None:
    assert compose("dataset.label_noise=0").run_id == compose().run_id
    assert compose("dataset.label_noise_kind=asymmetric").run_id == compose().run_id
    assert compose("dataset.label_noise=0.1").cell_id != compose().cell_id
    experiment = compose(*TINY, "dataset.train_size=50")
    assert run(experiment)["noisy_labels"] == 0
    assert not experiment.folder.noisy_labels.exists()


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_is_between_0_and_1(train: Callable[..., tuple[int, str, str]], share: float) -> None:
    code, _, err = train(f"dataset.label_noise={share}")
    assert (code, err) == (1, f"error: dataset.label_noise={share}: must be a finite number in [0, 1]\n")


def test_an_older_result_means_no_noise(compose: Compose) -> None:
    experiment = compose(*TINY, "dataset.train_size=50")
    run(experiment)
    content = json.loads(experiment.folder.result.read_bytes())
    assert content["config"]["dataset"].pop("label_noise") == 0.0
    experiment.folder.complete({key: value for key, value in content.items() if key != "checksum"})
    again = reproduce(experiment.folder.path)
    assert again.identical
    assert again.requested == []
