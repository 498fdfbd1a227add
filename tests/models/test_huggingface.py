"""Pretrained networks against transformers' own classes, what padding must never change, and refused folders."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from tests.huggingface_files import FAMILIES, PLACES, TEXTS, encoded, write_folder, write_tokenizer
from vicinal.data.inputs import Tokens
from vicinal.data.tokenizer import folder_tokenizer
from vicinal.errors import UserError
from vicinal.mixing import MixPlan, mixed_forward
from vicinal.models import block_names, check, pretrained
from vicinal.models.huggingface import HuggingFace
from vicinal.models.text import present

LENGTH = 12
HIDDEN = ["embedding", "layer1", "layer2"]


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("net"))


@pytest.fixture
def copy(bert: Path, tmp_path: Path) -> Path:
    """The same files in a folder of its own, to be changed."""
    for file in bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def network(folder: Path, classes: int = 2, seed: int = 0) -> HuggingFace:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = HuggingFace(folder_tokenizer(str(folder)).vocabulary, LENGTH, classes, folder=str(folder))
    assert model.training
    return model.eval()


def sentences(folder: Path, length: int = LENGTH) -> Tensor:
    return folder_tokenizer(str(folder)).ids(TEXTS, length)


@torch.no_grad()
def test_logits_are_those_of_transformers_under_its_attention_mask(folder: Path) -> None:
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
    expected = theirs(**encoded(folder, TEXTS, LENGTH)).logits
    assert expected.std(dim=0).min() > 0.01
    torch.testing.assert_close(network(folder)(sentences(folder)), expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_padding_never_changes_the_logits(folder: Path) -> None:
    model = network(folder)
    ids = sentences(folder, 20)
    longest = int((ids != 0).sum(dim=1).max())
    assert (ids[:, longest:] == 0).all()
    torch.testing.assert_close(model(F.pad(ids, (0, 5))), model(ids[:, :longest]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("block", HIDDEN)
def test_hidden_padding_is_zero_in_every_precision(folder: Path, block: str) -> None:
    model, ids, seen = network(folder), sentences(folder), []
    model.get_submodule(block).register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.autocast("cpu", torch.bfloat16):
        model(ids)
    model.train()(ids)
    for output in seen:
        assert output.shape == (len(ids), LENGTH, 16)
        assert torch.equal(present(output), ids != 0)


@torch.no_grad()
@pytest.mark.parametrize("block", [*HIDDEN, "pooled"])
def test_a_mixed_sentence_has_the_words_of_both(folder: Path, block: str) -> None:
    model, ids = network(folder), sentences(folder)[1:3]
    plan = MixPlan(torch.tensor([0.6, 0.3]), torch.tensor([1, 0]), layer=block)
    entering: list[Tensor] = []
    following = {**dict(zip(HIDDEN, [*HIDDEN[1:], "pooled"], strict=True)), "pooled": "head"}[block]
    hook = model.get_submodule(following).register_forward_pre_hook(lambda module, args: entering.append(args[0]))
    logits = mixed_forward(model, ids, plan)
    hook.remove()
    either = (ids != 0).any(dim=0)
    if block != "pooled":
        assert int((ids != 0).sum(dim=1).diff()) != 0
        assert torch.equal(present(entering[0]), either.expand(2, -1))
    longest = int(either.sum())
    torch.testing.assert_close(mixed_forward(model, ids[:, :longest], plan), logits, rtol=1e-5, atol=1e-6)
    whole = MixPlan(torch.ones(2), torch.tensor([1, 0]), layer=block)
    if block == "pooled":
        torch.testing.assert_close(mixed_forward(model, ids, whole), model(ids))
    same_length = ids[:, : int((ids != 0).sum(dim=1).min())]  # else the mask of the shorter one grows
    torch.testing.assert_close(mixed_forward(model, same_length, whole), model(same_length))


def test_a_sentence_without_words_has_finite_logits(folder: Path) -> None:
    assert bool(network(folder)(torch.zeros(2, LENGTH, dtype=torch.int64)).isfinite().all())


def test_shapes_go_through_without_weights(folder: Path) -> None:
    vocabulary = folder_tokenizer(str(folder)).vocabulary
    with torch.device("meta"):
        model = HuggingFace(vocabulary, LENGTH, 3, folder=str(folder))
    assert block_names(model) == (*HIDDEN, "pooled")
    check(model, Tokens(vocabulary, LENGTH).example(2), (3,))
    assert {name: tuple(weight.shape) for name, weight in model.named_parameters()} == {
        name: tuple(weight.shape) for name, weight in network(folder, 3).named_parameters()
    }


def test_every_weight_learns(folder: Path) -> None:
    model = network(folder)
    model(sentences(folder)).square().sum().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def weights(model: nn.Module, name: str) -> Tensor:
    return torch.cat([weight.flatten() for key, weight in model.state_dict().items() if key.startswith(name)])


def test_a_classifier_of_other_classes_is_drawn_by_the_seed_and_said_once(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    own = network(folder)
    assert caplog.messages == []
    one = network(folder, 3, seed=1)
    [line] = caplog.messages
    assert line.startswith(f"{folder} has no classifier of 3 classes: classifier.")
    assert line.endswith("are drawn by the seed")
    again, other = network(folder, 3, seed=1), network(folder, 3, seed=2)
    assert torch.equal(weights(one, "head"), weights(again, "head"))
    assert not torch.equal(weights(one, "head"), weights(other, "head"))
    for name in HIDDEN:
        assert torch.equal(weights(one, name), weights(own, name))


def test_an_encoder_without_classifier_is_the_same_encoder(folder: Path, tmp_path: Path) -> None:
    """As ``AutoModel`` saves it, whose weights have names without the family."""
    encoder = transformers.AutoModel.from_pretrained(folder, local_files_only=True)
    encoder.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    own, bare = network(folder), network(tmp_path)
    for name in HIDDEN:
        assert torch.equal(weights(bare, name), weights(own, name))
    assert not torch.equal(weights(bare, "head"), weights(own, "head"))


def test_weights_in_several_files_with_old_names_and_half_precision_are_read(bert: Path, copy: Path) -> None:
    state = {name: weight.half() for name, weight in load_file(copy / "model.safetensors").items()}
    old = {re.sub(r"LayerNorm\.weight$", "LayerNorm.gamma", name): weight for name, weight in state.items()}
    assert old.keys() != state.keys()
    (copy / "model.safetensors").unlink()
    shards: dict[str, dict[str, Tensor]] = {"a.safetensors": {}, "b.safetensors": {}}
    for number, (name, weight) in enumerate(old.items()):
        shards[[*shards][number % 2]][name] = weight
    for file, part in shards.items():
        save_file(part, copy / file)
    places = {name: file for file, part in shards.items() for name in part}
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    read = network(copy)
    assert {weight.dtype for weight in read.parameters()} == {torch.float32}
    for name in ("embedding", "layer2", "head"):
        torch.testing.assert_close(weights(read, name), weights(network(bert), name), rtol=1e-3, atol=1e-3)


def test_nothing_in_a_folder_is_run_and_no_network_is_asked(
    bert: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What transformers would follow: code, another network below an adapter, kernels, quantisation, other files."""
    code = f"import pathlib\npathlib.Path({str(copy / 'ran')!r}).touch()\nclass Own: ...\n"
    for name in ("modeling_own.py", "configuration_own.py", "tokenization_own.py"):
        (copy / name).write_text(code)
    own = {"AutoConfig": "configuration_own.Own", "AutoModelForSequenceClassification": "modeling_own.Own"}
    config = json.loads((copy / "config.json").read_text())
    config |= {"auto_map": own, "_attn_implementation": "somebody/kernels", "attn_implementation": "somebody/kernels"}
    config |= {"quantization_config": {"quant_method": "bitsandbytes"}, "transformers_weights": "other.bin"}
    config |= {"_name_or_path": "somebody/network", "fusion_config": {"patch_embeddings": True}}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "somebody/network"}))
    (copy / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": {"AutoTokenizer": ["tokenization_own.Own", None]}})
    )
    (copy / "pytorch_model.bin").write_bytes(b"no pickle")
    expected = network(bert)(sentences(bert))

    def refuse(*args: Any, **keys: Any) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert torch.equal(network(copy)(sentences(copy)), expected)
    assert not (copy / "ran").exists()


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (
        lambda folder: (folder / "config.json").unlink(),
        "folder must have config.json, as save_pretrained writes it",
    ),
    "damaged config": (
        lambda folder: (folder / "config.json").write_text("{"),
        "folder must have a config.json that can be read (",
    ),
    "another family": (
        lambda folder: change(folder, model_type="gpt2"),
        "folder must have a model_type of bert, distilbert, electra, roberta in config.json, not gpt2",
    ),
    "a decoder": (
        lambda folder: change(folder, is_decoder=True),
        "folder must have an encoder: is_decoder in config.json must be false",
    ),
    "relative places": (
        lambda folder: change(folder, position_embedding_type="relative_key"),
        'folder must have an encoder: position_embedding_type in config.json must be "absolute"',
    ),
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        "folder must have its weights as model.safetensors: it has none",
    ),
    "a pickle": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        "folder must have its weights as model.safetensors: pytorch_model.bin is a pickle, which can run code",
    ),
    "damaged weights": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 100),
        "folder must have weights that can be read: model.safetensors: ",
    ),
    "a missing part": (
        lambda folder: (
            (folder / "model.safetensors").unlink(),
            (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../a.safetensors"}}'),
        ),
        "folder must have weights that can be read: a.safetensors: ",
    ),
    "a missing layer": (
        lambda folder: change(folder, num_hidden_layers=3),
        "folder must have the weights that its config.json describes: bert.encoder.layer.2.attention.output.LayerNorm",
    ),
    "another width": (
        lambda folder: change(folder, intermediate_size=20),
        "folder must have the weights that its config.json describes: bert.encoder.layer.0.intermediate.dense.bias is",
    ),
}


