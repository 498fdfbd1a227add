"""Sets of short clips of speech, in folders of WAV files."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from vicinal.data.contents import DIGITS, once, reads, saved_hashes, stamp, warn_of_shared
from vicinal.data.image_tree import FAIL, ImageTree, log_left_out
from vicinal.data.samples import Samples, Source
from vicinal.data.text_files import read_list
from vicinal.data.wav import read_clips
from vicinal.errors import suggest

OFFICIAL_TEST = 5  # recordings 0 to 4 of each digit of each speaker
FSDD = "https://github.com/Jakobovski/free-spoken-digit-dataset"
LISTS = {"test": "testing_list.txt", "val": "validation_list.txt"}


@dataclass(frozen=True)
class Clips:
    """Files of a data set: {part: (path, label) of each}."""

    class_names: tuple[str, ...]
    parts: Mapping[str, Sequence[tuple[str, int]]]

    def undecoded(self) -> Source:
        """Return the labels, with clips of no samples (N, 1, 0)."""
        return self._source({part: torch.empty(len(files), 1, 0) for part, files in self.parts.items()})

    def decoded(self, rate: int, length: int) -> Source:
        """Return the clips, (N, 1, length) int16. Raises as :func:`read_wav` does."""
        paths = {part: [path for path, _ in files] for part, files in self.parts.items()}
        stamps = tuple((path, *stamp(os.stat(path))) for part in paths.values() for path in part)  # noqa: PTH116
        clips = torch.split(_read(stamps, rate, length), [len(part) for part in paths.values()])
        return self._source(dict(zip(paths, clips, strict=True)))

    def _source(self, clips: Mapping[str, torch.Tensor]) -> Source:
        labels = {part: torch.tensor([label for _, label in files]) for part, files in self.parts.items()}
        samples = {part: Samples(clips[part].to(torch.int16), labels[part]) for part in self.parts}
        return Source(samples["train"], samples["test"], self.class_names, samples.get("val"))


@lru_cache(maxsize=1)  # the jobs of a sweep
def _read(stamps: Sequence[tuple[Any, ...]], rate: int, length: int) -> torch.Tensor:
    return read_clips([path for path, *_ in stamps], rate, length)


def _recordings(root: str) -> Path:
    return Path(root).expanduser().absolute() / "fsdd" / "recordings"


def _fsdd(root: str, speaker: str | None = None, **_: Any) -> Clips:
    folder = _recordings(root)
    if not folder.is_dir():
        raise ValueError(f"root: no folder {folder}; git clone {FSDD} {folder.parent}")
    found = []
    for path in _wavs(folder):
        words = re.fullmatch(r"(\d)_(\w+)_(\d+)", path.stem)
        if words is None:
            raise ValueError(f"root: {path} must be named <digit>_<speaker>_<number>.wav")
        found.append((str(path), int(words[1]), words[2], int(words[3])))
    speakers = sorted({name for _, _, name, _ in found})
    if speaker is not None and speaker not in speakers:
        raise ValueError(f"speaker must be null or one who is there; {suggest(speaker, speakers)}, got {speaker}")
    parts: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    for file, digit, name, number in found:
        tests = number < OFFICIAL_TEST if speaker is None else name == speaker
        parts["test" if tests else "train"].append((file, digit))
    clips = Clips(tuple("0123456789"), parts)
    _check_classes(clips, folder)
    return clips


def _check_classes(clips: Clips, folder: Path) -> None:
    """Refuse a part without clips of a class. Raises ValueError."""
    for part, files in clips.parts.items():
        known = {label for _, label in files}
        if missing := [name for label, name in enumerate(clips.class_names) if label not in known]:
            raise ValueError(f"root: {folder} must have clips of every class for {part}, and has none of {missing[0]}")


@once  # for the jobs of a sweep
def _warn_of_equal(root: str, speaker: str | None) -> None:
    parts = _fsdd(root, speaker).parts
    contents = {
        part: [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file, _ in files]
        for part, files in parts.items()
    }
    warn_of_shared(_recordings(root), "clips", contents)


@reads(lambda root, **_: [_recordings(root)], preview=lambda **arguments: _fsdd(**arguments).undecoded())
def fsdd(root: str, rate: int, length: int, speaker: str | None = None) -> Source:
    """Load the Free Spoken Digit Dataset (Jackson et al.): 3000 clips of ten digits by six speakers, at 8 kHz.

    ``<root>/fsdd/recordings/<digit>_<speaker>_<number>.wav``. Raises ValueError: a file is missing, of another name or
    rate, or damaged.

    Args:
        root: folder with ``fsdd/``.
        rate: samples per second of the files.
        length: samples per clip; see :func:`read_clips`.
        speaker: whose clips are the test set, and are not trained on; None for the official one, recordings 0 to 4 of
            all speakers, who are trained on too.
    """
    _warn_of_equal(root, speaker)
    return _fsdd(root, speaker).decoded(rate, length)


def _commands(folder: str, val_size: int | None, words: list[str] | None = None, **_: Any) -> Clips:
    top = Path(folder).expanduser().absolute()
    if not top.is_dir():
        raise ValueError(f"root: no folder {top}; unpack the Speech Commands there, <word>/*.wav and the two lists")
    there = sorted(path.name for path in top.iterdir() if path.is_dir() and path.name[0] not in "._")
    names = tuple(there if words is None else words)
    for name in names:
        if name not in there:
            raise ValueError(f"words must be folders of {top}; {suggest(name, there)}, got {name}")
    if len({*names}) != len(names) or len(names) < 2:
        raise ValueError(f"words must be two different ones or more, and <word>/*.wav below {top}, got {[*names]}")
    listed = {part: _listed(top, part, there) for part in LISTS}
    if both := [line for line in listed["test"] if line in listed["val"]]:
        raise ValueError(f"root: {top / both[0]} is in {LISTS['test']} and in {LISTS['val']}, and must be in one")
    parts: dict[str, list[tuple[str, int]]] = {"train": [], "test": [], "val": []}
    for label, name in enumerate(names):
        files = {f"{name}/{path.name}" for path in _wavs(top / name)}
        for part, lines in listed.items():
            if missing := [line for line in lines if line.startswith(f"{name}/") and line not in files]:
                raise ValueError(f"root: {top / missing[0]} is in {LISTS[part]} and must be there")
        for file in sorted(files):
            part = next((part for part, lines in listed.items() if file in lines), "train")
            parts[part].append((str(top / file), label))
    if val_size is not None:  # the clips of the list are still not trained on
        del parts["val"]
    clips = Clips(names, parts)
    _check_classes(clips, top)
    return clips


def _wavs(folder: Path) -> list[Path]:
    """Return the WAV files of a folder, sorted, without hidden ones."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".wav" and path.name[0] != ".")


