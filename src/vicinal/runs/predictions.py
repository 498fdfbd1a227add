"""What a model says of each image of a set, and what can be counted from it: where it errs, and how sure it is then."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from vicinal.runs.files import DamagedError, read, write

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
        counts = self.confusion()
        of = counts.sum(axis=1)
        shares = np.full(len(of), np.nan)
        np.divide(np.diag(counts), of, out=shares, where=of > 0)
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
        """Write an ``.npz`` of these names, which ``numpy.load`` reads; the same predictions give the same bytes."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{**vars(self), "class_names": np.array(self.class_names, dtype=str)})
        write(file, buffer.getvalue())

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read what :meth:`save` wrote; the format carries checksums.

        Raises:
            FileNotFoundError: there is no such file.
            DamagedError: it is not what was written.
        """
        try:
            with np.load(io.BytesIO(read(file))) as arrays:
                content: dict[str, Any] = dict(arrays)
            return cls(**{**content, "class_names": tuple(content["class_names"].tolist())})
        except (ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile, zlib.error) as error:
            raise DamagedError("it is not what was written") from error


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
