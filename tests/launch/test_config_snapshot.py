"""A sweep's copy of its configs: whole, named by its content, shared by processes, and never another one unnoticed."""

import threading
from pathlib import Path

import pytest

from vicinal.config.composition import Seen
from vicinal.errors import UserError
from vicinal.launch.config_snapshot import contents, digest, freeze


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/config.yaml").write_text("a: 1\n")
    (tmp_path / "conf/model/cnn.yaml").write_text("b: 2\n")
    (tmp_path / "sweep").mkdir()
    return tmp_path / "conf"


def seen(source: Path) -> dict[str, Seen]:
    return {name: Seen(source / name, content) for name, content in contents(source).items()}


def test_the_copy_holds_the_same_and_is_reused(source: Path, tmp_path: Path) -> None:
    frozen = freeze(seen(source), tmp_path / "sweep")
    assert contents(frozen) == {"config.yaml": b"a: 1\n", "model/cnn.yaml": b"b: 2\n"}
    assert frozen.name == f"conf-{digest(contents(source))}"
    assert frozen.stat().st_mode == source.stat().st_mode  # others may read it as they may the source
    inode = frozen.stat().st_ino
    assert freeze(seen(source), tmp_path / "sweep") == frozen
    assert frozen.stat().st_ino == inode
    assert list((tmp_path / "sweep").iterdir()) == [frozen]


def test_files_of_several_folders_are_one_copy(source: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("c: 3\n")
    files = {**seen(source), "mixup/mine.yaml": Seen(tmp_path / "mine.yaml", b"c: 3\n")}
    frozen = freeze(files, tmp_path / "sweep")
    assert contents(frozen) == {**contents(source), "mixup/mine.yaml": b"c: 3\n"}


def test_another_content_or_name_is_another_copy() -> None:
    files = [
        {"config.yaml": b"a: 1\n", "model/cnn.yaml": b"b: 2\n"},
        {"config.yaml": b"a: 2\n", "model/cnn.yaml": b"b: 2\n"},
        {"config.yaml": b"a: 2\n", "model/mlp.yaml": b"b: 2\n"},
        {"config.yaml": b"a: 2\n", "cnn.yaml": b"b: 2\n"},
        {"config.yaml": b"a: 2\nb", "cnn.yaml": b": 2\n"},  # the same bytes in all, cut elsewhere
    ]
    assert len(set(map(digest, files))) == 5


@pytest.mark.parametrize("gone", [False, True])
def test_an_edit_while_the_jobs_were_checked_is_noticed(source: Path, tmp_path: Path, gone: bool) -> None:
    before, file = seen(source), source / "model/cnn.yaml"
    file.unlink() if gone else file.write_text("a: 2\n")
    with pytest.raises(UserError) as caught:
        freeze(before, tmp_path / "sweep")
    assert str(caught.value) == f"{file} was edited while the sweep was checked: start it again"
    assert list((tmp_path / "sweep").iterdir()) == []


@pytest.mark.parametrize("edit", ["a: 2\n", None])
def test_an_edited_copy_is_not_used(source: Path, tmp_path: Path, edit: str | None) -> None:
    frozen = freeze(seen(source), tmp_path / "sweep")
    (frozen / "config.yaml").write_text(edit) if edit else (frozen / "more.yaml").touch()
    with pytest.raises(UserError, match=f"{frozen} is not the copy any more that it was: remove it"):
        freeze(seen(source), tmp_path / "sweep")


def test_several_at_once_make_one_copy(source: Path, tmp_path: Path) -> None:
    for index in range(50):
        (source / f"{index}.yaml").write_text("x" * index)
    files, found = seen(source), []
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        found.append(freeze(files, tmp_path / "sweep"))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tmp_path / f"sweep/conf-{digest(contents(source))}"] * 8
    assert list((tmp_path / "sweep").iterdir()) == found[:1]
    assert contents(found[0]) == contents(source)
