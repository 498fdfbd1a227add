"""What somebody who means harm could put into the folder of a run or a sweep, drawn at random."""

from __future__ import annotations

import io
import json
import os
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vicinal.runs import checkpoint
from vicinal.runs.files import encode_json, sha256
from vicinal.runs.folder import RunFolder

Harm = Callable[[RunFolder, Path, random.Random], None]
NOTHING: tuple[Any, ...] = (
    None,
    5,
    -1,
    1e308,
    10**40,
    True,
    "",
    "x",
    "\ud800",
    "a/../b",
    [],
    [[]],
    {},
    {"a": {"b": 1}},
)
"""Values that almost nothing has."""
TEXTS = ("NaN", "1e999", "9" * 5000, "[" * 200_000, '{"a":' * 5_000, '{"a": 1, "a": 2}', "", "\0", "nul")
"""That stand in for a value although no JSON writer would put them there."""


def seal(folder: RunFolder) -> None:
    """Let all checksums be right again, which is no secret."""
    names = [line.partition("  ")[2] for line in folder.sums.read_text().splitlines()]
    sums = [f"{sha256((folder.path / name).read_bytes())}  {name}\n" for name in names]
    folder.sums.write_text("".join(sums))


def sign(folder: RunFolder, result: dict[str, Any]) -> None:
    """Write a result with the right checksum of its own."""
    result.pop("checksum", None)
    digest = sha256(json.dumps(result).encode())
    folder.result.write_bytes(json.dumps({**result, "checksum": digest}).encode())
    seal(folder)


def places(content: Any) -> list[tuple[Any, Any]]:
    """Every container in ``content`` with every key in it."""
    if isinstance(content, dict):
        own = [(content, key) for key in content]
    elif isinstance(content, list):
        own = [(content, index) for index in range(len(content))]
    else:
        return []
    return own + [place for _, key in own for place in places(content[key])]


def mutate(content: Any, chance: random.Random) -> None:
    container, key = chance.choice(places(content))
    if chance.random() < 0.2:
        del container[key]
    else:
        container[key] = chance.choice(NOTHING)


def forged_result(folder: RunFolder, outside: Path, chance: random.Random) -> None:
    result = json.loads(folder.result.read_bytes())
    mutate(result, chance)
    sign(folder, result)


def result_of_another_shape(folder: RunFolder, outside: Path, chance: random.Random) -> None:
    folder.result.write_text(chance.choice([*TEXTS, "[]", "5", '"completed"', "null", "\ufeff{}"]))


def forged_text(folder: RunFolder, outside: Path, chance: random.Random) -> None:
    """One value of a JSON file in a way that a parser may choke on."""
    file = chance.choice([folder.result, folder.environment, folder.metrics])
    lines = file.read_text().splitlines(keepends=True)
    index = chance.randrange(len(lines))
    lines[index] = lines[index].rstrip(",\n") + chance.choice(TEXTS) + "\n"
    file.write_text("".join(lines))
    seal(folder)


def forged_json(folder: RunFolder, outside: Path, chance: random.Random) -> None:
    content = json.loads(folder.environment.read_bytes())
    mutate(content, chance)
    folder.environment.write_text(json.dumps(content))
    seal(folder)


def forged_rows(folder: RunFolder, outside: Path, chance: random.Random) -> None:
    rows = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    mutate(rows, chance)
    folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    seal(folder)


def forged_yaml(folder: RunFolder, outside: Path, chance: random.Random) -> None:
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 30))
    bombs = (
        f"l0: &l0 [x]\n{levels}",
        "a: " + "[" * 100_000,
        "a: !!python/object/apply:os.system ['true']\n",
        "<<: &a {b: *a}\n",
        "- 1\n- 2\n",
        "a: 1\n" * 100_000,
        "\0",
        "_choices_: 5\nmodel: 7\n",
        "defaults: [../../x]\n",
    )
    folder.config.write_text(chance.choice(bombs))
    seal(folder)


def forged_checkpoint(folder: RunFolder, outside: Path, chance: random.Random) -> None:
    content: Any = checkpoint.load(folder.checkpoint)
    kind = chance.randrange(4)
    if kind == 0:
        content = chance.choice([[1, 2], 5, "x", None, {}])
    elif kind == 1:
        mutate(content, chance)
    elif kind == 2:
        name = chance.choice(list(content["model"]))
        content["model"][name] = torch.zeros(chance.randrange(5), 3)
    else:
        content = {"run_id": content["run_id"], "training": chance.choice(NOTHING), "seconds": 1.0, "wandb_id": None}
        content |= {"made_with": {}, "changed": []}
    checkpoint.save(folder.checkpoint, content)
    seal(folder)


