"""JSON with a checksum: what was written is read, and no other byte is."""

import json
from pathlib import Path
from zlib import crc32

import pytest

from vicinal.utils.checked_json import read_checked, write_checked

CONTENT = {"ü": [1, 2.5, None], "b": "a, b"}


def test_it_is_json_of_the_content_and_its_checksum(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_checked(file, CONTENT)
    assert json.loads(file.read_bytes()) == [CONTENT, crc32(json.dumps(CONTENT).encode())]
    assert read_checked(file) == CONTENT
    assert list(tmp_path.iterdir()) == [file]


def test_every_changed_bit_is_found(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_checked(file, CONTENT)
    whole = file.read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            with pytest.raises(ValueError, match=r"^wrong checksum in a\.json$"):
                read_checked(file)


@pytest.mark.parametrize("length", [0, 1, 5, -2])
def test_a_half_file_is_refused(tmp_path: Path, length: int) -> None:
    file = tmp_path / "a.json"
    write_checked(file, CONTENT)
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(ValueError, match="wrong checksum"):
        read_checked(file)


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        write_checked(tmp_path / "nowhere/a.json", CONTENT)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_checked(tmp_path / "folder", CONTENT)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
