"""What is counted from predictions, against torchmetrics and scikit-learn."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, recall_score
from torchmetrics.classification import MulticlassCalibrationError

from vicinal.runs.files import DamagedError
from vicinal.runs.predictions import BINS, Predictions


def predictions(seed: int, count: int = 300, classes: int = 7, scale: float = 3.0) -> tuple[Predictions, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    probabilities = (torch.randn(count, classes, generator=generator) * scale).softmax(dim=1)
    confidence, predicted = probabilities.max(dim=1)
    labels = torch.randint(classes, (count,), generator=generator)
    names = tuple(f"class {index}" for index in range(classes))
    return Predictions(labels.numpy(), predicted.numpy(), confidence.numpy(), names), probabilities


@given(st.integers(0, 2**31), st.integers(1, 200), st.integers(2, 12))
def test_counts(seed: int, count: int, classes: int) -> None:
    found, _ = predictions(seed, count, classes)
    labels = list(range(classes))
    expected = confusion_matrix(found.labels, found.predicted, labels=labels)
    assert np.array_equal(found.confusion(), expected)
    recalls = recall_score(found.labels, found.predicted, labels=labels, average=None, zero_division=np.nan)
    assert np.allclose(found.class_accuracy(), recalls, equal_nan=True)


@given(st.integers(0, 2**31), st.floats(0.1, 30))
def test_the_diagrams_error_is_the_calibration_error(seed: int, scale: float) -> None:
    found, probabilities = predictions(seed, scale=scale)
    oracle = MulticlassCalibrationError(7, n_bins=BINS, norm="l1")(probabilities, torch.from_numpy(found.labels))
    diagram = found.reliability()
    error = np.average(np.abs(diagram.confidence - diagram.accuracy), weights=diagram.count)
    assert error == pytest.approx(oracle.item(), abs=1e-5)
    assert diagram.count.sum() == len(found.labels)


def test_the_diagram_is_scikit_learns() -> None:
    found, _ = predictions(0, 2000, scale=1.5)
    accuracy, confidence = calibration_curve(found.labels == found.predicted, found.confidence, n_bins=BINS)
    diagram = found.reliability()
    assert diagram.confidence == pytest.approx(confidence)
    assert diagram.accuracy == pytest.approx(accuracy)


def test_certain_predictions_have_a_bin_of_their_own() -> None:
    found = Predictions(np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([1, 1, 0.95], np.float32), ("a", "b", "c"))
    diagram = found.reliability()
    assert diagram.count.tolist() == [1, 2]
    assert diagram.accuracy.tolist() == [1, 0.5]
    assert np.isnan(found.class_accuracy()[2])
    assert found.class_accuracy()[:2].tolist() == [1, 0.5]


@pytest.mark.parametrize("length", [0, 1, 50, 400, -1])
def test_half_a_file_is_damaged(tmp_path: Path, length: int) -> None:
    found, _ = predictions(0)
    found.save(tmp_path / "one.npz")
    (tmp_path / "one.npz").write_bytes((tmp_path / "one.npz").read_bytes()[:length])
    with pytest.raises(DamagedError, match="it is not what was written"):
        Predictions.load(tmp_path / "one.npz")


@pytest.mark.parametrize("place", range(100, 1000, 90))
def test_a_bit_that_is_turned_over_is_noticed_or_does_not_matter(tmp_path: Path, place: int) -> None:
    found, _ = predictions(0)
    found.save(tmp_path / "one.npz")
    data = bytearray((tmp_path / "one.npz").read_bytes())
    data[place] ^= 4
    (tmp_path / "one.npz").write_bytes(data)
    with suppress(DamagedError):
        again = Predictions.load(tmp_path / "one.npz")
        for name in ("labels", "predicted", "confidence"):
            assert np.array_equal(getattr(again, name), getattr(found, name))


def test_a_file_has_it_all_and_the_same_predictions_give_the_same_bytes(tmp_path: Path) -> None:
    found, _ = predictions(0)
    for name in ("one.npz", "two.npz"):
        found.save(tmp_path / name)
    again = Predictions.load(tmp_path / "one.npz")
    assert again.class_names == found.class_names
    for name in ("labels", "predicted", "confidence"):
        assert np.array_equal(getattr(again, name), getattr(found, name))
        assert getattr(again, name).dtype == getattr(found, name).dtype
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
