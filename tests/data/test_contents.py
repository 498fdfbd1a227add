"""Hashes of what a data set holds: of files, kept by their stat, and of images."""

import errno
import hashlib
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageOps

from tests import tiny_data
from tests.hub_files import encoded, table, write_hub, write_parquet
from vicinal import build
from vicinal.data import Samples, Source, contents
from vicinal.data.contents import HashCache
from vicinal.data.row_files import RowFiles
from vicinal.errors import ConfigError
from vicinal.experiment import Experiment

Compose = Callable[..., Experiment]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "images.bin"
    file.write_bytes(b"0123")
    return file


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all files had been written a while ago."""
    monkeypatch.setattr(contents, "SETTLED_SECONDS", -60.0)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read to be hashed."""
    names: list[str] = []
    digest = hashlib.file_digest

    def noted(stream, name):
        names.append(Path(stream.name).name)
        return digest(stream, name)

    monkeypatch.setattr(hashlib, "file_digest", noted)
    return names


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_read_once_for_all_processes(file: Path, tmp_path: Path, settled: None, read: list[str]) -> None:
    store = tmp_path / "cache/kept.json"
    kept = HashCache(store)
    assert kept.sha256(str(file)) == sha(b"0123")
    assert not store.parent.exists()  # to look is not to write
    kept.save()
    assert kept.sha256(str(file)) == HashCache(store).sha256(str(file)) == sha(b"0123")
    assert read == ["images.bin"]


@pytest.mark.parametrize("change", ["content", "content, with the time put back", "another file", "touched"])
def test_a_file_is_read_again_where_its_stat_is_another(
    file: Path, tmp_path: Path, settled: None, read: list[str], change: str
) -> None:
    kept = HashCache(tmp_path / "kept.json")
    kept.sha256(str(file))
    kept.save()
    before = file.stat()
    match change:
        case "another file":
            (tmp_path / "other").write_bytes(b"4567")
            (tmp_path / "other").replace(file)
        case "touched":
            os.utime(file)
        case _:
            file.write_bytes(b"4567")
    if "put back" in change or change == "another file":
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert HashCache(tmp_path / "kept.json").sha256(str(file)) == sha(b"0123" if change == "touched" else b"4567")
    assert read == ["images.bin"] * 2


def test_a_file_that_was_just_written_is_not_trusted_to_stay(file: Path, tmp_path: Path, read: list[str]) -> None:
    """Within a tick of the file system's clock the next write leaves the same times."""
    kept = HashCache(tmp_path / "kept.json")
    assert [kept.sha256(str(file)), kept.sha256(str(file))] == [sha(b"0123")] * 2
    kept.save()
    assert not (tmp_path / "kept.json").exists()
    assert len(read) == 2


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'{"a": 1}', b'{"a": ["b", 2]}', b"[" * 100_000, None])
def test_a_damaged_store_is_no_store(file: Path, tmp_path: Path, settled: None, content: bytes | None) -> None:
    """None: one digit of a hash is another, which JSON cannot tell."""
    store = tmp_path / "kept.json"
    kept = HashCache(store)
    kept.sha256(str(file))
    kept.save()
    digits = sha(b"0123").encode()
    whole = store.read_bytes()
    assert digits in whole
    store.write_bytes(whole.replace(digits, digits[::-1]) if content is None else content)
    kept = HashCache(store)
    assert kept.sha256(str(file)) == sha(b"0123")
    kept.save()
    assert store.read_bytes() == whole


def test_a_store_that_cannot_be_written_costs_a_reading(file: Path, settled: None, read: list[str]) -> None:
    for _ in range(2):
        kept = HashCache(file / "kept.json")  # below a file
        assert kept.sha256(str(file)) == sha(b"0123")
        kept.save()
    assert len(read) == 2
    assert [path.name for path in file.parent.iterdir()] == ["images.bin"]


