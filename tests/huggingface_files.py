"""Tiny pretrained networks with random weights, in folders as ``save_pretrained`` of transformers writes them."""

from __future__ import annotations

import re
from pathlib import Path
from string import ascii_lowercase, digits
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

transformers.utils.logging.disable_progress_bar()  # to stderr, of which other tests look at each line

TEXTS = ["the cat saw a dog", "who saw the bird", "a bird, the cats and seven dogs", "words of a sentence", "F0 F1!"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", {"hidden_size": 16, "intermediate_size": 24}),
    "electra": ("Electra", {"embedding_size": 8, "hidden_size": 16, "intermediate_size": 24}),
    "roberta": ("Roberta", {"hidden_size": 16, "intermediate_size": 24, "pad_token_id": 1, "type_vocab_size": 1}),
    "distilbert": ("DistilBert", {"dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 2}),
}
"""The names of the classes, and sizes."""
PLACES = 64


def write_folder(folder: Path, family: str = "bert", classes: int = 2, seed: int = 0, **sizes: Any) -> Path:
    """Write a sequence classifier and its tokenizer."""
    name, own = FAMILIES[family]
    vocabulary = write_tokenizer(folder, byte_level=family == "roberta")
    layers = {} if family == "distilbert" else {"num_hidden_layers": 2, "num_attention_heads": 2}
    places = PLACES + (2 if family == "roberta" else 0)
    common = {"vocab_size": vocabulary, "max_position_embeddings": places, "num_labels": classes}
    config = getattr(transformers, f"{name}Config")(**{**own, **layers, **common, **sizes})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = getattr(transformers, f"{name}ForSequenceClassification")(config)
        for weight in network.parameters():  # new biases are 0, and vectors too small to tell words apart
            weight.data += 0.3 * torch.randn(weight.shape)
    network.save_pretrained(folder)
    return folder


def write_tokenizer(folder: Path, byte_level: bool = False) -> int:
    """Write ``tokenizer.json``, and return how many ids it has. Trained ones would differ from run to run."""
    folder.mkdir(parents=True, exist_ok=True)
    words = sorted({word for text in TEXTS for word in re.findall(r"[a-z]+", text.lower())} - {"cats"})
    letters = sorted(set(ascii_lowercase + digits + ",!"))
    if byte_level:
        words = [f"Ġ{word}" for word in words]
        merges = list(dict.fromkeys((word[:place], word[place]) for word in words for place in range(1, len(word))))
        tokens = [*ROBERTA_SPECIAL, *letters, *sorted({*pre_tokenizers.ByteLevel.alphabet()} - {*letters})]
        ids = {token: number for number, token in enumerate([*tokens, *map("".join, merges)])}
        tokenizer = Tokenizer(models.BPE(ids, merges, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    else:
        tokens = [
            *SPECIAL,
            *letters,
            *(f"##{letter}" for letter in letters),
            *(word for word in words if len(word) > 1),
        ]
        tokenizer = Tokenizer(
            models.WordPiece({token: number for number, token in enumerate(tokens)}, unk_token="[UNK]")
        )
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(ROBERTA_SPECIAL if byte_level else SPECIAL)
    tokenizer.save(str(folder / "tokenizer.json"))
    return int(tokenizer.get_vocab_size())


def encoded(folder: Path, texts: list[str], length: int) -> dict[str, torch.Tensor]:
    """Return ids and mask as transformers has them."""
    padding = "<pad>" if '"<pad>"' in (folder / "tokenizer.json").read_text() else "[PAD]"
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token=padding)
    found = tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    return {name: found[name] for name in ("input_ids", "attention_mask")}
