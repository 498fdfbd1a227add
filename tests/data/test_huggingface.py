"""Data sets of the Hub: pixels against ``datasets``, the same content in every form, and what is refused."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torchvision import transforms

from tests.hub_files import NAMES, encoded, table, write_hub, write_parquet
from vicinal.data import Source
from vicinal.data.contents import stamp
from vicinal.data.encoded import EncodedImages
from vicinal.data.hub import known
from vicinal.data.huggingface import examined, hf
from vicinal.errors import UserError
from vicinal.tracking.run_files import TIME_FIELDS
from vicinal.utils.checked_json import read_checked

SPLITS = {"train": "train", "test": "test", "val": None}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Each test is a new process, and its Hub has nothing on this machine and no network."""
    examined.cache_clear()
    known.clear()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    datasets.disable_progress_bars()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_hub(tmp_path / "data set")


def load(folder: Path | str, size: Any = 16, channels: int = 3, val_size: int | None = 0, **more: Any) -> Source:
    cache = str(Path(folder).parent / "cache") if isinstance(folder, Path) else "nowhere"
    return hf(str(folder), more.pop("splits", SPLITS), size, channels, more.pop("cache", cache), val_size, **more)


def fingerprint(folder: Path, **more: Any) -> str:
    """The hash as a new process finds it."""
    examined.cache_clear()
    cache = more.pop("cache", str(folder.parent / "hashes"))
    given = {"path": str(folder), "splits": SPLITS, "val_size": 0, "cache_dir": cache, **more}
    return hf.fingerprint(**given)["path"]