def _listed(top: Path, part: str, words: Sequence[str]) -> dict[str, None]:
    """Return the clips of a list. Raises ValueError: a line is none, and the clip that is meant would be trained on."""
    lines = read_list("root", top / LISTS[part])
    for line in lines:
        word, _, clip = line.partition("/")
        if word not in words or "/" in clip or not clip.lower().endswith(".wav"):
            wanted = "<word>/<clip>.wav in every line, of a word that is there"
            raise ValueError(f"root: {top / LISTS[part]} must have {wanted}, not {line[:100]!r}")
    return dict.fromkeys(lines)


def _fingerprint(folder: str, cache_dir: str, **arguments: Any) -> dict[str, str]:
    top = Path(folder).expanduser().absolute()
    hashes, digest = saved_hashes(Path(cache_dir), str(top)), hashlib.sha256()
    contents: dict[str, list[str]] = {}
    for part, files in _commands(folder, **arguments).parts.items():
        contents[part] = [hashes.sha256(path) for path, _ in files]
        for (path, label), content in zip(files, contents[part], strict=True):
            digest.update(repr((part, os.path.relpath(path, top), label, content)).encode())
    warn_of_shared(top, "clips", contents)
    return {"folder": digest.hexdigest()[:DIGITS]}


@reads(preview=lambda **arguments: _commands(**arguments).undecoded(), fingerprint=_fingerprint)
def speech_commands(
    folder: str, rate: int, length: int, cache_dir: str, val_size: int | None, words: list[str] | None = None
) -> Source:
    """Load Google's Speech Commands (Warden, arXiv 1804.03209): a folder per word, and lists of the other parts.

    ``<folder>/<word>/<speaker>_nohash_<number>.wav``, with ``testing_list.txt`` and ``validation_list.txt``; folders
    with a name that begins with ``_``, such as the noise, are left out. Raises ValueError: a file or a word is missing,
    of another rate, or damaged.

    Args:
        folder: that of the words.
        rate: samples per second of the files.
        length: samples per clip; see :func:`read_clips`.
        cache_dir: for hashes of the files.
        val_size: None to validate on the clips of the list; with a number they are not used.
        words: which are the classes, in this order; None for all.
    """
    return _commands(folder, val_size, words).decoded(rate, length)


@once
def _tree(folder: str, val_size: int | None) -> ImageTree:
    return ImageTree(folder, val_size, FAIL, (".wav",), "clips")


def _of_tree(folder: str, val_size: int | None, **_: Any) -> Clips:
    tree = _tree(folder, val_size)
    return Clips(tree.class_names, tree.samples)


@reads(
    preview=lambda **arguments: _of_tree(**arguments).undecoded(),
    fingerprint=lambda folder, val_size, cache_dir, **_: {
        "folder": _tree(folder, val_size).fingerprint(Path(cache_dir))
    },
)
def wavfolder(folder: str, rate: int, length: int, cache_dir: str, val_size: int | None) -> Source:
    """Load any tree of WAV files, ``train/<class>/*.wav``, ``test/<class>/*.wav`` and perhaps ``val/<class>/*.wav``.

    Raises ValueError: as :class:`ImageTree`; a file is of another rate, or damaged.

    Args:
        folder: root of the tree.
        rate: samples per second of the files.
        length: samples per clip; see :func:`read_clips`.
        cache_dir: for hashes of the files.
        val_size: None to validate on val/; with a number it is not read.
    """
    log_left_out(_tree(folder, val_size), val_size)
    return _of_tree(folder, val_size).decoded(rate, length)