@pytest.mark.parametrize("change", ["another image", "one more"])
@pytest.mark.parametrize("kind", ["imagefolder", "hf"])
def test_data_that_change_between_the_check_and_the_training_are_refused(
    compose: Compose, tmp_path: Path, kind: str, change: str
) -> None:
    """In a sweep there may be hours between the two; the identity is of the first."""
    folder = tmp_path / "data"
    if kind == "hf":
        write_hub(folder, train=20)
        file, key = folder / "data/train-00000-of-00002.parquet", "path"
    else:
        for name in ("train/ant", "train/bee", "test/ant", "test/bee"):
            for number in range(8):
                (folder / name).mkdir(parents=True, exist_ok=True)
                Image.new("L", (8, 8), 9 * number).save(folder / name / f"{number}.png")
        file, key = folder / f"train/ant/{3 if change == 'another image' else 9}.png", "folder"
    words = (f"dataset={kind}", f"dataset.{'path' if kind == 'hf' else 'root'}={folder}")
    words = (*words, "dataset.image_size=8", "dataset.val_size=4")
    before = compose(*words)
    build.load_samples(before)
    if kind == "hf":
        count = 10 if change == "another image" else 11
        write_parquet(file, table(encoded(count, seed=3), [number % 2 for number in range(count)]))
    else:
        Image.new("L", (8, 8), 255).save(file)
    with pytest.raises(ConfigError) as caught:
        build.load_samples(before)
    line = f"dataset.{key}={folder}: its files have changed since this command began; run it again"
    assert str(caught.value) == line
    after = compose(*words)
    assert after.run_id != before.run_id
    build.load_samples(after)


