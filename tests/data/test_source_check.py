"""What a data set of one's own may return by mistake is refused in one line."""

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image

from vicinal.build import load_samples
from vicinal.data import Samples, Source, digits
from vicinal.data.contents import of_samples
from vicinal.data.encoded import EncodedImages
from vicinal.errors import ConfigError
from vicinal.experiment import Experiment

GOOD = digits()
TRAIN, TEST = GOOD.train, GOOD.test
IMAGES, LABELS = TRAIN.inputs, TRAIN.targets
FAULTS: dict[str, tuple[Any, str]] = {
    "nothing": (None, "Source, not None"),
    "pair": ((TRAIN, TEST), "Source, not tuple"),
    "tensors": (GOOD._replace(train=IMAGES), "train as vicinal.data.Samples, not uint8 [1437, 1, 8, 8]"),
    "no test": (GOOD._replace(test=None), "test as vicinal.data.Samples, not NoneType"),
    "names": (GOOD._replace(class_names=range(10)), "class_names as a tuple of strings, not range(0, 10)"),
    "files": (GOOD._replace(skipped=None), "skipped as a tuple of files, not NoneType"),
    "no names": (GOOD._replace(class_names=()), "class_names as a tuple of strings, not ()"),
}
PARTS: dict[str, tuple[Samples, str]] = {
    "lists": (Samples(IMAGES.tolist(), LABELS), "images as uint8 tensors, not list in "),
    "arrays": (Samples(IMAGES.numpy(), LABELS), "images as uint8 tensors, not numpy.ndarray in "),
    "floats": (Samples(IMAGES / 255, LABELS), "images as uint8 tensors, not float32 [1437, 1, 8, 8] in "),
    "int32": (Samples(IMAGES, LABELS.int()), "labels as int64 tensors, not int32 [1437] in "),
    "bools": (Samples(IMAGES, LABELS > 4), "labels as int64 tensors, not bool [1437] in "),
    "one image": (Samples(IMAGES[0, 0, 0, 0], LABELS), "images as uint8 tensors, not uint8 [] in "),
    "elsewhere": (Samples(IMAGES.to("meta"), LABELS), "images as uint8 tensors, not uint8 [1437, 1, 8, 8] strided on "),
    "sparse": (
        Samples(IMAGES.to_sparse(), LABELS),
        "images as uint8 tensors, not uint8 [1437, 1, 8, 8] sparse_coo on ",
    ),
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
        _where = _part if _reason.endswith("in ") else ""
        FAULTS[f"{_fault} {_part}"] = GOOD._replace(**{_part: _samples}), f"{_reason}{_where}"
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


SETS = LABELS[:, None] == torch.arange(10)
OTHERS = {
    "bools": ("multilabel", SETS, "multilabel needs (N, 10) floats"),
    "integers": ("multilabel", SETS.long(), "multilabel needs (N, 10) floats"),
    "seven": ("multilabel", torch.zeros(1437, 7), "multilabel needs (N, 10) floats"),
    "column": ("classification", LABELS[:, None], "classification needs (N,) integers"),
    "floats": ("classification", LABELS.float(), "classification needs (N,) integers"),
    "endless": ("regression", torch.full((1437, 10), torch.inf), "regression needs finite numbers"),
}


def of_task(fault: str, part: str, root: str = "data"):  # type: ignore[no-untyped-def]
    task, wrong, _ = OTHERS[fault]
    targets = dict.fromkeys(("train", "val", "test"), LABELS if task == "classification" else SETS.float())
    parts = {name: Samples(IMAGES, each) for name, each in (targets | {part: wrong}).items()}
    return Source(**parts, class_names=[*"0123456789"])


@pytest.mark.parametrize("part", ["train", "val", "test"])
@pytest.mark.parametrize("fault", OTHERS)
def test_targets_that_do_not_fit_the_task_are_refused_in_all_parts(
    compose: Callable[..., Experiment], fault: str, part: str
) -> None:
    task, _, reason = OTHERS[fault]
    words = [f"dataset._target_={__name__}.of_task", f"dataset.task={task}", "dataset.val_size=null"]
    words += [f"+dataset.fault={fault}", f"+dataset.part={part}", "dataset.train_size=null"]
    with pytest.raises(ConfigError) as refused:
        load_samples(compose("dataset=digits", "mixup=none", *words))
    assert str(refused.value).startswith(f"dataset.task={task}: must fit the targets: {reason}")


class Drawn:
    """Encoded images whose bytes are PNG, made when they are read."""

    def __len__(self) -> int:
        return len(IMAGES)

    def name(self, number: int) -> str:
        return str(number)

    def size(self, number: int) -> int:
        return 64

    def file(self, number: int) -> io.BytesIO:
        file = io.BytesIO()
        Image.fromarray(IMAGES[number, 0].numpy()).save(file, "png")
        file.seek(0)
        return file


def test_encoded_images_without_files_have_the_hash_of_their_pixels() -> None:
    encoded = EncodedImages(Drawn(), 1, 8, 8, 1)
    of_pixels, of_bytes = (of_samples(GOOD._replace(train=Samples(each, LABELS))) for each in (IMAGES, encoded))  # type: ignore[arg-type]
    assert of_bytes == of_pixels