def change(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_in_a_line(copy: Path, case: str) -> None:
    spoil, message = REFUSED[case]
    spoil(copy)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as refused:
        network(copy)
    assert "\n" not in str(refused.value)


def test_a_folder_that_is_not_there_is_refused() -> None:
    written = "folder must be one that save_pretrained wrote"
    with pytest.raises(ValueError, match=f"^{written}, and there is no such folder, got nowhere$"):
        HuggingFace(50, LENGTH, 2, folder="nowhere")
    with pytest.raises(ValueError, match=f"^{written}: dataset.tokenizer=<folder> sets both, got None$"):
        HuggingFace(50, LENGTH, 2)


def test_without_its_package_a_line_says_what_to_install(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    with pytest.raises(UserError) as refused:
        network(bert)
    line = "model=huggingface needs transformers, which is not installed: pip install 'vicinal[huggingface]'"
    assert str(refused.value) == line


def test_more_words_or_places_than_it_has_are_refused(folder: Path) -> None:
    most = folder_tokenizer(str(folder)).vocabulary
    HuggingFace(most, PLACES, 2, folder=str(folder))(sentences(folder, PLACES))
    with pytest.raises(
        ValueError,
        match=f"^vocabulary must be at most {most} for .*; dataset.tokenizer=<folder> reads .*, got {most + 1}$",
    ):
        HuggingFace(most + 1, LENGTH, 2, folder=str(folder))
    with pytest.raises(ValueError, match=f"^length must be at most {PLACES} for .*, got {PLACES + 1}$"):
        HuggingFace(most, PLACES + 1, 2, folder=str(folder))


def test_ids_of_another_tokenizer_are_refused(bert: Path, tmp_path: Path) -> None:
    model = network(bert)
    model.check_inputs(Tokens(50, LENGTH, str(bert)))
    write_tokenizer(tmp_path, byte_level=True)
    for other in (Tokens(50, LENGTH), Tokens(50, LENGTH, str(tmp_path))):
        with pytest.raises(
            ValueError, match=r"^folder must have the tokenizer that cuts the sentences: dataset\.token"
        ):
            model.check_inputs(other)


def test_the_fingerprint_is_of_sizes_and_weights(bert: Path, copy: Path) -> None:
    own = HuggingFace.fingerprint(str(bert))
    assert HuggingFace.fingerprint(str(copy)) == own
    change(copy, transformers_version="5.0.0", architectures=["BertModel"], id2label={"0": "no", "1": "yes"})
    assert HuggingFace.fingerprint(str(copy)) == own
    change(copy, hidden_dropout_prob=0.2)
    assert HuggingFace.fingerprint(str(copy)) != own
    change(copy, hidden_dropout_prob=0.1)
    assert HuggingFace.fingerprint(str(copy)) == own
    file = copy / "model.safetensors"
    stat, state = file.stat(), load_file(file)
    state["classifier.bias"] += 1
    save_file(state, file)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert HuggingFace.fingerprint(str(copy)) != own
