"""What a data set of one's own may return by mistake is refused in one line."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from vicinal.build import load_samples
from vicinal.data import Samples, digits
from vicinal.errors import ConfigError
from vicinal.experiment import Experiment

GOOD = digits()
TRAIN, TEST = GOOD.train, GOOD.test
IMAGES, LABELS = TRAIN.inputs, TRAIN.targets
FAULTS: dict[str, tuple[Any, str]] = {
    "nothing": (None, "a Source, not None"),
    "pair": ((TRAIN, TEST), "a Source, not a tuple"),
    "tensors": (GOOD._replace(train=IMAGES), "train as vicinal.data.Samples, not uint8 [1437, 1, 8, 8]"),
    "no test": (GOOD._replace(test=None), "test as vicinal.data.Samples, not NoneType"),
    "names": (GOOD._replace(class_names=range(10)), "class_names as a tuple of strings, not range(0, 10)"),
    "list of names": (GOOD._replace(class_names=["a", "b"]), "class_names as a tuple of strings, not ['a', 'b']"),
    "no names": (GOOD._replace(class_names=()), "class_names as a tuple of strings, not ()"),
}
PARTS: dict[str, tuple[Samples, str]] = {
    "lists": (Samples(IMAGES.tolist(), LABELS), "images as uint8 tensors, not list in "),
    "arrays": (Samples(IMAGES.numpy(), LABELS), "images as uint8 tensors, not numpy.ndarray in "),
    "floats": (Samples(IMAGES / 255, LABELS), "images as uint8 tensors, not float32 [1437, 1, 8, 8] in "),
    "int32": (Samples(IMAGES, LABELS.int()), "labels as int64 tensors, not int32 [1437] in "),
    "label list": (Samples(IMAGES, LABELS.tolist()), "targets as tensors (N, ...), not list in "),
    "one label": (Samples(IMAGES, LABELS[0]), "targets as tensors (N, ...), not int64 [] in "),
    "fewer": (Samples(IMAGES, LABELS[1:]), "one target per sample, not 1436 for 1437 in "),
    "eleventh": (Samples(IMAGES, LABELS + 1), "labels from 0 to 9, not 1 to 10 in "),
    "negative": (Samples(IMAGES, LABELS - 1), "labels from 0 to 9, not -1 to 8 in "),
    "empty": (Samples(IMAGES[:0], LABELS[:0]), "images in "),
    "rows": (Samples(IMAGES, LABELS, torch.arange(1437) + 1), "rows from 0 to 1436, not others in "),
    "float rows": (Samples(IMAGES, LABELS, torch.arange(1437.0)), "rows as int64 tensors (N,), not float32 [1437] in "),
}
for _fault, (_samples, _reason) in PARTS.items():
    for _part in ("train", "val", "test"):
        FAULTS[f"{_fault} {_part}"] = GOOD._replace(**{_part: _samples}), f"{_reason}{_part}"
FAULTS["shape"] = GOOD._replace(val=TRAIN._replace(inputs=IMAGES[..., 1:])), "inputs of one shape: [1, 8, 8] in train, "


def faulty(fault: str, root: str = "data"):  # type: ignore[no-untyped-def]
    return FAULTS[fault][0]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_mistake_of_a_data_set_of_ones_own_is_said_in_one_line(
    compose: Callable[..., Experiment], fault: str
) -> None:
    target = f"{__name__}.faulty"
    words = [
        f"dataset._target_={target}",
        f"+dataset.fault={fault}",
        "dataset.val_size=null",
        "dataset.train_size=null",
    ]
    with pytest.raises(ConfigError) as refused:
        load_samples(compose("dataset=digits", *words))
    assert str(refused.value).startswith(f"dataset._target_={target}: must return {FAULTS[fault][1]}")
    assert "\n" not in str(refused.value)