def test_files_are_named_below_the_folder_that_holds_them(tmp_path: Path) -> None:
    for name in ("a/images", "b/images"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(name.encode())
    files = [tmp_path / "a/images", tmp_path / "b/images", tmp_path / "b/gone"]
    expected = {name: sha(name.encode())[:16] for name in ("a/images", "b/images")}
    assert contents.of_files(files, tmp_path / "cache") == expected
    assert list(contents.of_files(files[:1], tmp_path / "cache")) == ["images"]
    assert contents.of_files(files[2:], tmp_path / "cache") == {}


def test_a_folder_has_one_hash_of_all_that_is_in_it(tmp_path: Path) -> None:
    def found() -> str:
        (name, digest), *rest = contents.of_files([tmp_path / "tree"], tmp_path / "cache").items()
        assert (name, rest) == ("tree", [])
        return digest

    (tmp_path / "tree/deep").mkdir(parents=True)
    empty = found()
    (tmp_path / "tree/deep/a").write_bytes(b"0")
    first = found()
    (tmp_path / "tree/deep/a").write_bytes(b"1")
    second = found()
    (tmp_path / "tree/deep/a").rename(tmp_path / "tree/deep/b")
    assert len({empty, first, second, found()}) == 4
    (tmp_path / "tree/deep/b").rename(tmp_path / "tree/deep/a")
    assert found() == second


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two classes of grey images of 8 x 8 pixels: six each to train on, and one to test on."""
    for part, size in (("train", 6), ("test", 1)):
        for name in "ab":
            (tmp_path / "tree" / part / name).mkdir(parents=True)
            for index in range(size):
                Image.new("L", (8, 8), color=index + 1).save(tmp_path / f"tree/{part}/{name}/{index}.png")
    return tmp_path / "tree"


def start(compose: Compose, tree: Path, *more: str) -> Experiment:
    """Compose a run on a tree as a new process does."""
    contents.forget()
    contents.opened.clear()
    words = ("dataset=imagefolder", f"dataset.root={tree}", "dataset.channels=1", "model=mlp")
    return compose(*words, "dataset.image_size=8", "dataset.val_size=2", "dataset.std=[0.5]", *more)


def test_the_files_of_a_tree_are_read_once_and_kept_when_its_images_are_loaded(
    compose: Compose, tmp_path: Path, tree: Path, settled: None, read: list[str]
) -> None:
    first = start(compose, tree)
    assert len(read) == 14
    assert not (tmp_path / "outputs").exists()
    assert build.load_data(first).contents == {}
    for kind in ("contents", "tree"):
        assert len(list((tmp_path / "outputs/cache").glob(f"{kind}-*.json"))) == 1
    assert start(compose, tree).run_id == first.run_id
    assert len(read) == 14
    Image.new("L", (8, 8), color=9).save(tree / "train/a/0.png")
    assert start(compose, tree).run_id != first.run_id
    assert read[14:] == ["0.png"]


def test_a_start_looks_at_each_file_of_a_known_tree_twice(
    compose: Compose, tree: Path, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once to identify the run, and once after the images are loaded, which may be hours later in a sweep."""
    build.load_data(start(compose, tree))
    looks: Counter[str] = Counter()
    stat = os.stat

    def noted(path, **options):
        looks[str(path)] += str(path).endswith(".png")
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", noted)
    build.load_data(start(compose, tree))
    assert +looks == dict.fromkeys(map(str, tree.rglob("*.png")), 2)


@pytest.mark.parametrize("damage", ["one bit", "half", "gone"])
def test_a_damaged_hash_of_a_tree_is_made_again(
    compose: Compose, tmp_path: Path, tree: Path, settled: None, read: list[str], damage: str
) -> None:
    first = start(compose, tree)
    build.load_data(first)
    [kept] = (tmp_path / "outputs/cache").glob("tree-*.json")
    whole, digest = kept.read_bytes(), first.effective["dataset"]["folder"].encode()
    place = whole.index(digest)
    bit = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
    kept.write_bytes({"one bit": bit, "half": whole[: len(whole) // 2], "gone": b""}[damage])
    again = start(compose, tree)
    assert again.run_id == first.run_id
    build.load_data(again)
    assert kept.read_bytes() == whole
    assert len(read) == 14


def test_the_hash_of_a_tree_is_not_kept_where_it_may_be_another_next_time(
    compose: Compose, tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build.load_data(start(compose, tree))  # files that were just written
    assert not list((tmp_path / "outputs").rglob("tree-*.json"))
    monkeypatch.setattr(contents, "SETTLED_SECONDS", -60.0)
    hashed = contents._file_sha256

    def unreadable(path: str) -> str:
        if path.endswith("train/a/0.png"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return hashed(path)

    (tree / "train/a/9.png").symlink_to(tree / "nowhere")
    link = start(compose, tree, "dataset.on_error=skip")
    build.load_data(link)
    (tree / "train/a/9.png").unlink()
    contents.opened.clear()
    for file in (tmp_path / "outputs/cache").glob("contents-*.json"):
        file.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(contents, "_file_sha256", unreadable)
        foreign = start(compose, tree, "dataset.on_error=skip")
        contents.save_hashes()
    assert not list((tmp_path / "outputs").rglob("tree-*.json"))  # of files that another user may be able to read
    whole = start(compose, tree, "dataset.on_error=skip")
    build.load_data(whole)
    assert len(list((tmp_path / "outputs").rglob("tree-*.json"))) == 1
    assert len({each.effective["dataset"]["folder"] for each in (link, foreign, whole)}) == 3


def test_an_image_that_changes_while_others_are_hashed_is_loaded_as_it_was_hashed(
    compose: Compose, tmp_path: Path, tree: Path, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pixels of the files as they were seen first are kept from an earlier start."""
    build.load_data(start(compose, tree))
    for file in (tmp_path / "outputs/cache").glob("*.json"):
        file.unlink()
    digest = hashlib.file_digest

    def changing(stream, name):
        if stream.name.endswith("train/a/0.png"):
            Image.new("L", (8, 8), color=200).save(tree / "train/b/5.png")
        return digest(stream, name)

    monkeypatch.setattr(hashlib, "file_digest", changing)
    source, _ = build.load_samples(start(compose, tree))
    assert source.train.inputs[-1].unique().tolist() == [200]


@pytest.mark.parametrize("keep", ["decoded", "encoded"])
def test_an_image_that_changes_while_it_is_loaded_is_refused(
    compose: Compose, tmp_path: Path, tree: Path, settled: None, monkeypatch: pytest.MonkeyPatch, keep: str
) -> None:
    experiment = start(compose, tree, f"dataset.keep={keep}", f"dataset.stage_to={tmp_path}/disk")
    made = RowFiles.make

    def changing(*arguments):
        Image.new("L", (8, 8), color=200).save(tree / "train/b/5.png")
        return made(*arguments)

    monkeypatch.setattr(RowFiles, "make", changing)
    with pytest.raises(ConfigError, match="its files have changed since this command began"):
        build.load_samples(experiment)


@pytest.mark.parametrize("keep", ["decoded", "encoded"])
@pytest.mark.parametrize("known", [True, False])
def test_images_that_are_gone_are_named_as_a_change(
    compose: Compose, tmp_path: Path, tree: Path, settled: None, keep: str, known: bool
) -> None:
    words = (f"dataset.keep={keep}", f"dataset.stage_to={tmp_path}/disk")
    if known:
        build.load_data(start(compose, tree, *words))
        for folder in (tmp_path / "disk", *(tmp_path / "outputs/cache").glob("imagefolder-*")):
            shutil.rmtree(folder)
    experiment = start(compose, tree, *words)
    (tree / "train/b/5.png").unlink()
    with pytest.raises(ConfigError, match="its files have changed since this command began"):
        build.load_samples(experiment)


OWN_SOURCE = """
from pathlib import Path

import torch

from vicinal.data import Samples, Source


def images(size: int, pixels: int = 0) -> Samples:
    return Samples(torch.zeros(size, 1, pixels, pixels, dtype=torch.uint8), torch.arange(size) % 3)


def own(file: str, image_size: int) -> Source:
    content = Path(file).read_text()
    assert "loadable" in content, content
    return Source(images(30, image_size), images(6, image_size), ("a", "b", "c"))


def preview(file: str, **_) -> Source:
    return Source(images(30), images(6), ("a", "b", "c"))


def fingerprint(file: str, **_) -> dict[str, str]:
    if not Path(file).exists():
        raise ValueError(f"file: there is no {file}")
    return {"file": Path(file).read_text()}


own.preview, own.fingerprint = preview, fingerprint
"""


def test_a_source_of_ones_own_tells_its_classes_its_cuts_and_what_identifies_it(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_source_of_a_test.py").write_text(OWN_SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_source_of_a_test", raising=False)
    words = ("dataset._target_=own_source_of_a_test.own", "dataset.classes=null", "dataset.val_size=6", "model=mlp")
    words = (*words, "model.hidden=[4]", "dataset.std=[1]")

    def composed(name: str, *more: str) -> Experiment:
        return compose(*words, f"+dataset.file={tmp_path / name}", *more)

    for name, content in {"a": "loadable", "b": "loadable", "c": "loadable too", "d": "broken"}.items():
        (tmp_path / name).write_text(content)
    first = composed("a")
    assert first.sizes.classes == 3
    assert composed("b").run_id == first.run_id
    assert composed("c").run_id != first.run_id
    assert composed("a", "dataset.val_size=null").dataset.values["val_size"] == 1000
    data = build.load_data(first)
    assert (len(data.train.targets), data.contents) == (24, {})

    def refused(name: str, *more: str) -> str:
        with pytest.raises(ConfigError) as refusal:
            build.load_data(composed(name, *more))
        return str(refusal.value)

    cut = "dataset.val_size=29: must be 0 or from 3 to 27: there are 30 images of 3 classes to choose from"
    assert refused("d", "dataset.val_size=29") == cut  # without loading the images
    assert refused("d") == "dataset._target_=own_source_of_a_test.own: AssertionError: broken"
    assert refused("a", "dataset.classes=4") == "dataset.classes=4: must be 3, as in the data"
    assert refused("gone") == f"dataset.file={tmp_path}/gone: there is no {tmp_path}/gone"


def source(channels: int = 3) -> Source:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (12, channels, 4, 5), dtype=torch.uint8, generator=generator)
    labels = torch.arange(12) % 2
    return Source(Samples(images[:8], labels[:8]), Samples(images[8:], labels[8:]), ("a", "b"))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_memory_format_of_images_does_not_count(channels: int) -> None:
    plain = source(channels)
    images = plain.train.inputs.to(memory_format=torch.channels_last)
    other = plain._replace(train=Samples(images, plain.train.targets))
    assert contents.of_samples(other) == contents.of_samples(plain)


def test_every_part_of_a_source_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = source()
    expected = contents.of_samples(plain)
    assert expected.keys() == {"train", "test", "class names"}

    def differing(**parts) -> set[str]:
        found = contents.of_samples(plain._replace(**parts))
        return {name for name in expected if found[name] != expected[name]}

    images, labels, _ = plain.train
    pixel, label = images.clone(), labels.clone()
    pixel[7, 2, 3, 4] ^= 1
    label[7] = 0
    assert differing() == set()
    assert differing(train=Samples(pixel, labels)) == {"train"}
    assert differing(train=Samples(images, label)) == {"train"}
    assert differing(train=Samples(images, labels, torch.arange(8).flip(0))) == {"train"}
    assert differing(train=Samples(images.reshape(8, 3, 5, 4), labels)) == {"train"}
    assert differing(test=Samples(plain.test.inputs.flip(0), plain.test.targets)) == {"test"}
    assert differing(class_names=("b", "a")) == {"class names"}
    monkeypatch.setattr(contents, "CHUNK", 3)
    assert differing() == set()


OF_KINDS = {
    "wavs/train/cat/0.wav": ("wavfolder", "dataset.folder={}/wavs", "dataset.length=2000"),
    "commands/yes/7f_nohash_7.wav": ("speech_commands", "dataset.folder={}/commands", "dataset.length=2000"),
    "masks/train/images/0.png": ("masks", "dataset.folder={}/masks", "dataset.classes=2", "dataset.image_size=16"),
    "bccd/VOCdevkit/VOC2007/Annotations/train0.xml": (
        *("voc", "dataset.folder={}/bccd/VOCdevkit/VOC2007", "dataset.origin=0", "dataset.image_size=32"),
    ),
    "coco/train.json": (
        *("coco", "dataset.train_file={}/coco/train.json", "dataset.test_file={}/coco/test.json"),
        *("dataset.train_images={}/coco/train", "dataset.test_images={}/coco/test", "dataset.image_size=32"),
    ),
    "sst2/train.tsv": ("tsv", "dataset.folder={}/sst2", "dataset.length=16"),
}
"""{a file: the data set with it}."""


WORDS = {
    ".tsv": (b"word1", b"word9"),
    ".xml": (b">bar<", b">dot<"),
    ".json": (b'"category_id": 3', b'"category_id": 90'),
}


def other_content(file: Path) -> None:
    """Write other words, another picture, or another clip."""
    if file.suffix in WORDS:
        file.write_bytes(file.read_bytes().replace(*WORDS[file.suffix]))
    elif file.suffix == ".png":
        ImageOps.mirror(Image.open(file)).save(file)
    else:
        file.write_bytes(file.read_bytes()[:-1] + b"~")


@pytest.mark.parametrize("file", OF_KINDS)
def test_every_kind_of_data_that_changes_is_refused(compose: Compose, tmp_path: Path, file: str) -> None:
    tiny_data.write(tmp_path)
    kind, *words = (word.format(tmp_path) for word in OF_KINDS[file])
    experiment = compose(f"dataset={kind}", *words, "dataset.val_size=0")
    build.load_samples(experiment)
    before = (tmp_path / file).read_bytes()
    other_content(tmp_path / file)
    assert (tmp_path / file).read_bytes() != before
    with pytest.raises(ConfigError, match=r"^dataset\.\w+=.*: its files have changed since this command began"):
        build.load_samples(experiment)
