"""Token ids of a pretrained network, by the ``tokenizer.json`` in its folder. Nothing in the folder is run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from vicinal.data.contents import stamp
from vicinal.errors import UserError

FILE = "tokenizer.json"


class FolderTokenizer:
    """Cut sentences as a pretrained network was taught, with what it puts at their ends, such as [CLS] and [SEP].

    Ids are those of the folder plus one, since 0 is padding.

    Attributes:
        vocabulary: number of token ids.
        fingerprint: hash of the file.
    """

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer

        try:
            content = file.read_bytes()
            self._tokenizer = Tokenizer.from_str(content.decode())
        except Exception as error:  # the library raises Exception itself
            raise ValueError(f"tokenizer must have a {FILE} that can be read ({error}), got {file.parent}") from error
        self._tokenizer.no_padding()
        self.vocabulary = max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 2
        self.fingerprint = hashlib.sha256(content).hexdigest()

    def ids(self, texts: Sequence[str], length: int) -> Tensor:
        """Return the ids of sentences, int64 (N, length), with 0 after the last. Raises ValueError: it is too short."""
        ends = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        if length <= ends:
            raise ValueError(f"length must be at least {ends + 1} with this tokenizer, got {length}")
        self._tokenizer.enable_truncation(length)
        ids = torch.zeros(len(texts), length, dtype=torch.int64)
        for row, text in zip(ids, texts, strict=True):  # one by one: for a batch it starts threads, which no fork likes
            found = torch.tensor(self._tokenizer.encode(text).ids)
            row[: len(found)] = found + 1
        return ids


def folder_tokenizer(folder: str) -> FolderTokenizer:
    """Return the tokenizer in a folder, read once. Raises ValueError, and UserError: its package is not installed."""
    if find_spec("tokenizers") is None:
        raise UserError(
            "dataset.tokenizer needs tokenizers, which is not installed: pip install 'vicinal[huggingface]'"
        )
    file = Path(folder).expanduser() / FILE
    if not file.is_file():
        raise ValueError(f"tokenizer must be a folder with {FILE}, as save_pretrained writes it, got {folder}")
    return _read(file, *stamp(file.stat()))


@lru_cache(maxsize=2)
def _read(file: Path, *_stamp: int) -> FolderTokenizer:
    return FolderTokenizer(file)
