"""Files are compared with their checksums when they are new, and not again before they change."""

from pathlib import Path

import pytest

from vicinal.data.file_index import FileIndex


@pytest.fixture
def index(tmp_path: Path) -> FileIndex:
    (tmp_path / "a").write_bytes(b"0123456789")
    (tmp_path / "b").write_bytes(b"")
    made = FileIndex(tmp_path / "index.json", {name: tmp_path / name for name in "ab"}, 4, tmp_path)
    made.write({"rows": 3})
    return made


def replace(file: Path, content: bytes) -> None:
    file.unlink()
    file.write_bytes(content)


def test_the_note_is_returned(index: FileIndex) -> None:
    assert index.load() == {"rows": 3}


@pytest.mark.parametrize(("content", "why"), [
    (b"0123x56789", "wrong checksum in a, 4 bytes from 4"),
    (b"012345678", "a has 9 bytes instead of 10"),
    (b"0123456789x", "a has 11 bytes instead of 10"),
    (b"", "a has 0 bytes instead of 10"),
])  # fmt: skip
def test_a_changed_file_is_named(
    index: FileIndex, content: bytes, why: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    replace(tmp_path / "a", content)
    assert index.load() is None
    assert caplog.messages == [f"{tmp_path} is damaged and is made again ({why})"]


def test_a_file_that_is_not_there_is_no_damage(
    index: FileIndex, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "b").unlink()
    assert index.load() is None
    index.place.unlink()
    assert index.load() is None
    assert not caplog.messages


def test_a_copied_file_is_read_once(index: FileIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace(tmp_path / "a", b"0123456789")
    assert index.load() == {"rows": 3}
    monkeypatch.setattr(FileIndex, "_chunks", lambda *_: pytest.fail("read again"))
    assert index.load() == {"rows": 3}
    replace(tmp_path / "a", b"0123456789")
    with pytest.raises(pytest.fail.Exception):
        index.load()
