"""Sentences against scikit-learn's counts of words, and every refusal of a file or key in one line."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from vicinal.build import load_data
from vicinal.data import Source
from vicinal.data.text import WORD, tsv, words
from vicinal.errors import UserError
from vicinal.experiment import Experiment

REPO = Path(__file__).parents[2]
SENTENCES = [
    "Don't look at the cat!",
    "the cat, the dog and the Bird...",
    "Who saw the dog ?",
    "a bird and a cat",
]


def line(label: object, text: str) -> str:
    return f"{label}\t{text}\n"


def write(folder: Path, part: str = "train", rows: str | None = None, head: str = "label\ttext\n") -> Path:
    folder.mkdir(exist_ok=True)
    body = "".join(line(number % 2, text) for number, text in enumerate(SENTENCES)) if rows is None else rows
    file = folder / f"{part}.tsv"
    file.write_text(head + body, encoding="utf-8")
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "data")
    write(tmp_path / "data", "test")
    return tmp_path / "data"


def load(folder: Path, **keys: object) -> Source:
    own = {"vocabulary": 100, "length": 8, "cache_dir": str(folder / "cache"), "val_size": None, **keys}
    return tsv(str(folder), **own)  # type: ignore[arg-type]


@given(st.lists(st.text(alphabet="aB'! ?.,é\t", min_size=1), min_size=1))
def test_words_are_those_of_scikit_learn(texts: list[str]) -> None:
    cut = CountVectorizer(token_pattern=WORD.pattern, lowercase=True).build_analyzer()
    assert [words(text) for text in texts] == [list(cut(text)) for text in texts]


def test_the_vocabulary_has_the_frequent_words_of_the_training_part(folder: Path) -> None:
    vectorizer = CountVectorizer(token_pattern=WORD.pattern)
    counts = vectorizer.fit_transform(SENTENCES).sum(axis=0).A1
    names = vectorizer.get_feature_names_out()
    order = np.lexsort((names, -counts))  # by count, then by the alphabet
    frequent = [str(names[place]) for place in order if counts[place] >= 2]
    assert frequent == ["the", "cat", "a", "and", "bird", "dog"]

    write(folder, "test", line(0, "a horse and a dog, one two three four five six"))
    source = load(folder)
    ids = {word: number for number, word in enumerate(frequent, 2)}
    assert source.test.inputs.tolist() == [[ids["a"], 1, ids["and"], ids["a"], ids["dog"], 1, 1, 1]]  # cut after 8
    expected = torch.zeros(4, 8, dtype=torch.int64)
    for row, text in zip(expected, SENTENCES, strict=True):
        found = [ids.get(word, 1) for word in words(text)][:8]
        row[: len(found)] = torch.tensor(found)
    assert torch.equal(source.train.inputs, expected)
    assert source.train.targets.tolist() == [0, 1, 0, 1]
    assert load(folder, vocabulary=4).train.inputs.unique().tolist() == [0, 1, 2, 3]  # none, other, the, cat
    assert load(folder, min_count=1).train.inputs.max() == 1 + len(names)


def test_packed_files_and_files_without_names_are_the_same(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for part in ("train", "test"):
        content = (folder / f"{part}.tsv").read_bytes().partition(b"\n")[2]
        (other / f"{part}.tsv.gz").write_bytes(gzip.compress(content))
    ours, theirs = load(folder), load(other, columns=["label", "text"])
    assert torch.equal(ours.train.inputs, theirs.train.inputs)
    assert torch.equal(ours.test.targets, theirs.test.targets)


def test_classes_are_in_the_order_of_their_numbers_or_texts(folder: Path) -> None:
    write(folder, rows="".join(line(label, "one two two") for label in (10, 9, 10, 2)))
    write(folder, "test", line(9, "two"))
    source = load(folder)
    assert source.class_names == ("2", "9", "10")
    assert source.train.targets.tolist() == [2, 1, 2, 0]
    write(folder, rows="".join(line(label, "one two two") for label in ("b", "a", "B")))
    write(folder, "test", line("a", "two"))
    assert load(folder).class_names == ("B", "a", "b")


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev"])
def test_a_validation_file_is_read_where_none_is_cut(folder: Path, name: str) -> None:
    write(folder, name, line(1, "the dog"))
    val = load(folder).val
    assert val is not None
    assert val.targets.tolist() == [1]
    assert load(folder, val_size=1).val is None


@pytest.mark.parametrize("columns", [None, ["label", "text"]])
def test_marks_spaces_and_empty_last_lines_are_no_part_of_the_data(folder: Path, columns: list[str] | None) -> None:
    """A byte order mark, CR LF, spaces around names and labels: the classes are two."""
    head = "" if columns else "label\ttext\n"
    for part in ("train", "test"):
        write(folder, part, head=head)
    before = load(folder, columns=columns)
    for part in ("train", "test"):
        text = (folder / f"{part}.tsv").read_text(encoding="utf-8").replace("\t", " \t").replace("\n", "\r\n")
        (folder / f"{part}.tsv").write_bytes((text + "\r\n\r\n").encode("utf-8-sig"))
    after = load(folder, columns=columns)
    assert after.class_names == before.class_names == ("0", "1")
    for ours, theirs in zip(after[:2], before[:2], strict=True):
        assert torch.equal(ours.inputs, theirs.inputs)
        assert torch.equal(ours.targets, theirs.targets)


def test_sentences_of_two_parts_are_counted_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(folder, "test", line(0, "Who saw the dog?") + line(1, "a horse"))
    write(folder, "val", line(0, "A horse") + line(1, "the horse"))
    for length in (8, 9):
        load(folder, length=length)
    assert [record.getMessage() for record in caplog.records] == [
        f"{folder}: sentences of test that are in train too, word by word: 1 of 2",
        f"{folder}: sentences of test that are in val too, word by word: 1 of 2",
    ]


REFUSED: dict[str, tuple[Callable[[Path], object], dict[str, object], str]] = {
    "no folder": (lambda folder: folder.rename(folder.with_name("x")), {}, "folder must have train.tsv or"),
    "no test": (lambda folder: (folder / "test.tsv").unlink(), {}, "folder must have test.tsv or test.tsv.gz"),
    "two files": (lambda folder: (folder / "train.tsv.gz").touch(), {}, "folder must have one file of train"),
    "two validations": (
        lambda folder: (write(folder, "val"), write(folder, "dev")),
        {},
        "folder must have one file of val, not val.tsv and dev.tsv",
    ),
    "damaged": (
        lambda folder: (folder / "train.tsv").replace(folder / "train.tsv.gz"),
        {},
        "folder must have files that can be read, and train.tsv.gz cannot",
    ),
    "no UTF-8": (
        lambda folder: (folder / "train.tsv").write_bytes(b"label\ttext\n0\t\xff\n"),
        {},
        "folder must have files that can be read, and train.tsv cannot",
    ),
    "no text": (lambda folder: None, {"text": "txt"}, "text must be a column of train.tsv: no txt; did you mean text?"),
    "no label": (lambda folder: None, {"label": "fine"}, "label must be a column of train.tsv: no fine; allowed"),
    "no column in test": (
        lambda folder: write(folder, "test", head="class\ttext\n"),
        {},
        "label must be a column of test.tsv: no label",
    ),
    "columns": (
        lambda folder: write(folder, rows=line(0, "a\tb")),
        {},
        "columns must fit the lines of train.tsv: there are 3 columns in line 2, and 2 names",
    ),
    "empty text": (
        lambda folder: write(folder, rows=line(0, "a a") + line(1, "")),
        {},
        "text must have a word in every line: line 3 of train.tsv has none",
    ),
    "no word": (
        lambda folder: write(folder, "test", line(0, "a") + line(1, "... ,")),
        {},
        "text must have a word in every line: line 3 of test.tsv has none",
    ),
    "no sentence": (lambda folder: write(folder, rows=""), {}, "folder must have files with sentences, and train.tsv"),
    "one class": (
        lambda folder: write(folder, rows=line(1, "a a") * 3),
        {},
        "label must have two classes or more in train, got 1 alone",
    ),
    "other class": (
        lambda folder: write(folder, "test", line(7, "the dog")),
        {},
        "label must have the classes of train: 7 in test is none of 0, 1",
    ),
    "no class in a line": (
        lambda folder: write(folder, rows=line(0, "a a") + line(" ", "a b")),
        {},
        "label must have a text in every line: line 3 of train.tsv has none",
    ),
    "an empty line between": (
        lambda folder: write(folder, rows=line(0, "a a") + "\n" + line(1, "a b")),
        {},
        "columns must fit the lines of train.tsv: line 3 is empty",
    ),
    "one name twice": (
        lambda folder: write(folder, head="text\ttext\n"),
        {},
        "columns must have different names, and those of train.tsv are text, text",
    ),
    "one given name twice": (
        lambda folder: None,
        {"columns": ["label", "text", "text"]},
        "columns must have different names",
    ),
    "rare words": (lambda folder: None, {"min_count": 9}, "min_count must be at most 5, that of the most frequent"),
    "no count": (lambda folder: None, {"min_count": 0}, "min_count must be an integer >= 1, got 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_in_a_line(folder: Path, case: str) -> None:
    spoil, keys, message = REFUSED[case]
    spoil(folder)
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        load(folder, **keys)
    assert "\n" not in str(refused.value)


WORDS = ("dataset=tsv", "dataset.val_size=0")
LINES = [
    ("dataset.root=nowhere", "dataset.folder=nowhere: must have train.tsv or train.tsv.gz, and there is none"),
    ("dataset.text=txt", "dataset.text=txt: must be a column of train.tsv: no txt; did you mean text? allowed: label"),
    ("dataset.classes=3", "dataset.classes=3: must be 2, as in the data"),
    ("dataset.val_size=4", "dataset.val_size=4: must be 0 or from 2 to 2"),
    ("dataset.vocabulary=2", "dataset.vocabulary=2: must be an integer in [3, 1000000]"),
    ("dataset.length=0", "dataset.length=0: must be an integer in [1, 1000000000]"),
    ("dataset.task=regression", "dataset.task=regression: must fit the targets: regression needs (N, 2) floats"),
    ("model=cnn", "model._target_=vicinal.models.cnn.CNN: must take the arguments vocabulary, length, classes; for "
     "these data choose model=huggingface or model=kim_cnn or model=text_transformer"),
    ("model.kernels=[]", "model.kernels=[]: must be a list of integers >= 1, at least one"),
    ("mixup=input", "mixup._target_=vicinal.mixing.InputMixup: token ids cannot be blended; choose mixup=ssmix, or "
     "mixup=manifold with mixup.layers=[embedding]"),
    ("mixup=cutmix", "mixup._target_=vicinal.mixing.CutMix: token ids cannot be blended; choose mixup=ssmix"),
    ("mixup=one_of", "mixup._target_=vicinal.mixing.one_of.OneOf: token ids cannot be blended; choose mixup=ssmix"),
    ("mixup.layers=[embedding,input]", "mixup.layers=[embedding,input]: token ids cannot be blended; choose"),
    ("mixup.layers=[block1]", "mixup.layers=block1: no block of vicinal.models.text.KimCNN; allowed: embedding"),
    ("mixup=cutmix mixup.depth=embedding", "mixup.depth=embedding: must be where images, clips and the like "
     "(B, C, ...) are, for CutMix, and embedding returns vectors (B, "),
    ("mixup=ricap mixup.depth=embedding", "mixup.depth=embedding: must be where images (B, C, H, W) are, for Ricap, "),
    ("mixup=ssmix mixup.labels=drawn", "mixup.labels=drawn: must be area, majority, remix, constant for SSMix"),
    ("mixup=ssmix mixup.share=0", "mixup.share=0: must be in (0, 1]"),
]  # fmt: skip


@pytest.mark.parametrize(("added", "message"), LINES, ids=[added for added, _ in LINES])
def test_a_wrong_command_is_refused_before_a_folder_is_made(
    compose: Callable[..., Experiment], tmp_path: Path, folder: Path, added: str, message: str
) -> None:
    with pytest.raises(UserError) as refused:
        load_data(compose(*WORDS, f"dataset.root={folder}", *added.split()))
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "outputs/runs").exists()


def test_the_blocks_of_a_network_are_mixed_and_not_its_ids(compose: Callable[..., Experiment], folder: Path) -> None:
    words = (*WORDS, f"dataset.root={folder}")
    assert compose(*words).strategy.depths == ["embedding", "pooled"]
    assert compose(*words, "model=text_transformer").strategy.depths == ["embedding", "layer1"]
    assert compose(*words, "mixup=none").strategy.depths == ()


def test_identity_is_the_content_of_the_files(compose: Callable[..., Experiment], folder: Path, tmp_path: Path) -> None:
    def cell(root: Path, *more: str) -> str:
        return compose(*WORDS, f"dataset.root={root}", *more).cell_id

    before = cell(folder)
    moved = folder.rename(tmp_path / "elsewhere")
    assert cell(moved) == before
    write(moved, "val", line(0, "the dog"))
    assert cell(moved) == before  # a file that is not read
    assert cell(moved, "dataset.val_size=null") != before
    write(moved, "test", line(0, "the dog"))
    assert cell(moved) != before


@pytest.mark.parametrize(("name", "sizes", "classes"), [("sst2", (6920, 872, 1821), 2), ("trec", (5452, None, 500), 6)])
def test_the_files_of_the_options(
    compose: Callable[..., Experiment],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    sizes: tuple[int, ...],
    classes: int,
) -> None:
    data = Path(os.environ.get("VICINAL_TEST_DATA", REPO.parent / "shared/datasets"))
    if not (data / name / "train.tsv.gz").is_file():
        pytest.skip(f"no {name}/train.tsv.gz under {data}; VICINAL_TEST_DATA names another folder")
    experiment = compose(f"dataset={name}", f"dataset.root={data}", f"dataset.cache_dir={tmp_path}")
    source = experiment.dataset()
    found = tuple(None if part is None else len(part.targets) for part in (source.train, source.val, source.test))
    assert found == sizes
    known = {"sst2": "2 of 1821", "trec": "11 of 500"}[name]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [f"{data / name}: sentences of test that are in train too, word by word: {known}"]
    assert experiment.sizes.classes == len(source.class_names) == classes
    assert int((source.train.inputs[:, -1] != 0).sum()) <= 0.01 * sizes[0]  # few sentences are cut
