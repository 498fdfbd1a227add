"""Token ids of a pretrained folder against those of transformers, and how they enter a data set and its identity."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.huggingface_files import TEXTS, encoded, write_folder, write_tokenizer
from vicinal.build import load_data
from vicinal.data import tokenizer as tokenizers
from vicinal.data.text import tsv
from vicinal.data.tokenizer import folder_tokenizer
from vicinal.errors import UserError
from vicinal.experiment import Experiment

LENGTH = 8
ODD = ["", ":-)", "[SEP] the", "naïve CATS", "日本"]


@pytest.fixture(params=[False, True], ids=["wordpiece", "bytes"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    write_tokenizer(tmp_path / "net", byte_level=request.param)
    return tmp_path / "net"


def write_sentences(folder: Path) -> Path:
    folder.mkdir()
    rows = "".join(f"{number % 2}\t{text}\n" for number, text in enumerate(TEXTS))
    for part in ("train", "test"):
        (folder / f"{part}.tsv").write_text("label\ttext\n" + rows)
    return folder


@pytest.mark.parametrize("length", [3, LENGTH, 32])
def test_ids_are_those_of_transformers_plus_one_and_padding_is_zero(folder: Path, length: int) -> None:
    texts = [*TEXTS, *ODD]
    theirs = encoded(folder, texts, length)
    ours = folder_tokenizer(str(folder)).ids(texts, length)
    assert torch.equal(ours, (theirs["input_ids"] + 1) * theirs["attention_mask"])
    assert ours.max() < folder_tokenizer(str(folder)).vocabulary


def test_padding_and_cuts_of_the_file_itself_do_not_count(folder: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    own.enable_padding(length=5)
    own.enable_truncation(4)
    (tmp_path / "other").mkdir()
    own.save(str(tmp_path / "other/tokenizer.json"))
    one, other = (folder_tokenizer(str(place)).ids(TEXTS, 16) for place in (folder, tmp_path / "other"))
    assert torch.equal(one, other)


def test_sentences_are_cut_by_it(folder: Path, tmp_path: Path) -> None:
    data = write_sentences(tmp_path / "data")
    keys = {"vocabulary": 9, "length": LENGTH, "cache_dir": str(tmp_path), "val_size": 0, "tokenizer": str(folder)}
    source = tsv(str(data), **keys)  # type: ignore[arg-type]
    cut = folder_tokenizer(str(folder))
    assert torch.equal(source.train.inputs, cut.ids(TEXTS, LENGTH))
    assert source.vocabulary == cut.vocabulary
    (data / "test.tsv").write_text("label\ttext\n0\t:-)\n")  # no word, and yet a sentence
    assert int((tsv(str(data), **keys).test.inputs != 0).sum()) > 2  # type: ignore[arg-type]
    (data / "test.tsv").write_text("label\ttext\n0\t \n")
    with pytest.raises(ValueError, match=r"^text must have a word in every line: line 2 of test\.tsv has none$"):
        tsv(str(data), **keys)  # type: ignore[arg-type]


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    before = folder_tokenizer(str(tmp_path))
    assert folder_tokenizer(str(tmp_path)) is before
    write_tokenizer(tmp_path, byte_level=True)
    assert folder_tokenizer(str(tmp_path)).fingerprint != before.fingerprint


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda file: file.unlink(),
            "tokenizer must be a folder with tokenizer.json, as save_pretrained writes it, got",
        ),
        (lambda file: file.write_text("{"), "tokenizer must have a tokenizer.json that can be read ("),
        (lambda file: file.write_bytes(b"\xff"), "tokenizer must have a tokenizer.json that can be read ("),
    ],
)
def test_a_folder_without_a_tokenizer_is_refused(folder: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(folder / "tokenizer.json")
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as refused:
        folder_tokenizer(str(folder))
    assert "\n" not in str(refused.value)


def test_a_length_without_room_for_a_word_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"^length must be at least 3 with this tokenizer, got 2$"):
        folder_tokenizer(str(folder)).ids(TEXTS, 2)


def test_without_its_package_a_line_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizers, "find_spec", lambda name: None)
    with pytest.raises(UserError) as refused:
        folder_tokenizer(str(folder))
    line = "dataset.tokenizer needs tokenizers, which is not installed: pip install 'vicinal[huggingface]'"
    assert str(refused.value) == line


Compose = Callable[..., Experiment]


@pytest.fixture
def words(tmp_path: Path) -> tuple[str, ...]:
    return (
        "dataset=tsv",
        "dataset.val_size=0",
        "dataset.length=8",
        f"dataset.root={write_sentences(tmp_path / 'data')}",
    )


def test_identity_has_its_content_and_not_its_place(compose: Compose, words: tuple[str, ...], tmp_path: Path) -> None:
    plain = compose(*words)
    assert compose(*words, "dataset.tokenizer=null").cell_id == plain.cell_id
    assert "tokenizer" not in plain.effective["dataset"]
    write_tokenizer(tmp_path / "net")
    cut = compose(*words, f"dataset.tokenizer={tmp_path / 'net'}")
    assert cut.cell_id != plain.cell_id
    (tmp_path / "net").rename(tmp_path / "moved")
    moved = (*words, f"dataset.tokenizer={tmp_path / 'moved'}")
    assert compose(*moved).cell_id == cut.cell_id
    assert compose(*moved, "dataset.vocabulary=50", "dataset.min_count=1").cell_id == cut.cell_id
    write_tokenizer(tmp_path / "moved", byte_level=True)
    assert compose(*moved).cell_id != cut.cell_id


@pytest.mark.parametrize("model", ["kim_cnn", "text_transformer"])
def test_other_networks_learn_vectors_of_tokens(
    compose: Compose, words: tuple[str, ...], tmp_path: Path, model: str
) -> None:
    count = write_tokenizer(tmp_path / "net")
    experiment = compose(*words, f"dataset.tokenizer={tmp_path / 'net'}", f"model={model}")
    assert experiment.sizes.arguments == {"vocabulary": count + 1, "length": 8, "classes": 2}
    assert not [line for line in experiment.ineffective_keys() if "dataset" in line]
    assert experiment.packages == ("tokenizers",)
    assert compose(*words, f"model={model}").packages == ()
    assert load_data(experiment).train.inputs.max() <= count


def test_a_wrong_command_is_one_line(compose: Compose, words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as refused:
        compose(*words, "dataset.tokenizer=nowhere")
    line = "dataset.tokenizer=nowhere: must be a folder with tokenizer.json, as save_pretrained writes it"
    assert str(refused.value) == line


def test_a_whole_folder_has_its_tokenizer_too(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "net")
    assert folder_tokenizer(str(folder)).ids(["the"], 4)[0, 0] == 3  # [CLS], whose id is 2
