"""Whole requests for a pretrained network: which run it is, that it can be repeated, and mistakes in one line each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
import transformers

from tests.huggingface_files import TEXTS, write_folder, write_tokenizer
from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.jobs.reproduce import reproduce
from vicinal.jobs.run import reuse_warnings, run

Compose = Callable[..., Experiment]
SHORT = ("trainer.epochs=1", "trainer.batch_size=4", "trainer.precision=fp32", "trainer.threads=1", "tracker=none")


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """A request in a folder with sentences, ``data``, and a pretrained network, ``net``."""
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{number % 2}\t{text}\n" for number, text in enumerate(2 * TEXTS))
    Path("data").mkdir()
    for part in ("train", "test"):
        Path("data", f"{part}.tsv").write_text("label\ttext\n" + rows)
    write_folder(Path("net"))
    data = ("dataset=tsv", "dataset.root=data", "dataset.val_size=0", "dataset.length=12", "dataset.tokenizer=net")
    return (*data, "model=huggingface", *SHORT)


def test_other_weights_in_the_same_folder_are_another_run(words: tuple[str, ...], compose: Compose) -> None:
    first = compose(*words)
    assert first.model.arguments == {"folder": "net"}
    assert first.effective["model"]["folder"] != "net"
    assert first.strategy.depths == ["embedding", "layer1"]
    Path("net").rename("moved")
    moved = compose(*words, "dataset.tokenizer=moved")
    assert moved.run_id == first.run_id
    write_folder(Path("net"), seed=1)
    assert compose(*words).cell_id != first.cell_id
    write_folder(Path("net"), hidden_dropout_prob=0.3)
    assert compose(*words).cell_id != first.cell_id
    write_folder(Path("net"))
    assert compose(*words).run_id == first.run_id


def test_a_run_can_be_repeated_from_its_folder(words: tuple[str, ...], compose: Compose) -> None:
    experiment = compose(*words)
    result = run(experiment)
    assert set(result["test"]["last"]) >= {"acc1", "nll"}
    assert result["versions"]["transformers"] == transformers.__version__
    assert result["versions"]["tokenizers"] == tokenizers.__version__
    older = {**result, "versions": {**result["versions"], "transformers": "4.0.0"}}
    said = f"made with transformers 4.0.0, here it would be {transformers.__version__}: the last digits may differ"
    assert reuse_warnings(experiment, older) == [said]
    stored = experiment.folder.config.read_text()
    assert "tokenizer: net\n" in stored
    assert "folder: net\n" in stored
    again = reproduce(experiment.folder.path)
    assert again.verdict() == "bit-identical"
    assert again.requested == []
    write_folder(Path("net"), seed=1)
    other = reproduce(experiment.folder.path)
    assert not other.identical
    [line] = other.requested
    assert "the files in dataset.folder, dataset.tokenizer, model.folder, or how" in line


def test_a_folder_that_is_gone_is_named(words: tuple[str, ...], compose: Compose) -> None:
    Path("net/model.safetensors").replace("net/pytorch_model.bin")
    reason = "pytorch_model.bin is a pickle, which can run code when it is read"
    with pytest.raises(UserError) as refused:
        compose(*words)
    assert str(refused.value) == f"model.folder=net: must have its weights as model.safetensors: {reason}"
    assert not Path("outputs/runs").exists()


LINES = [
    (
        "dataset.tokenizer=null",
        "model.folder=null: must be one that save_pretrained wrote: dataset.tokenizer=<folder> sets both",
    ),
    (
        "dataset.tokenizer=null model.folder=net",
        "dataset.vocabulary=20000: must be at most 93 for net; dataset.tokenizer=<folder> reads with the tokenizer in",
    ),
    (
        "dataset.tokenizer=null dataset.vocabulary=93 model.folder=net",
        "model.folder=net: must have the tokenizer that cuts the sentences: dataset.tokenizer=<folder> sets both",
    ),
    (
        "dataset.tokenizer=other model.folder=net",
        "dataset.vocabulary=301: must be at most 93 for net; dataset.tokenizer=<folder> reads with the tokenizer in it",
    ),
    ("model.folder=other", "model.folder=other: must have config.json, as save_pretrained writes it"),
    (
        "dataset.tokenizer=nowhere",
        "dataset.tokenizer=nowhere: must be a folder with tokenizer.json, as save_pretrained",
    ),
    ("dataset.length=65", "dataset.length=65: must be at most 64 for net"),
    ("dataset.length=2", "dataset.length=2: must be at least 3 with this tokenizer"),
    ("mixup=input", "mixup._target_=vicinal.mixing.InputMixup: token ids cannot be blended"),
    ("mixup.layers=[layer3]", "mixup.layers=layer3: no block of vicinal.models.huggingface.HuggingFace; "),
    ("mixup=ssmix mixup.ends=-1", "mixup.ends=-1: must be an integer >= 0"),
]


@pytest.mark.parametrize(("added", "message"), LINES, ids=[added for added, _ in LINES])
def test_a_mistake_is_one_line(words: tuple[str, ...], compose: Compose, added: str, message: str) -> None:
    write_tokenizer(Path("other"), byte_level=True)
    with pytest.raises(UserError) as refused:
        compose(*words, *added.split())
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_more_token_ids_than_it_has_vectors_of(words: tuple[str, ...], compose: Compose) -> None:
    write_folder(Path("small"), vocab_size=50)
    with pytest.raises(UserError) as refused:
        compose(*words, "dataset.tokenizer=small")
    assert len(json.loads(Path("small/tokenizer.json").read_text())["model"]["vocab"]) == 92
    assert str(refused.value).startswith("dataset.vocabulary=93: must be at most 51 for small")


def test_images_have_no_tokenizer(compose: Compose) -> None:
    with pytest.raises(UserError, match="must take the arguments channels, image_size, classes; for these data choose"):
        compose("model=huggingface")
