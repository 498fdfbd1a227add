"""Copies of images on a disk of this machine: the same pixels, made once, from then on without the original."""

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data.test_imagefolder import write_tree
from tests.hub_files import write_hub
from vicinal.data.encoded import Paths
from vicinal.data.huggingface import hf
from vicinal.data.imagefolder import imagefolder
from vicinal.data.row_files import RowFiles
from vicinal.data.staging import staged_images
from vicinal.errors import UserError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "tree")


def load(tree: Path, **more: Any) -> Any:
    return imagefolder(str(tree), 16, 3, str(tree.parent / "cache"), 0, **more)


def load_hub(folder: Path, **more: Any) -> Any:
    splits = {"train": "train", "test": "test", "val": None}
    return hf(str(folder), splits, 16, 3, str(folder.parent / "cache"), 0, **more)


@pytest.mark.parametrize("keep", ["decoded", "encoded"])
@pytest.mark.parametrize(("write", "read"), [(write_tree, load), (write_hub, load_hub)])
def test_a_copy_has_the_same_pixels_and_is_made_once(write, read, keep, tmp_path, monkeypatch):
    folder, disk = write(tmp_path / "data"), tmp_path / "disk"
    plain, staged = read(folder, keep=keep), read(folder, keep=keep, stage_to=str(disk))
    for part in ("train", "test"):
        assert torch.equal(getattr(staged, part).gathered(), getattr(plain, part).gathered())
        assert torch.equal(getattr(staged, part).targets, getattr(plain, part).targets)
    files = {file: (file.stat().st_ino, file.read_bytes()) for file in disk.glob("*/*.u8")}
    assert len(files) == 2
    monkeypatch.setattr(RowFiles, "make", None)
    assert torch.equal(read(folder, keep=keep, stage_to=str(disk)).train.gathered(), plain.train.gathered())
    assert files == {file: (file.stat().st_ino, file.read_bytes()) for file in disk.glob("*/*.u8")}


def test_decoded_images_are_read_from_the_copy_alone(tree, tmp_path):
    expected = load(tree, keep="decoded", stage_to=str(tmp_path / "disk")).train.gathered()
    for file in tree.parent.glob("cache/imagefolder-*/*.u8"):
        file.unlink()
    assert torch.equal(load(tree, keep="decoded", stage_to=str(tmp_path / "disk")).train.gathered(), expected)


def test_encoded_images_are_read_from_the_copy_alone(tree, tmp_path):
    expected = load(tree, keep="encoded").train.gathered()
    staged = load(tree, keep="encoded", stage_to=str(tmp_path / "disk")).train
    for file in tree.glob("train/*/*"):
        file.write_bytes(b"gone")
    assert torch.equal(staged.gathered(), expected)


@pytest.mark.parametrize("chunk", [1, 7, 64, 2**20])
def test_a_pack_is_all_files_one_after_the_other(tmp_path, chunk, monkeypatch):
    monkeypatch.setattr("vicinal.data.row_files.CHUNK_BYTES", chunk)
    contents = [bytes(range(size)) for size in (5, 0, 1, 30, 0, 12)]
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.jpg").write_bytes(content)
    paths = Paths(str(tmp_path / f"{number}.jpg") for number in range(len(contents)))
    pack = staged_images(tmp_path / "pack", {"train": paths}, "the copy", threads=2)["train"]
    assert (tmp_path / "pack/train.u8").read_bytes() == b"".join(contents)
    files = [pack.file(number) for number in range(len(pack))]
    assert [file.read() for file in files if isinstance(file, io.BytesIO)] == contents
    assert [pack.size(number) for number in range(len(pack))] == [*map(len, contents)]
    assert pack.name(3) == paths[3]


def test_a_file_that_changes_while_it_is_copied_is_named(tmp_path):
    file = tmp_path / "image.jpg"
    file.write_bytes(b"ten bytes.")

    class Grown(Paths):
        def size(self, number: int) -> int:
            return super().size(number) + 1  # the file has lost a byte since

    with pytest.raises(ValueError, match=rf"^{file} has changed while it was copied$"):
        staged_images(tmp_path / "pack", {"train": Grown([str(file)])}, "the copy", threads=1)
    assert not (tmp_path / "pack").exists()


def test_a_disk_without_room_is_named(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(RowFiles, "free", lambda files: 10 if "disk" in str(files.folder) else 10**12)
    for keep in ("decoded", "encoded"):
        with pytest.raises(ValueError, match=r"^stage_to: the images cannot be copied there \(0\.0 GB are needed"):
            load(tree, keep=keep, stage_to=str(tmp_path / "disk"))
    monkeypatch.undo()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"^stage_to: the images cannot be copied there \("):
        load(tree, stage_to=str(tmp_path / "file"))


def test_a_run_has_its_id_and_rows_with_a_copy(train, compose, tree, tmp_path):
    words = (
        *("dataset=imagefolder", f"dataset.root={tree}", "dataset.image_size=16", "dataset.val_size=4"),
        *("dataset.crop_padding=2", "model=cnn", "trainer.epochs=1", "trainer.batch_size=4"),
        *("trainer.precision=fp32", "trainer.threads=1"),
    )
    found = []
    for output, more in (("plain", []), ("staged", [f"dataset.stage_to={tmp_path / 'disk'}"])):
        code, _, err = train(*words, *more, f"output_dir={output}")
        assert code == 0, err
        [file] = (tmp_path / output).glob("runs/*/result.json")
        result = json.loads(file.read_text())
        found.append((result["run_id"], result["val"], result["test"]))
    assert found[0] == found[1]
    assert math.isfinite(found[0][1]["nll"])
    assert [*(tmp_path / "disk").glob("imagefolder-*/train.u8")]
    with pytest.raises(UserError, match=r"dataset\.stage_to=\[1\]: must be a string or null"):
        compose(*words, "dataset.stage_to=[1]")