def bomb_checkpoint(folder: RunFolder, outside: Path, chance: random.Random) -> None:
    """An archive that unpacks to 4 GiB."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x/data.pkl", "w") as part:
        part.write(bytes(2**22))
    data = buffer.getvalue()[:-2] + (64).to_bytes(2, "little")
    folder.checkpoint.write_bytes(data + sha256(data).encode())
    seal(folder)


def bomb_predictions(folder: RunFolder, outside: Path, chance: random.Random) -> None:
    names = ("labels", "predicted", "confidence", "class_names")
    with np.load(folder.predictions) as there:
        arrays = dict(there)
    kind = chance.randrange(4)
    if kind == 0:
        arrays[chance.choice(names)] = np.array([chance.choice([10**9, -1, 0.5, True])] * 3)
    elif kind == 1:
        del arrays[chance.choice(names)]
    elif kind == 2:
        arrays[chance.choice(names)] = arrays["labels"][:3].astype(np.float64) * np.nan
    np.savez_compressed(folder.predictions, **arrays)
    if kind == 3:
        header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<i8', 'fortran_order': False, 'shape': (10000000000000,), }"
        with zipfile.ZipFile(folder.predictions, "w") as archive:
            archive.writestr("labels.npy", header.ljust(127) + b"\n")
    seal(folder)


def bomb_picture(folder: RunFolder, outside: Path, chance: random.Random) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    width, height = chance.choice([(60_000, 60_000), (10, 2**31 - 1), (0, 0), (500, 500)])
    captions = chance.choice([["a"] * 12_000, 5, "abc", [1, 2], [], {"a": 1}])
    note = json.dumps({"captions": captions, "height": chance.choice([1, 0, -5, 10**9, "x"]), "down": 1})
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
    text, body = chunk(b"tEXt", b"captions\0" + note.encode("latin-1")), chunk(b"IDAT", zlib.compress(bytes(10**6)))
    folder.mixed.write_bytes(b"\x89PNG\r\n\x1a\n" + head + text + body + chunk(b"IEND", b""))
    seal(folder)


def any_file(folder: RunFolder, chance: random.Random) -> Path:
    names = ("config.yaml", "environment.json", "metrics.jsonl", "result.json", "checkpoint.pt", "SHA256SUMS", ".lock")
    return folder.path / chance.choice([*names, "lock.json", "train.log", "predictions.npz", "mixed.png"])


def another_kind(folder: RunFolder, outside: Path, chance: random.Random) -> None:
    """A pipe, a device, a link or a folder in the place of a file."""
    file = any_file(folder, chance)
    file.unlink(missing_ok=True)
    kind = chance.randrange(7)
    if kind == 0:
        os.mkfifo(file)
    elif kind == 1:
        file.symlink_to("/dev/zero")
    elif kind == 2:
        file.symlink_to(outside / chance.choice(["secret.txt", "made.txt", "folder"]))
    elif kind == 3:
        file.symlink_to(file.name)
    elif kind == 4:
        os.link(outside / "secret.txt", file)
    elif kind == 5:
        (file / "inside").mkdir(parents=True)
    else:
        file.symlink_to(folder.path)


def holes(folder: RunFolder, outside: Path, chance: random.Random) -> None:
    """A terabyte of nothing."""
    file = any_file(folder, chance)
    file.touch()
    os.truncate(file, 2 ** chance.choice([31, 40, 43]))


def waiting_links(folder: RunFolder, outside: Path, chance: random.Random) -> None:
    """Links under the names that will be written."""
    names = [f"{name}.{os.getpid()}.partial" for name in ("config.yaml", "metrics.jsonl", "result.json", "SHA256SUMS")]
    for name in (*names, "wandb", "checkpoint.previous.pt", "mixed.png.damaged"):
        target = outside / ("folder" if name == "wandb" else "secret.txt")
        place = folder.path / name
        if not place.exists():
            place.symlink_to(target)
    if chance.random() < 0.5:
        folder.result.unlink()


def forged_sweep(folder: RunFolder, outside: Path, chance: random.Random) -> None:
    [file] = folder.path.parents[1].glob("sweeps/*/sweep.json")
    content = json.loads(file.read_bytes())
    if chance.random() < 0.3:
        content["runs"][0]["folder"] = chance.choice([str(outside), "../..", "/proc/self", "\0", "a" * 300])
    mutate(content, chance)  # last, since it may take the runs away
    text = json.dumps(content) if chance.random() < 0.8 else chance.choice(TEXTS)
    file.write_text(text)


def report_of_links(folder: RunFolder, outside: Path, chance: random.Random) -> None:
    [sweep] = folder.path.parents[1].glob("sweeps/*")
    if chance.random() < 0.3:
        (sweep / "report").symlink_to(outside / "folder")
        return
    (sweep / "report").mkdir()
    names = ("table.md", "table.tex", "summary.csv", "notes.txt", "report.html", "cells.png", "learning.svg")
    for name in names:
        (sweep / "report" / name).symlink_to(outside / "secret.txt")
    record = {"made from": 5, "files": ["../x"], "grids": [{}], "notes": [1]}
    (sweep / "report" / "report.json").write_bytes(encode_json(record))


HARMS: tuple[Harm, ...] = (
    *(forged_result, forged_result, forged_result, result_of_another_shape, forged_text, forged_json, forged_rows),
    *(forged_yaml, forged_checkpoint, forged_checkpoint, bomb_checkpoint, bomb_predictions, bomb_picture),
    *(another_kind, another_kind, another_kind, holes, waiting_links, forged_sweep, forged_sweep, report_of_links),
)
FORGED = (forged_result, forged_rows, forged_text)
"""Harms after which the numbers are those of who forged them, under a checksum that is right."""