def refused(folder: Path, **more: Any) -> str:
    with pytest.raises(ValueError, match=r"^\w+(:| must)") as caught:
        load(folder, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def opened(files: list[str]) -> "datasets.Dataset":
    """The rows as ``datasets`` has them."""
    return datasets.concatenate_datasets([datasets.Dataset(pq.read_table(file)) for file in files])


# Pixels and labels


@pytest.mark.parametrize("keep", ["decoded", "encoded"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_and_labels_are_those_that_datasets_has(folder, channels, keep):
    steps = [transforms.Resize(14, antialias=True), transforms.CenterCrop(14), transforms.PILToTensor()]
    source = load(folder, 14, channels, keep=keep)
    assert isinstance(source.train.inputs, EncodedImages) == (keep == "encoded")
    assert source.class_names == NAMES
    for part, name in ((source.train, "train"), (source.test, "test")):
        theirs = opened(sorted(map(str, folder.glob(f"data/{name}*.parquet"))))
        images = [row["image"] for row in theirs]
        assert {image.mode for image in images} == {"RGB", "L", "RGBA"}
        expected = [transforms.Compose(steps)(image.convert("L" if channels == 1 else "RGB")) for image in images]
        assert torch.equal(part.gathered(), torch.stack(expected))
        assert part.targets.tolist() == theirs["label"][:]


@pytest.mark.parametrize("keep", ["decoded", "encoded"])
def test_rectangles_are_filled(folder, keep):
    source = load(folder, [12, 20], keep=keep)
    theirs = opened(sorted(map(str, folder.glob("data/train*.parquet"))))["image"][:]
    for found, image in zip(source.train.gathered(), theirs, strict=True):
        by_height = (12, int(12 * image.width / image.height))
        large = by_height if by_height[1] >= 20 else (int(20 * image.height / image.width), 20)
        steps = [transforms.Resize(large, antialias=True), transforms.CenterCrop((12, 20)), transforms.PILToTensor()]
        assert torch.equal(found, transforms.Compose(steps)(image.convert("RGB")))


def test_every_form_has_the_same_samples_and_the_same_hash(folder, tmp_path):
    """What ``datasets`` saves, shards of other sizes, a folder per split or config, and plain arrow files."""
    files = {part: sorted(map(str, folder.glob(f"data/{part}*.parquet"))) for part in ("train", "test")}
    parts = {part: opened(own).cast_column("image", datasets.Image()) for part, own in files.items()}
    parts = {part: own.cast_column("label", datasets.ClassLabel(names=list(NAMES))) for part, own in parts.items()}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "saved"), num_shards={"train": 3, "test": 1})
    for part, own in parts.items():
        for name in (f"whole/{part}.parquet", f"numbered/default/{part}/0000.parquet", f"config/fine/{part}.parquet"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            own.to_parquet(str(tmp_path / name))
        content = own.with_format("arrow")[:]
        (tmp_path / "plain").mkdir(exist_ok=True)
        with pa.OSFile(str(tmp_path / f"plain/{part}.arrow"), "wb") as out, pa.ipc.new_file(out, content.schema) as to:
            to.write_table(content, max_chunksize=4)
    (tmp_path / "config/coarse").mkdir()
    write_parquet(tmp_path / "config/coarse/train.parquet", table(encoded(4), [0, 1, 0, 1]))

    first, known = load(folder), fingerprint(folder)
    for name, more in {"saved": {}, "whole": {}, "numbered": {}, "plain": {}, "config": {"config": "fine"}}.items():
        other = load(tmp_path / name, **more)
        assert other.class_names == NAMES
        for mine, theirs in zip(first[:2], other[:2], strict=True):
            assert torch.equal(mine.gathered(), theirs.gathered()), name
            assert torch.equal(mine.targets, theirs.targets)
        assert fingerprint(tmp_path / name, **more) == known, name
    line = f"config: {tmp_path}/config has several; name one of coarse, fine"
    assert refused(tmp_path / "config") == line
    assert refused(tmp_path / "config", config="fin") == (
        f"config: no folder fin in {tmp_path}/config; did you mean fine? allowed: coarse, fine"
    )


def test_the_hash_is_of_labels_images_names_and_order(folder, tmp_path):
    images, labels, hashes = encoded(8), [0, 1] * 4, []
    variants = [
        (images, labels, NAMES),
        (images[::-1], labels, NAMES),
        (images, labels[::-1], NAMES),
        (images, labels, ("ant", "wasp")),
        ([*images[:-1], images[-1] + b"\0"], labels, NAMES),
    ]
    for number, (pictures, numbers, names) in enumerate(variants):
        place = tmp_path / str(number)
        for part in ("train", "test"):
            write_parquet(place / f"{part}.parquet", table(pictures, numbers, names))
        hashes.append(fingerprint(place))
    assert len({*hashes}) == len(hashes)


def test_a_hash_is_kept_until_a_file_changes(folder, monkeypatch):
    from vicinal.data import contents
    from vicinal.data.arrow_images import Table

    monkeypatch.setattr(contents, "SETTLED_SECONDS", -1.0)
    before = fingerprint(folder)
    real = Table.images
    monkeypatch.setattr(Table, "images", lambda self: pytest.fail("read again"))
    assert fingerprint(folder) == before
    monkeypatch.setattr(Table, "images", real)
    write_parquet(folder / "data/test-00000-of-00001.parquet", table(encoded(4, seed=9), [0, 1, 0, 1]))
    assert fingerprint(folder) != before


def test_images_of_two_parts_are_counted_once_and_then_known(folder, caplog, monkeypatch):
    from vicinal.data import contents
    from vicinal.data.arrow_images import Table

    monkeypatch.setattr(contents, "SETTLED_SECONDS", -1.0)
    fingerprint(folder)
    assert not caplog.messages
    write_parquet(folder / "data/test-00000-of-00001.parquet", table(encoded(4)[1:], [0, 1, 0]))
    line = f"{folder}: images of test that are in train too, byte by byte: 3 of 3"
    for _ in range(2):
        caplog.clear()
        contents.warn_once.cache_clear()
        fingerprint(folder)
        assert caplog.messages == [line]
        monkeypatch.setattr(Table, "images", lambda self: pytest.fail("read again"))


def test_labels_may_be_texts_or_numbers_without_names(tmp_path):
    images = encoded(4)
    for part, names in {"train": ["b", "c", "a", "b"], "test": ["c", "a", "a", "b"]}.items():
        write_parquet(tmp_path / f"texts/{part}.parquet", table(images, names, None))
        numbers = ["abc".index(name) for name in names]
        write_parquet(tmp_path / f"numbers/{part}.parquet", table(images, numbers, None))
    source = load(tmp_path / "texts")
    assert source.class_names == ("a", "b", "c")
    assert (source.train.targets.tolist(), source.test.targets.tolist()) == ([1, 2, 0, 1], [2, 0, 0, 1])
    other = load(tmp_path / "numbers", classes=3)
    assert other.class_names == ("0", "1", "2")
    assert torch.equal(other.train.targets, source.train.targets)
    assert refused(tmp_path / "numbers") == (
        "label: train.parquet has no names of classes; say how many there are by dataset.classes"
    )
    examined.cache_clear()
    assert refused(tmp_path / "numbers", classes=2) == (
        f"label: row 1 of {tmp_path}/numbers/train.parquet has 2, and the 2 classes are numbered from 0"
    )


def test_a_column_of_bytes_without_a_struct_and_files_by_a_pattern(tmp_path):
    images = encoded(4)
    plain = pa.table({"jpg": pa.array(images, pa.large_binary()), "cls": pa.array(["x", "y", "x", "y"])})
    write_parquet(tmp_path / "in/a-1.parquet", plain.slice(0, 2))
    write_parquet(tmp_path / "in/a-2.parquet", plain.slice(2))
    write_parquet(tmp_path / "in/b.parquet", plain)
    source = load(tmp_path / "in", splits={"train": "a-*.parquet", "test": "b.parquet"}, image="jpg", label="cls")
    assert torch.equal(source.train.gathered(), source.test.gathered())


def test_validation_is_the_split_that_is_named_or_cut(folder, caplog):
    splits = {**SPLITS, "val": "validation"}
    assert refused(folder, splits=splits, val_size=None).startswith(f"splits: {folder} has no split validation; ")
    write_parquet(folder / "data/validation-00000-of-00001.parquet", table(encoded(6, 3), [0, 1] * 3))
    source = load(folder, splits=splits, val_size=None)
    assert source.val is not None
    assert len(source.val.targets) == 6
    assert load(folder, splits=splits, val_size=2).val is None
    assert "the split validation is not used, since val_size=2; val_size=null uses it" in caplog.messages
    assert load(folder, val_size=None).val is None


def test_parquet_is_copied_once_and_arrow_is_not(folder, tmp_path):
    load(folder, keep="encoded")
    copies = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*.arrow")}
    assert sorted(file.name for file in copies) == ["test.arrow", "train.arrow"]
    load(folder, 8, keep="decoded")
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*.arrow")} == copies
    datasets.Dataset(table(encoded(4), [0, 1, 0, 1])).save_to_disk(str(tmp_path / "saved"))
    load(tmp_path / "saved", splits={"train": "train", "test": "train"}, cache=str(tmp_path / "other"), keep="encoded")
    assert not [*(tmp_path / "other").rglob("*.arrow")]


@pytest.mark.parametrize("damage", [0, 300, 2000, "one bit"])
def test_a_damaged_copy_is_made_again(folder, tmp_path, damage, caplog):
    first = load(folder, keep="encoded").train.gathered()
    [copy] = (tmp_path / "cache").rglob("train.arrow")
    whole = copy.read_bytes()
    if damage == "one bit":  # in the pixels of an image, which could still be decoded
        place = whole.index(encoded(1)[0]) + len(encoded(1)[0]) - 60
        damaged, why = whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :], "wrong checksum in train.arrow, "
    else:
        damaged, why = whole[:damage], f"train.arrow has {damage} bytes instead of {len(whole)})"
    copy.unlink()  # what is mapped into memory stays as it is
    copy.write_bytes(damaged)
    for said in ([f"{copy} is damaged and is made again ({why}"], []):
        caplog.clear()
        assert torch.equal(load(folder, keep="encoded").train.gathered(), first)
        assert [line.startswith(start) for line, start in zip(caplog.messages, said, strict=True)] == [True] * len(said)


def test_a_moved_copy_is_compared_once_and_used(folder, tmp_path, monkeypatch, caplog):
    first = load(folder, keep="encoded").train.gathered()
    [copy] = (tmp_path / "cache").rglob("train.arrow")
    content = copy.read_bytes()
    copy.unlink()
    copy.write_bytes(content)
    before = read_checked(copy.with_suffix(".json"))["stamps"]
    monkeypatch.setattr("vicinal.data.arrow_images._copy", lambda *_: pytest.fail("copied again"))
    assert torch.equal(load(folder, keep="encoded").train.gathered(), first)
    assert read_checked(copy.with_suffix(".json"))["stamps"] == {"images": stamp(copy.stat())} != before
    assert not caplog.messages


# What is refused


def test_a_file_of_several_is_missing(folder):
    (folder / "data/train-00000-of-00002.parquet").unlink()
    assert refused(folder) == (
        f"path: {folder} has 1 of 2 files of the split train, and not the one of number 0; "
        "dataset.splits takes a pattern of files too"
    )
    source = load(folder, splits={"train": "data/train-*.parquet", "test": "test"})
    assert len(source.train.targets) == 7


def test_files_of_a_split_have_the_same_classes(folder):
    write_parquet(folder / "data/train-00001-of-00002.parquet", table(encoded(4), [0, 1, 0, 1], NAMES[::-1]))
    assert refused(folder) == (
        "label: the classes of train-00001-of-00002.parquet are not those of train-00000-of-00002.parquet: bee, ant"
    )


@pytest.mark.parametrize(("more", "line"), [
    ({"image": "img"}, "image: {first} has no such column; did you mean image? allowed: image, label"),
    ({"label": "labels"}, "label: {first} has no such column; did you mean label? allowed: image, label"),
    ({"label": "image"}, "label: the column must have whole numbers or texts, and {first} has bytes"),
    ({"image": "label"}, "image: the column must have the bytes of images, and {first} has numbers"),
    ({"splits": {"train": "training", "test": "test"}},
     "splits: {folder} has no split training; did you mean train? allowed: test, train"),
    ({"splits": {"train": "train"}}, "splits must name the split of test"),
    ({"splits": {**SPLITS, "dev": "x"}}, "splits: no part dev; allowed: train, test, val"),
    ({"splits": {"train": "x*.parquet", "test": "test"}}, "splits: no file x*.parquet in {folder}"),
    ({"splits": {"train": "/a/x.parquet", "test": "test"}},
     "splits: /a/x.parquet is no pattern of files below {folder} (Non-relative patterns are unsupported)"),
    ({"on_error": "maybe"}, "on_error must be one of fail, skip, got maybe"),
    ({"channels": 2}, "channels must be 1 (grey) or 3 (RGB), got 2"),
    ({"resize": 8}, "resize must be null or at least image_size, 16, got 8"),
    ({"revision": "main"}, "revision must be null for a folder on this machine, {folder}, got main"),
])  # fmt: skip
def test_a_mistake_in_the_keys(folder, more, line):
    assert refused(folder, **more) == line.format(folder=folder, first="train-00000-of-00002.parquet")


def replace_train(folder: Path, content: pa.Table) -> Path:
    for file in folder.glob("data/train*"):
        file.unlink()
    return write_parquet(folder / "data/train.parquet", content)


def test_images_that_are_paths(folder):
    paths = pa.table({"image": ["a.jpg", "b.jpg"], "label": ["x", "y"]})
    replace_train(folder, paths)
    embed = "rows must have the images themselves, as push_to_hub writes them"
    assert refused(folder) == f"image: train.parquet has paths and no bytes; {embed}"
    file = replace_train(folder, table([encoded(1)[0], None, None, None], [0, 1, 0, 1]))
    line = f"image: row 1 of {file} has no bytes; {embed}"
    examined.cache_clear()
    assert refused(folder) == line
    with pytest.raises(ValueError, match=r"^image: row 1 of ") as caught:
        fingerprint(folder)
    assert str(caught.value) == line


@pytest.mark.parametrize(("labels", "reason"), [
    ([0, 1, -1, 1], "row 2 of {file} has -1, which stands for none; name a split with labels, such as "
                    "dataset.splits.train=validation"),
    ([0, 1, 2, 1], "row 2 of {file} has 2, and the 2 classes are numbered from 0"),
    ([0, 1, None, 1], "row 2 of {file} has no label"),
])  # fmt: skip
def test_labels_that_are_no_class(folder, labels, reason):
    file = replace_train(folder, table(encoded(4), labels))
    assert refused(folder) == "label: " + reason.format(file=file)


def test_a_class_that_train_does_not_have(tmp_path):
    write_parquet(tmp_path / "in/train.parquet", table(encoded(2), ["a", "b"], None))
    file = write_parquet(tmp_path / "in/test.parquet", table(encoded(2), ["a", "c"], None))
    assert refused(tmp_path / "in") == f"label: row 1 of {file} has c, which is no class of train"
    write_parquet(tmp_path / "in/train.parquet", table(encoded(2), ["a", "a"], None))
    examined.cache_clear()
    assert refused(tmp_path / "in") == "label: there must be two classes or more, and a is the only one"


def test_an_image_that_cannot_be_decoded_is_named_or_skipped(folder, caplog):
    images = encoded(7)
    images[3] = images[3][:40]
    file = write_parquet(folder / "data/train-00001-of-00002.parquet", table(images, [0, 1] * 3 + [0]))
    row = f"row 3 of {file}"
    assert refused(folder).startswith(f"path: {row} cannot be decoded (")
    with pytest.raises(UserError, match=r"^row 3 of .*train-00001-of-00002.parquet cannot be decoded \("):
        load(folder, keep="encoded").train.gathered()
    for _ in range(2):  # then from the cache
        examined.cache_clear()
        caplog.clear()
        source = load(folder, on_error="skip")
        assert len(source.train.targets) == 13
        assert source.skipped == (row,)
        [said] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert said.startswith(f"{folder}: 1 images are skipped: {row} cannot be decoded (")


@pytest.mark.parametrize("name", ["train-00000-of-00002.parquet", "more.arrow"])
def test_a_damaged_file_is_named(folder, name):
    file = folder / "data" / name
    file.write_bytes(b"PAR1 no such thing")
    splits = {**SPLITS, "train": f"data/{name}"}
    assert refused(folder, splits=splits).startswith(f"path: {file} cannot be read (")


def test_a_folder_without_tables(tmp_path):
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path / "empty").startswith(f"path: no parquet or arrow file in {tmp_path}/empty; trees of ")
    file = write_parquet(tmp_path / "a.parquet", table(encoded(2), [0, 1]))
    assert refused(file).startswith("path must be a folder, and a.parquet is a file; ")


