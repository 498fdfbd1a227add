"""Sentences with a class each, from tab-separated files.

Words become numbers by a vocabulary of the training part, or by the tokenizer of a pretrained network.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vicinal.data.contents import reads, saved_hashes, stamp, warn_of_shared
from vicinal.data.samples import Samples, Source
from vicinal.data.text_files import read_lines
from vicinal.data.tokenizer import FolderTokenizer, folder_tokenizer
from vicinal.errors import suggest

PADDING, UNKNOWN, FIRST_WORD = 0, 1, 2
"""Token ids: after the last word, of any word outside the vocabulary, and of the most frequent word."""
WORD = re.compile(r"\w+(?:'\w+)*|[!?]")
"""A word, with what an apostrophe joins to it, as in ``don't``; exclamation and question marks are words too."""
PARTS = {"train": ("train",), "test": ("test",), "val": ("val", "valid", "validation", "dev")}
"""Names of the files without their ending, by part; only ``val`` may be missing."""
ENDINGS = (".tsv", ".tsv.gz")

Sentences = list[tuple[str, str]]
"""The text and the label of each line."""


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, as :data:`WORD` cuts them."""
    return WORD.findall(text.lower())


class Words:
    """Numbers of the most frequent words of some texts, those of which occur ``min_count`` times at least.

    Raises ValueError: there is none.
    """

    vocabulary = None  # as the config says

    def __init__(self, texts: Sequence[str], vocabulary: int, min_count: int) -> None:
        counts = Counter(word for text in texts for word in words(text))
        frequent = sorted(
            (word for word in counts if counts[word] >= min_count), key=lambda word: (-counts[word], word)
        )
        if not frequent:
            most = max(counts.values())
            raise ValueError(f"min_count must be at most {most}, that of the most frequent word, got {min_count}")
        self._ids = {word: number for number, word in enumerate(frequent[: vocabulary - FIRST_WORD], FIRST_WORD)}

    def ids(self, texts: Sequence[str], length: int) -> Tensor:
        """Return the ids of sentences, int64 (N, length), with 0 after the last."""
        ids = torch.full((len(texts), length), PADDING, dtype=torch.int64)
        for row, text in zip(ids, texts, strict=True):
            kept = words(text)[:length]
            row[: len(kept)] = torch.tensor([self._ids.get(word, UNKNOWN) for word in kept])
        return ids


def _parts(folder: str, val_size: int | None) -> dict[str, Path]:
    """Return {part: file}. Raises ValueError: a part has no file, or several."""
    root = Path(folder).expanduser()
    found: dict[str, Path] = {}
    for part, names in PARTS.items():
        if part == "val" and val_size is not None:
            continue
        files = [file for name in names for ending in ENDINGS if (file := root / f"{name}{ending}").is_file()]
        if len(files) > 1:
            both = f"{files[0].name} and {files[1].name}"
            raise ValueError(f"folder must have one file of {part}, not {both}, got {root}")
        if not files and part != "val":
            raise ValueError(f"folder must have {part}.tsv or {part}.tsv.gz, and there is none, got {root}")
        if files:
            found[part] = files[0]
    return found


def _fingerprint(
    folder: str, val_size: int | None, cache_dir: str, tokenizer: str | None = None, **_: Any
) -> dict[str, str]:
    """Return what replaces values in the identity of a run: hashes of files, and of keys that a tokenizer idles."""
    hashes = saved_hashes(Path(cache_dir), str(Path(folder).expanduser().absolute()))
    content = [f"{part} {hashes.sha256(str(file.absolute()))}" for part, file in _parts(folder, val_size).items()]
    of_data = {"folder": hashlib.sha256("\n".join(content).encode()).hexdigest()}
    if tokenizer is None:
        return of_data
    return {**of_data, "tokenizer": folder_tokenizer(tokenizer).fingerprint, "vocabulary": "", "min_count": ""}


def _preview(
    folder: str,
    vocabulary: int,
    length: int,
    val_size: int | None,
    text: str,
    label: str,
    columns: Sequence[str] | None,
    min_count: int,
    tokenizer: str | None = None,
    **_: Any,
) -> Source:
    if min_count < 1:
        raise ValueError(f"min_count must be an integer >= 1, got {min_count}")
    stamps = tuple((part, file, *stamp(file.stat())) for part, file in _parts(folder, val_size).items())
    cut = None if tokenizer is None else folder_tokenizer(tokenizer)
    return _load(stamps, vocabulary, length, text, label, tuple(columns or ()), min_count, cut)


@reads(
    lambda folder, val_size, **_: [*_parts(folder, val_size).values()],
    preview=_preview,
    fingerprint=_fingerprint,
    packages=lambda tokenizer=None, **_: () if tokenizer is None else ("tokenizers",),
)
def tsv(
    folder: str,
    vocabulary: int,
    length: int,
    cache_dir: str,
    val_size: int | None,
    text: str = "text",
    label: str = "label",
    columns: list[str] | None = None,
    min_count: int = 2,
    tokenizer: str | None = None,
) -> Source:
    """Load ``train.tsv``, ``test.tsv`` and perhaps ``val.tsv``, plain or ``.gz``, as token ids (N, length) int64.

    One sentence per line, with tabs between the columns and no quoting. Classes are the labels of the training part,
    without spaces around them: in the order of their numbers, or else of their texts. A sentence is cut after
    ``length`` words and padded with 0. Sentences that are in two parts are counted in a warning.

    Raises ValueError: a file or a column is not there or has the name of another, a sentence has no word, or a label is
    empty or not one of the classes.

    Args:
        folder: of the files; validation may also be called ``valid``, ``validation`` or ``dev``.
        vocabulary: token ids, with 0 for padding and 1 for unknown words; so at most ``vocabulary`` - 2 words are
            known, the most frequent ones. A tokenizer has its own.
        length: words of a sentence, or tokens.
        cache_dir: for hashes of the files.
        val_size: None to validate on the file; with a number it is not read, and the caller cuts so many from train.
        text: column of the sentences.
        label: column of the classes.
        columns: names of all columns, for files whose first line is a sentence; None if it has the names.
        min_count: >= 1, times that a word has to occur in the training part to be known.
        tokenizer: folder of a pretrained network, whose tokens take the place of words; None: words.
    """
    return _preview(folder, vocabulary, length, val_size, text, label, columns, min_count, tokenizer)


@lru_cache(maxsize=4)
def _load(
    stamps: tuple[tuple[Any, ...], ...],
    vocabulary: int,
    length: int,
    text: str,
    label: str,
    columns: tuple[str, ...],
    min_count: int,
    tokenizer: FolderTokenizer | None,
) -> Source:
    cut: Callable[[str], Sequence[str]] = words if tokenizer is None else str.split
    parts = {part: _sentences(file, text, label, columns, cut) for part, file, *_ in stamps}
    shown = {part: [" ".join(cut(found)) for found, _ in sentences] for part, sentences in parts.items()}
    warn_of_shared(stamps[0][1].parent, "sentences", shown, "word by word")
    known = sorted({name for _, name in parts["train"]}, key=lambda name: (not name.isdecimal(), _number(name), name))
    if len(known) < 2:
        raise ValueError(f"label must have two classes or more in train, got {known[0]} alone")
    texts = {part: [sentence for sentence, _ in found] for part, found in parts.items()}
    cutter = tokenizer or Words(texts["train"], vocabulary, min_count)
    samples = {
        part: Samples(cutter.ids(texts[part], length), _labels(part, found, known)) for part, found in parts.items()
    }
    return Source(samples["train"], samples["test"], tuple(known), samples.get("val"), vocabulary=cutter.vocabulary)


def _number(name: str) -> int:
    return int(name) if name.isdecimal() else 0


def _sentences(
    file: Path, text: str, label: str, columns: tuple[str, ...], cut: Callable[[str], Sequence[str]]
) -> Sentences:
    """Return the sentences of a file, each of which can be cut into something. Raises ValueError."""
    try:
        rows = [line.split("\t") for line in read_lines(file)]
    except (OSError, EOFError, ValueError) as error:  # damaged, or no UTF-8
        raise ValueError(f"folder must have files that can be read, and {file.name} cannot ({error})") from error
    names, first = (columns, 1) if columns else (tuple(map(str.strip, rows.pop(0))) if rows else (), 2)
    if len({*names}) != len(names):
        raise ValueError(f"columns must have different names, and those of {file.name} are {', '.join(names)}")
    for key, name in (("text", text), ("label", label)):
        if name not in names:
            raise ValueError(f"{key} must be a column of {file.name}: no {name}; {suggest(name, names)}")
    at, of = names.index(text), names.index(label)
    found: Sentences = []
    for number, row in enumerate(rows, first):
        if len(row) != len(names):
            there = f"there are {len(row)} columns in line {number}, and {len(names)} names"
            fault = there if any(row) else f"line {number} is empty"
            raise ValueError(f"columns must fit the lines of {file.name}: {fault}")
        if not cut(row[at]):
            raise ValueError(f"text must have a word in every line: line {number} of {file.name} has none")
        if not (name := row[of].strip()):
            raise ValueError(f"label must have a text in every line: line {number} of {file.name} has none")
        found.append((row[at], name))
    if not found:
        raise ValueError(f"folder must have files with sentences, and {file.name} has none")
    return found


def _labels(part: str, found: Sentences, known: Sequence[str]) -> Tensor:
    classes = {name: place for place, name in enumerate(known)}
    for _, name in found:
        if name not in classes:
            raise ValueError(f"label must have the classes of train: {name} in {part} is none of {', '.join(known)}")
    return torch.tensor([classes[name] for _, name in found])
