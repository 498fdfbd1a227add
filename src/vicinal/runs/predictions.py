"""What a model says of each image of a set, and what can be counted from it: where it errs, and how sure it is then."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vicinal.runs.files import LARGEST, DamagedError, parsing, read, write

BINS = 15
"""Of the reliability diagram, of equal width over [0, 1]; those of the expected calibration error."""


@dataclass(frozen=True)
class Predictions:
    """The predicted class of each of N images, in the set's own order.

    Attributes:
        labels: (N,) integers, the classes that are right.
        predicted: (N,) integers, the most probable class.
        confidence: (N,) float32, the probability that it was given.
        class_names: K texts.
    """

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float32]
    class_names: tuple[str, ...]

    def confusion(self) -> NDArray[np.int64]:
        """(K, K) numbers of images: a row is the right class, a column the predicted one."""
        size = len(self.class_names)
        return np.bincount(self.labels * size + self.predicted, minlength=size**2).reshape(size, size)

    def class_accuracy(self) -> NDArray[np.float64]:
        """(K,) the share of each class's images that are predicted right, its recall; NaN for a class without any."""
        size = len(self.class_names)
        of = np.bincount(self.labels, minlength=size)
        right = np.bincount(self.labels[self.predicted == self.labels], minlength=size)
        shares = np.full(len(of), np.nan)
        np.divide(right, of, out=shares, where=of > 0)
        return shares

    def reliability(self) -> Reliability:
        """Accuracy by confidence (Guo et al., arXiv 1706.04599, section 2), in 15 bins; those without images are out.

        A bin holds its lower edge, and a confidence of exactly 1 has one of its own, as in ``ece``.
        """
        edges = np.linspace(0, 1, BINS + 1, dtype=np.float32)
        member = np.digitize(self.confidence, edges) - 1
        count = np.bincount(member, minlength=BINS + 1)
        hits = np.bincount(member, self.predicted == self.labels, minlength=BINS + 1)
        confidence = np.bincount(member, self.confidence, minlength=BINS + 1)
        there = count > 0
        return Reliability(confidence[there] / count[there], hits[there] / count[there], count[there])

    def save(self, file: Path) -> None:
        """Write an ``.npz`` of these names, which ``numpy.load`` reads."""
        write(file, self.encode())

    def encode(self) -> bytes:
        """The content of that file; the same predictions give the same bytes."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{**vars(self), "class_names": np.array(self.class_names, dtype=str)})
        return buffer.getvalue()

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read what :meth:`save` wrote; the format carries checksums.

        Raises:
            FileNotFoundError: there is no such file.
            DamagedError: it is not what was written.
            OSError: it cannot be read.
        """
        data = io.BytesIO(read(file))
        with parsing(file):
            with zipfile.ZipFile(data) as archive:
                if sum(part.file_size for part in archive.infolist()) > LARGEST:
                    raise DamagedError(file, f"it unpacks to more than {LARGEST:,} bytes")
            data.seek(0)
            with np.load(data) as arrays:
                content: dict[str, Any] = dict(arrays)
            "".join(content["class_names"].tolist()).encode()  # half a UTF-16 pair cannot be written again
            found = cls(**{**content, "class_names": tuple(content["class_names"].tolist())})
            if not found._consistent():
                raise DamagedError(file, "its arrays do not fit each other")
            return found

    def _consistent(self) -> bool:
        """Whether this can have been predicted."""
        of, count = (self.labels, self.predicted), len(self.class_names)
        return (
            all(each.dtype.kind == "i" and each.ndim == 1 and each.min(initial=0) >= 0 for each in of)
            and all(each.max(initial=0) < count for each in of)
            and self.labels.shape == self.predicted.shape == self.confidence.shape
            and self.confidence.dtype == np.float32
            and bool(((self.confidence >= 0) & (self.confidence <= 1 + 1e-6)).all())
            and all(isinstance(name, str) for name in self.class_names)
        )


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: a value for each bin that has images, by rising confidence.

    Attributes:
        confidence: mean of the bin's images.
        accuracy: share of them that is predicted right.
        count: how many they are.
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    count: NDArray[np.int64]

    def error(self) -> float:
        """The expected calibration error: the mean distance of the two over the images."""
        return float(np.average(np.abs(self.confidence - self.accuracy), weights=self.count))
