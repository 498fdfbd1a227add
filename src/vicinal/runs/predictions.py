"""Predictions of a model for each image of a set, and their statistics: confusion, accuracy and calibration."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vicinal.runs.files import LARGEST, DamagedError, parsing, read, write

BINS = 15  # bins of the reliability diagram, of equal width over [0, 1]


@dataclass(frozen=True)
class Predictions:
    """The predicted class of each of N images, in the set's own order."""

    labels: NDArray[np.int64]  # (N,) integers, the true classes
    predicted: NDArray[np.int64]  # (N,) integers, the most probable classes
    confidence: NDArray[np.float32]  # (N,) float32, the predicted probabilities of these
    class_names: tuple[str, ...]  # K texts

    def confusion(self) -> NDArray[np.int64]:
        """Return (K, K) numbers of images: rows are true classes, columns predicted ones."""
        size = len(self.class_names)
        return np.bincount(self.labels * size + self.predicted, minlength=size**2).reshape(size, size)

    def class_accuracy(self) -> NDArray[np.float64]:
        """Return the (K,) recall of each class; NaN for a class without images."""
        size = len(self.class_names)
        count = np.bincount(self.labels, minlength=size)
        right = np.bincount(self.labels[self.predicted == self.labels], minlength=size)
        with np.errstate(invalid="ignore"):  # 0 / 0
            recall: NDArray[np.float64] = right / count
        return recall

    def reliability(self) -> Reliability:
        """Return accuracy by confidence (Guo et al., arXiv 1706.04599, section 2).

        A bin includes its lower edge, and a confidence of exactly 1 has its own bin, as in ``ece``.
        """
        edges = np.linspace(0, 1, BINS + 1, dtype=np.float32)
        _, member, count = np.unique(np.digitize(self.confidence, edges), return_inverse=True, return_counts=True)
        hits = np.bincount(member, self.predicted == self.labels)
        return Reliability(np.bincount(member, self.confidence) / count, hits / count, count)

    def save(self, file: Path) -> None:
        """Write an ``.npz`` of the attributes, which ``numpy.load`` reads."""
        write(file, self.encode())

    def encode(self) -> bytes:
        """Return the content of that file; equal predictions give equal bytes."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{**vars(self), "class_names": np.array(self.class_names, dtype=str)})
        return buffer.getvalue()

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read the file of :meth:`save`; the format has checksums. Raises as ``read_json`` does."""
        data = io.BytesIO(read(file))
        with parsing(file):
            with zipfile.ZipFile(data) as archive:
                if sum(part.file_size for part in archive.infolist()) > LARGEST:
                    raise DamagedError(file, f"it unpacks to more than {LARGEST:,} bytes")
            data.seek(0)
            with np.load(data) as arrays:
                content: dict[str, Any] = dict(arrays)
            "".join(content["class_names"].tolist()).encode()  # half a UTF-16 pair cannot be written again
            predictions = cls(**{**content, "class_names": tuple(content["class_names"].tolist())})
            if not predictions._consistent():
                raise DamagedError(file, "its arrays do not fit each other")
            return predictions

    def _consistent(self) -> bool:
        classes, count = (self.labels, self.predicted), len(self.class_names)
        return (
            all(array.dtype.kind == "i" and array.ndim == 1 for array in classes)
            and all(((array >= 0) & (array < count)).all() for array in classes)
            and self.labels.shape == self.predicted.shape == self.confidence.shape
            and self.confidence.dtype == np.float32
            and bool(((self.confidence >= 0) & (self.confidence <= 1 + 1e-6)).all())
            and all(isinstance(name, str) for name in self.class_names)
        )


@dataclass(frozen=True)
class Reliability:
    """Mean confidence, accuracy and number of images per bin that has images, by rising confidence."""

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    count: NDArray[np.int64]
