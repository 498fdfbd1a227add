"""A sweep's copy of ``conf/``: whole, named by its content, shared by processes, and never another one unnoticed."""

import threading
from pathlib import Path

import pytest

from vicinal.config import CONF
from vicinal.errors import UserError
from vicinal.sweeps.frozen import digest, freeze


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/config.yaml").write_text("a: 1\n")
    (tmp_path / "conf/model/cnn.yaml").write_text("b: 2\n")
    (tmp_path / "sweep").mkdir()
    return tmp_path / "conf"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_copy_holds_the_same_and_is_reused(tmp_path: Path) -> None:
    frozen = freeze(CONF, tmp_path, digest(CONF))
    assert files(frozen) == files(CONF)
    assert frozen.name == f"conf-{digest(CONF)}"
    assert frozen.stat().st_mode == CONF.stat().st_mode
    inode = frozen.stat().st_ino
    assert freeze(CONF, tmp_path, digest(CONF)) == frozen
    assert frozen.stat().st_ino == inode
    assert list(tmp_path.iterdir()) == [frozen]


def test_another_content_or_name_is_another_copy(source: Path, tmp_path: Path) -> None:
    digests = {digest(source)}
    (source / "config.yaml").write_text("a: 2\n")
    digests.add(digest(source))
    (source / "model/cnn.yaml").rename(source / "model/mlp.yaml")
    digests.add(digest(source))
    (source / "model/mlp.yaml").rename(source / "cnn.yaml")
    digests.add(digest(source))
    (source / "config.yaml").write_text("a: 2\nb")  # the same bytes in all, cut elsewhere
    (source / "cnn.yaml").write_text(": 2\n")
    digests.add(digest(source))
    assert len(digests) == 5


def test_an_edit_while_the_jobs_were_checked_is_noticed(source: Path, tmp_path: Path) -> None:
    seen = digest(source)
    (source / "config.yaml").write_text("a: 2\n")
    with pytest.raises(UserError, match="was edited while the sweep was checked: start it again"):
        freeze(source, tmp_path / "sweep", seen)
    assert list((tmp_path / "sweep").iterdir()) == []


def test_an_edited_copy_is_not_used(source: Path, tmp_path: Path) -> None:
    frozen = freeze(source, tmp_path / "sweep", digest(source))
    (frozen / "config.yaml").write_text("a: 2\n")
    with pytest.raises(UserError, match=f"{frozen} is not the copy of .* any more that it was: remove it"):
        freeze(source, tmp_path / "sweep", digest(source))


def test_several_at_once_make_one_copy(source: Path, tmp_path: Path) -> None:
    for index in range(50):
        (source / f"{index}.yaml").write_text("x" * index)
    expected, found = digest(source), []
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        found.append(freeze(source, tmp_path / "sweep", expected))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tmp_path / f"sweep/conf-{expected}"] * 8
    assert list((tmp_path / "sweep").iterdir()) == found[:1]
    assert digest(found[0]) == expected
