"""Sequence classifiers of transformers with weights from a local folder. Nothing in it is run, and no network asked."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import Any

import torch
from torch import Tensor, nn

from vicinal.models.pretrained import PretrainedFolder, read_folder
from vicinal.models.text import present
from vicinal.utils.file_hash import file_hash

log = logging.getLogger(__name__)


class Embedding(nn.Module):
    """The folder's own vectors of tokens, (B, L) to (B, L, width); zero at padding. Its ids begin at 1 here."""

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.vectors = base.embeddings
        self.project = getattr(base, "embeddings_project", nn.Identity())  # of ELECTRA

    def forward(self, ids: Tensor) -> Tensor:
        x: Tensor = self.project(self.vectors((ids - 1).clamp(min=0)))
        return x * (ids != 0)[..., None]


class Layer(nn.Module):
    """One of the folder's own layers, with attention to the words alone; zero at padding, as what comes in."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        there = present(x)
        seen: Tensor = self.layer(x, there[:, None, None])
        return seen * there[..., None]


class First(nn.Module):
    """The vector of the first token, (B, L, width) to (B, width)."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]


class HuggingFace(nn.Module):
    """BERT, DistilBERT, ELECTRA or RoBERTa; blocks ``embedding``, ``layer1``, ``layer2``, ... and ``pooled``.

    Its parts are those of transformers, one after the other, and so are its logits. A classifier that the folder lacks,
    or has for another number of classes, is drawn from torch's default generator.

    Args:
        vocabulary: number of token ids, with 0 for padding.
        length: most tokens of a sentence.
        classes: of every network.
        folder: with config.json, tokenizer.json and safetensors, as ``save_pretrained`` writes them.
    """

    def __init__(self, vocabulary: int, length: int, classes: int, *, folder: str | None = None) -> None:
        super().__init__()
        self.source = source = read_folder(folder)
        network = _network(source, classes)
        base, config = network.base_model, network.config
        if vocabulary > config.vocab_size + 1:
            own = f"{config.vocab_size + 1} for {folder}; dataset.tokenizer=<folder> reads with the tokenizer in it"
            raise ValueError(f"vocabulary must be at most {own}, got {vocabulary}")
        before = config.pad_token_id + 1 if config.model_type == "roberta" else 0  # places that no word has
        if length > config.max_position_embeddings - before:
            most = config.max_position_embeddings - before
            raise ValueError(f"length must be at most {most} for {folder}, got {length}")
        layers = getattr(base, "encoder", None) or base.transformer
        self.layers = tuple(f"layer{number}" for number, _ in enumerate(layers.layer, 1))
        self.blocks = ("embedding", *self.layers, "pooled")
        self.embedding = Embedding(base)
        for name, layer in zip(self.layers, layers.layer, strict=True):
            self.add_module(name, Layer(layer))
        self.pooled = First()
        self.head = _head(network)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)
        for name in self.layers:
            x = getattr(self, name)(x)
        return self.head(self.pooled(x))  # type: ignore[no-any-return]

    def check_inputs(self, inputs: Any) -> None:
        """Refuse ids of another tokenizer, which mean other words. Raises ValueError."""
        if not self.source.has_tokenizer_of(getattr(inputs, "tokenizer", None)):
            allowed = "must have the tokenizer that cuts the sentences: dataset.tokenizer=<folder> sets both"
            raise ValueError(f"folder {allowed}, got {self.source.path}")

    @staticmethod
    def packages(**_: Any) -> tuple[str, ...]:
        """Return the packages whose versions decide its numbers."""
        return ("transformers",)

    @staticmethod
    def fingerprint(folder: str | None, **_: Any) -> dict[str, str]:
        """Return the hash of sizes and weights that replaces the folder's name in the identity of a run."""
        source = read_folder(folder)
        content = json.dumps([source.family, source.sizes, [*map(file_hash, source.weights)]], sort_keys=True)
        return {"folder": hashlib.sha256(content.encode()).hexdigest()}


def _network(source: PretrainedFolder, classes: int) -> Any:
    """Return the network of transformers; with no weights on the meta device. Raises ValueError: some are missing."""
    import transformers

    config = getattr(transformers, f"{source.family}Config")(**source.sizes, num_labels=classes)
    config._attn_implementation = "sdpa"
    family = getattr(transformers, f"{source.family}ForSequenceClassification")
    if torch.get_default_device().type == "meta":
        return family(config)
    transformers.utils.logging.set_verbosity_error()  # what it would say is said below
    transformers.utils.logging.disable_progress_bar()
    network, report = family.from_pretrained(
        None,  # without a name there is nothing to look up; the library fits names of older weights
        config=config,
        state_dict=source.state(),
        attn_implementation="sdpa",
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    new = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    encoder = [name for name in new if name.startswith(f"{network.base_model_prefix}.") and ".pooler." not in name]
    if encoder:
        allowed = f"must have the weights that its config.json describes: {encoder[0]} is missing, or of another shape"
        raise ValueError(f"folder {allowed}, got {source.path}")
    if new:
        log.info("%s has no classifier of %d classes: %s are drawn by the seed", source.path, classes, ", ".join(new))
    return network.train()


def _head(network: Any) -> nn.Sequential:
    """Return what comes after the first token. RoBERTa, ELECTRA and the pooler of BERT take it from a sequence."""
    if hasattr(network, "pre_classifier"):  # DistilBERT
        return nn.Sequential(network.pre_classifier, nn.ReLU(), network.dropout, network.classifier)
    pooler = getattr(network.base_model, "pooler", None)
    before = [] if pooler is None else [pooler, network.dropout]
    return nn.Sequential(nn.Unflatten(1, (1, -1)), *before, network.classifier)