def test_a_cache_that_cannot_be_written(folder, tmp_path):
    (tmp_path / "file").write_text("")
    assert refused(folder, cache=str(tmp_path / "file")).startswith("cache_dir: the images cannot be copied there (")


# The Hub


def test_without_a_network_a_line_says_what_to_do():
    with pytest.raises(UserError) as caught:
        load("owner/name", revision="abc")
    line = str(caught.value)
    assert line.startswith("dataset.path=owner/name: cannot be had from the Hub (")
    command = "`hf download --repo-type dataset owner/name --revision abc --local-dir FOLDER`"
    assert line.endswith(f"; where there is a network, {command}, then dataset.path=FOLDER")
    assert "\n" not in line


def test_a_name_that_is_neither_a_folder_nor_at_the_hub():
    with pytest.raises(ValueError, match=r"^path: there is no folder .*/nothing; a data set of the Hub is called"):
        load("nothing")


def test_only_what_is_needed_is_fetched_from_the_hub(folder, monkeypatch, tmp_path):
    """And it is used as a folder on this machine is."""
    asked: list[dict[str, Any]] = []

    def snapshot_download(repository: str, **more: Any) -> str:
        asked.append({"repository": repository, **more})
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    source = load("owner/name", splits={"train": "train", "test": "test"}, cache=str(tmp_path / "cache"))
    assert torch.equal(source.train.gathered(), load(folder).train.gathered())
    examined.cache_clear()
    hf.preview(path="owner/name", splits=SPLITS, val_size=0, image_size=16, channels=3)
    patterns = ["*train*.parquet", "*test*.parquet"]
    assert asked == [{"repository": "owner/name", "repo_type": "dataset", "revision": None, "allow_patterns": patterns}]


def test_what_is_in_the_cache_of_the_hub_is_used_without_a_network(folder, tmp_path):
    """In the layout that ``huggingface_hub`` documents for its cache."""
    place = tmp_path / "hub/datasets--owner--name"
    commit = "0" * 40
    (place / "refs").mkdir(parents=True)
    (place / "refs/main").write_text(commit)
    (place / "snapshots").mkdir()
    (place / "snapshots" / commit).symlink_to(folder)
    source = load("owner/name", cache=str(tmp_path / "cache"))
    assert torch.equal(source.train.gathered(), load(folder).train.gathered())


def test_the_hub_without_a_fitting_file(monkeypatch, tmp_path):
    """It makes no folder of the commit then."""
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path / "snapshots/abc"))
    with pytest.raises(UserError) as caught:
        load("owner/name", config="fine", splits={"train": "train", "test": "t.parquet"})
    assert str(caught.value) == (
        "dataset.path=owner/name: the Hub has no file fine/*train*.parquet or fine/t.parquet at commit abc; "
        "of most data sets in other forms, dataset.revision=refs/convert/parquet has parquet files"
    )


# Runs


def rows_of(folder: Path) -> list[dict[str, Any]]:
    [file] = folder.glob("outputs/runs/*/metrics.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [{key: row[key] for key in row if key not in TIME_FIELDS} for row in rows]


def test_a_run_has_the_same_rows_however_its_images_are_kept(train: Callable[..., Any], folder, tmp_path):
    words = (
        *("dataset=hf", f"dataset.path={folder}", "dataset.image_size=16", "dataset.val_size=4"),
        *("dataset.crop_padding=2", "model=cnn", "trainer.epochs=1", "trainer.batch_size=4"),
        *("trainer.precision=fp32", "trainer.threads=1"),
    )
    found = []
    for keep in ("decoded", "encoded"):
        code, _, err = train(*words, f"dataset.keep={keep}", "rerun=true")
        assert code == 0, err
        found.append(rows_of(tmp_path))
    assert found[0] == found[1]
    code, printed, err = train(*words, f"dataset.path={folder.rename(tmp_path / 'moved')}")
    assert (code, err) == (0, "")
    assert "completed" in printed
    code, _, err = train(*words, f"dataset.path={tmp_path / 'moved'}", "dataset.label=labels")
    assert code == 1
    assert err == (
        "error: dataset.label=labels: train-00000-of-00002.parquet has no such column; "
        "did you mean label? allowed: image, label\n"
    )


def test_a_run_records_the_commit_of_the_hub(train: Callable[..., Any], folder, tmp_path, monkeypatch):
    """A branch that has moved on meanwhile has other images, and so another run; a stored config has those of then."""
    commits = ["a" * 40, "b" * 40]
    for commit in commits:
        shutil.copytree(folder, tmp_path / "snapshots" / commit)
    write_parquet(
        tmp_path / "snapshots" / commits[1] / "data/test-00000-of-00001.parquet", table(encoded(4, 9), [0, 1] * 2)
    )
    asked: list[str | None] = []
    main: list[str] = []  # where the branch is

    def snapshot_download(repository: str, revision: str | None, **_: Any) -> str:
        asked.append(revision)
        return str(tmp_path / "snapshots" / (revision or main[0]))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    words = (
        *("dataset=hf", "dataset.path=owner/name", "dataset.image_size=16", "dataset.val_size=4"),
        *("dataset.crop_padding=2", "model=mlp", "trainer.epochs=1", "trainer.batch_size=4"),
    )
    for commit in commits:
        main[:] = [commit]
        known.clear()
        examined.cache_clear()
        code, _, err = train(*words)
        assert code == 0, err
    assert asked == [None, None]
    runs = sorted((tmp_path / "outputs/runs").iterdir(), key=lambda run: run.stat().st_mtime_ns)
    assert [OmegaConf.load(run / "config.yaml").dataset.revision for run in runs] == commits
    results = [json.loads((run / "result.json").read_text()) for run in runs]
    assert [result["config"]["dataset"]["revision"] for result in results] == commits

    code, printed, err = train(*words, f"dataset.revision={commits[0]}")  # as it is in the stored config
    assert code == 0, err
    assert "completed" in printed
    assert asked[2:] == [commits[0]]
    assert len([*(tmp_path / "outputs/runs").iterdir()]) == 2


def test_random_parts_of_the_images(train: Callable[..., Any], folder):
    code, _, err = train(
        *("dataset=hf", f"dataset.path={folder}", "dataset.image_size=8", "dataset.val_size=4", "model=mlp"),
        *("dataset.crop=resized", "trainer.epochs=1", "trainer.batch_size=4"),
    )
    assert (code, err) == (0, "")


def test_sixteen_bits_and_other_modes_are_those_of_a_tree(tmp_path):
    """The decoder is the one of imagefolder: a grey image of 16 bits is scaled."""
    values = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    content = table([(tmp_path / "deep.png").read_bytes()] * 2, [0, 1])
    for part in ("train", "test"):
        write_parquet(tmp_path / f"in/{part}.parquet", content)
    assert load(tmp_path / "in", channels=1).train.inputs[0].flatten().tolist() == list(range(256))
